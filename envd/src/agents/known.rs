//! What the last environment stands on, which is what the next one does as long as no file has changed that it comes from.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use envd_agents::service::environment::{Network, Source};
use rustix::fs::{AtFlags, CWD, statat};

use super::live::Ground;
use crate::environment::git::{self, Linked};

/// Files of the machine that a plan depends on.
const MACHINE: [&str; 5] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/localtime",
    "/etc/passwd",
    "/etc/group",
];
/// Files of a project that its environment depends on.
const PROJECT: [&str; 2] = ["envd.toml", "envd.lock"];

/// A file, links followed: another one in its place, or other bytes in it, show.
type Mark = (u64, u64, i64, i64, u64, i64, u64);

fn mark(path: &Path) -> Option<Mark> {
    let found = statat(CWD, path, AtFlags::empty()).ok()?;
    Some((
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime,
        found.st_mtime_nsec,
        found.st_ctime,
        found.st_ctime_nsec,
    ))
}

/// What an environment was asked for, and what there was then.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wanted {
    from: Source,
    project: Option<PathBuf>,
    network: Network,
    marks: Vec<Option<Mark>>,
    /// Where the project's repository is, if that is elsewhere: it depends on directories that others may write to.
    pub(super) linked: Option<Linked>,
    name: String,
}

impl Wanted {
    /// Looks at the files; to be done before any of them is read.
    pub(super) fn now(from: &Source, project: Option<&Path>, network: &Network) -> Self {
        let own = PROJECT
            .iter()
            .filter_map(|name| Some(mark(&project?.join(name))));
        let machine = MACHINE.iter().map(|path| mark(Path::new(path)));
        Self {
            from: from.clone(),
            project: project.map(Path::to_owned),
            network: network.clone(),
            marks: machine.chain(own).collect(),
            linked: project.and_then(git::linked),
            name: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        }
    }
}

/// The last one.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<(Wanted, Arc<Ground>)>>);

impl Known {
    fn last(&self) -> MutexGuard<'_, Option<(Wanted, Arc<Ground>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was made of the same.
    pub(super) fn get(&self, wanted: &Wanted) -> Option<Arc<Ground>> {
        let last = self.last();
        let (known, ground) = last.as_ref()?;
        (known == wanted).then(|| ground.clone())
    }

    /// Remembers it.
    pub(super) fn put(&self, wanted: Wanted, ground: &Arc<Ground>) {
        *self.last() = Some((wanted, ground.clone()));
    }

    /// Lets go of it, and so of the view that it holds.
    pub(super) fn forget(&self) {
        self.last().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project's lock may be a link, as `/etc/resolv.conf` often is: what changes is behind it.
    #[test]
    fn a_file_behind_a_link_that_changes_shows() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(mark(&link), None);
        std::fs::write(&file, "one").unwrap();
        let before = mark(&link);
        assert!(before.is_some());
        assert_eq!(mark(&link), before);
        std::fs::write(&file, "longer").unwrap();
        assert_ne!(mark(&link), before);
        let longer = mark(&link);
        let other = directory.path().join("other");
        std::fs::write(&other, "longer").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert_ne!(mark(&link), longer);
    }

    /// What an environment's plan has of a repository is by way of the project's file `.git`.
    #[test]
    fn a_project_that_is_linked_elsewhere_shows_and_its_own_repository_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let above = std::fs::canonicalize(directory.path()).unwrap();
        let project = above.join("project");
        let now = || Wanted::now(&Source::Project, Some(&project), &Network::None);
        let git = project.join(".git");
        std::fs::create_dir_all(&git).unwrap();
        let own = now();
        std::fs::write(git.join("index"), "").unwrap();
        assert_eq!(now(), own);
        std::fs::remove_dir_all(&git).unwrap();
        for name in ["one", "another"] {
            let repository = above.join(name);
            std::fs::create_dir_all(repository.join("objects")).unwrap();
            std::fs::write(repository.join("HEAD"), "ref: refs/heads/main\n").unwrap();
            let config = "[core]\n\tworktree = ../project\n";
            std::fs::write(repository.join("config"), config).unwrap();
        }
        std::fs::write(&git, "gitdir: ../one\n").unwrap();
        let before = now();
        assert_ne!(before, own);
        std::fs::write(&git, "gitdir: ../another\n").unwrap();
        assert_ne!(now(), before);
        std::fs::write(&git, "gitdir: ../one\n").unwrap();
        assert_eq!(now(), before);
        std::fs::rename(above.join("one"), above.join("away")).unwrap();
        std::os::unix::fs::symlink("another", above.join("one")).unwrap();
        assert_ne!(now(), before);
    }
}
