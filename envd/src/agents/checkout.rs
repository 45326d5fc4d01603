//! The commit that a project was at when its environment began, for three-way merges. Looked up beside everything else: an
//! environment does not wait for git.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use envd_agents::changes::{BaseContent, BaseState, GitBase};
use envd_store::TreePath;

/// Where git is looked for. Not in the caller's PATH, which may lead into the project.
const PROGRAMS: [&str; 2] = ["/usr/bin/git", "/usr/local/bin/git"];

/// This machine's git, if it has one.
pub(super) fn program() -> Option<&'static Path> {
    let paths = PROGRAMS.map(Path::new);
    paths.into_iter().find(|path| path.exists())
}

/// The commit, once it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkout(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    Asking(JoinHandle<Option<GitBase>>),
    Known(GitBase),
}

impl Checkout {
    /// Of a project, now.
    pub(super) fn of(project: Option<&Path>) -> Self {
        let repository = project.filter(|project| project.join(".git").exists());
        let (Some(project), Some(program)) = (repository, program()) else {
            return Self::default();
        };
        let project = project.to_owned();
        let asking = std::thread::spawn(move || GitBase::of_head(program, &project));
        Self(Arc::new(Mutex::new(State::Asking(asking))))
    }
}

impl BaseContent for Checkout {
    fn content(&self, path: &TreePath, limit: u64) -> BaseState {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = match std::mem::take(&mut *state) {
            State::Asking(asking) => match asking.join() {
                Ok(Some(base)) => State::Known(base),
                _ => State::Unknown,
            },
            known => known,
        };
        match &*state {
            State::Known(base) => base.content(path, limit),
            _ => BaseState::Unknown,
        }
    }
}
