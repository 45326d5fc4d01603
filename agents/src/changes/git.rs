//! What files were when the session began, from the commit that was checked out then.

use std::{
    ffi::OsString,
    io::Read,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use envd_store::TreePath;
use serde::{Deserialize, Serialize};

use super::{BaseContent, BaseState};

/// A commit of the repository around a project. Its contents are read by `git cat-file`, which runs no hook and no filter, with
/// the configuration of the repository alone and without a network.
///
/// What was not committed when the session began is not in it; a merge then sees those lines as changed on both sides alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GitBase {
    program: PathBuf,
    project: PathBuf,
    commit: String,
}

impl GitBase {
    /// The commit that is checked out in `project` now. `None` where there is no repository, no commit, or no git.
    ///
    /// `program` is git's own absolute path. Must be taken when the session begins: a later commit holds what the owner did since.
    pub fn of_head(program: &Path, project: &Path) -> Option<Self> {
        let words = ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"];
        let output = run(program, project, words.map(OsString::from), 100)?;
        let commit = String::from_utf8(output).ok()?.trim().to_owned();
        let is_name =
            matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit());
        is_name.then(|| Self {
            program: program.to_owned(),
            project: project.to_owned(),
            commit,
        })
    }

    fn run(&self, words: impl IntoIterator<Item = OsString>, limit: u64) -> Option<Vec<u8>> {
        run(&self.program, &self.project, words, limit)
    }

    fn object(&self, path: &TreePath) -> OsString {
        // "./" makes it relative to the project, which may lie within the repository.
        let name = [self.commit.as_bytes(), b":./", path.as_bytes()].concat();
        OsString::from_vec(name)
    }
}

impl BaseContent for GitBase {
    fn content(&self, path: &TreePath, limit: u64) -> BaseState {
        let ask = |words: [&str; 2]| {
            let words = words.map(OsString::from).into_iter();
            self.run(words.chain([self.object(path)]), limit)
        };
        if let Some(content) = ask(["cat-file", "blob"]) {
            return BaseState::File(content);
        }
        // Whether the commit can be read at all, so that "no such file" means that.
        let commit = OsString::from(&self.commit);
        let there = [OsString::from("cat-file"), OsString::from("-e"), commit];
        match (self.run(there, 0), ask(["cat-file", "-e"])) {
            (Some(_), None) => BaseState::Absent,
            _ => BaseState::Unknown,
        }
    }
}

/// What git prints, if it succeeds and prints no more than `limit` bytes.
fn run(
    program: &Path,
    project: &Path,
    words: impl IntoIterator<Item = OsString>,
    limit: u64,
) -> Option<Vec<u8>> {
    let mut child = command(program, project).args(words).spawn().ok()?;
    let output = read(&mut child, limit);
    if output.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    output.filter(|_| status.success())
}

fn read(child: &mut Child, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let output = child.stdout.as_mut()?;
    output
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

/// Git with the configuration of the repository alone, without hooks, helpers and a network.
pub(super) fn command(program: &Path, project: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "")
        .env("GIT_COMMITTER_NAME", "envd")
        .env("GIT_COMMITTER_EMAIL", "envd@localhost")
        .env("LC_ALL", "C")
        .arg("-C")
        .arg(project)
        .args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.bigFileThreshold=64m",
            "-c",
            "core.alternateRefsCommand=true",
        ])
        .args(["--no-pager", "--literal-pathspecs"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}
