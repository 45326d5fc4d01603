//! Renaming what is staged into its places, and back when something fails.
//!
//! Every rename is between two directories that were opened beneath the project, without a link on the way. Nothing is
//! overwritten: what is replaced is exchanged, and looked at once more when it is in our hands; were it something else than
//! what was judged, it would go back.

use std::{ffi::CStr, io};

use envd_store::TreePath;
use rustix::{
    fs::{AtFlags, FileType, Mode, RenameFlags, Stat, linkat, mkdirat, renameat_with, unlinkat},
    io::Errno,
};

use super::{
    Applied, ApplyError, Step,
    stage::{self, Stage},
};
use crate::changes::{
    Changes, Layers, Stamp,
    beneath::{Directory, c_name},
    escape::Shown,
};

pub(super) fn commit(
    layers: &Layers,
    changes: &Changes,
    steps: &[Step],
    durable: bool,
) -> Result<Applied, ApplyError> {
    if steps.is_empty() {
        return Ok(Applied::default());
    }
    let stage = Stage::make(&layers.project)?;
    if let Err(error) = stage.fill(layers, changes, steps, durable) {
        stage.discard(&layers.project);
        return Err(error);
    }
    let mut transaction = Transaction {
        project: &layers.project,
        stage: &stage,
        done: Vec::new(),
        parent: None,
    };
    for (at, step) in steps.iter().enumerate() {
        if let Err((action, source)) = transaction.take(at, step) {
            let path = step.path().clone();
            let lost = transaction.undo();
            if lost.is_empty() {
                stage.discard(&layers.project);
                return Err(ApplyError::Undone {
                    step: action,
                    path,
                    source,
                });
            }
            return Err(ApplyError::Torn {
                step: action,
                path,
                source,
                lost,
                stage: stage.name,
            });
        }
    }
    let leftover = stage.discard(&layers.project);
    Ok(Applied {
        leftover,
        stamps: stamps(&layers.project, steps),
        top: rustix::fs::fstat(&layers.project)
            .ok()
            .map(|stat| Stamp::of(&stat)),
        ..Applied::default()
    })
}

/// What is now where something was put, and the directories around it.
fn stamps(project: &Directory, steps: &[Step]) -> Vec<(TreePath, Stamp)> {
    let mut paths: Vec<TreePath> = Vec::new();
    for step in steps {
        paths.push(step.path().clone());
        paths.extend(step.path().parent());
    }
    paths.sort();
    paths.dedup();
    let stamp = |path: TreePath| {
        let found = project.look(path.as_bytes()).ok()??;
        Some((path, Stamp::of(&found.stat)))
    };
    paths.into_iter().filter_map(stamp).collect()
}

impl Step {
    pub(super) fn path(&self) -> &TreePath {
        match self {
            Step::Remove { path, .. }
            | Step::RemoveDirectory { path }
            | Step::MakeDirectory { path }
            | Step::Put { path, .. }
            | Step::SetMode { path, .. } => path,
        }
    }
}

/// Something done, and by which step.
enum Done {
    /// The project's thing is in the stage as `old-N`.
    Away(usize, TreePath),
    /// A directory with these properties is gone.
    DirectoryAway(TreePath, Stat),
    /// There is a directory where nothing was.
    DirectoryMade(TreePath),
    /// `new-N` is in the project, where nothing was.
    Put(usize, TreePath),
    /// `new-N` and the project's thing have changed places.
    Exchanged(usize, TreePath),
    /// A directory had these permissions.
    Mode(TreePath, u16),
}

/// A step that failed: what it tried, and the system's answer.
type Failed = (&'static str, io::Error);

struct Transaction<'a> {
    project: &'a Directory,
    stage: &'a Stage,
    done: Vec<Done>,
    /// The directory last used.
    parent: Option<(Option<TreePath>, Directory)>,
}

impl Transaction<'_> {
    fn take(&mut self, at: usize, step: &Step) -> Result<(), Failed> {
        let failed = |action: &'static str| move |error: Errno| (action, explained(error));
        match step {
            Step::Remove { path, stamp } => self.away(at, path, stamp).map_err(failed("remove")),
            Step::RemoveDirectory { path } => {
                let remove = failed("remove the directory");
                let found = self.project.look(path.as_bytes()).map_err(remove)?;
                let found = found.ok_or(Errno::NOENT).map_err(remove)?;
                unlinkat(
                    self.parent(path).map_err(remove)?,
                    &*c_name(path),
                    AtFlags::REMOVEDIR,
                )
                .map_err(remove)?;
                self.done
                    .push(Done::DirectoryAway(path.clone(), found.stat));
                Ok(())
            }
            Step::MakeDirectory { path } => self.make(path).map_err(failed("make the directory")),
            Step::Put {
                path,
                replaces: None,
                ..
            } => self.put(at, path).map_err(failed("put")),
            Step::Put {
                path,
                replaces: Some(stamp),
                ..
            } => self.exchange(at, path, stamp).map_err(failed("replace")),
            Step::SetMode { path, mode } => self
                .set_mode(path, *mode)
                .map_err(failed("set the permissions of")),
        }
    }

    /// The directory a path is in.
    fn parent(&mut self, path: &TreePath) -> Result<&Directory, Errno> {
        let wanted = path.parent();
        if self
            .parent
            .as_ref()
            .is_none_or(|(known, _)| *known != wanted)
        {
            let directory = self.project.below(wanted.as_ref())?;
            self.parent = Some((wanted, directory));
        }
        match &self.parent {
            Some((_, directory)) => Ok(directory),
            None => Err(Errno::NOENT),
        }
    }

    fn away(&mut self, at: usize, path: &TreePath, stamp: &Stamp) -> Result<(), Errno> {
        let stage = &self.stage.directory;
        let old = stage::old(at);
        renameat_with(
            self.parent(path)?,
            &*c_name(path),
            stage,
            &*old,
            RenameFlags::NOREPLACE,
        )
        .or_else(|error| match error {
            // The name in our own directory is free.
            Errno::INVAL | Errno::NOSYS => {
                rustix::fs::renameat(self.parent(path)?, &*c_name(path), stage, &*old)
            }
            error => Err(error),
        })?;
        self.done.push(Done::Away(at, path.clone()));
        self.is(&old, stamp)
    }

    /// Whether what was taken from the project is what was judged.
    fn is(&self, name: &CStr, stamp: &Stamp) -> Result<(), Errno> {
        match self.stage.directory.look(name.to_bytes())? {
            Some(found) if Stamp::of(&found.stat).same_content(stamp) => Ok(()),
            // It has changed meanwhile.
            _ => Err(Errno::STALE),
        }
    }

    fn make(&mut self, path: &TreePath) -> Result<(), Errno> {
        let top = rustix::fs::fstat(self.project)?;
        let parent = self.parent(path)?;
        mkdirat(parent, &*c_name(path), Mode::RWXU)?;
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = stage::ids(&top);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let _ = rustix::fs::chownat(parent, &*c_name(path), Some(uid), Some(gid), flags);
        }
        self.done.push(Done::DirectoryMade(path.clone()));
        Ok(())
    }

    fn put(&mut self, at: usize, path: &TreePath) -> Result<(), Errno> {
        let stage = &self.stage.directory;
        let new = stage::new(at);
        move_to_nothing(stage, &new, self.parent(path)?, &c_name(path))?;
        self.done.push(Done::Put(at, path.clone()));
        Ok(())
    }

    fn exchange(&mut self, at: usize, path: &TreePath, stamp: &Stamp) -> Result<(), Errno> {
        let stage = &self.stage.directory;
        let new = stage::new(at);
        match renameat_with(
            stage,
            &*new,
            self.parent(path)?,
            &*c_name(path),
            RenameFlags::EXCHANGE,
        ) {
            Ok(()) => {
                self.done.push(Done::Exchanged(at, path.clone()));
                self.is(&new, stamp)
            }
            // A file system that cannot exchange: for a moment there is nothing.
            Err(Errno::INVAL | Errno::NOSYS) => {
                self.away(at, path, stamp)?;
                self.put(at, path)
            }
            Err(error) => Err(error),
        }
    }

    fn set_mode(&mut self, path: &TreePath, mode: u16) -> Result<(), Errno> {
        let found = self.project.look(path.as_bytes())?.ok_or(Errno::NOENT)?;
        if found.kind() != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let before = (found.stat.st_mode & 0o7777) as u16;
        let after = mode | before & 0o2000;
        if after != before {
            found.set_mode(after)?;
            self.done.push(Done::Mode(path.clone(), before));
        }
        Ok(())
    }

    /// Puts everything back, the last first; gives what could not be.
    fn undo(&mut self) -> Vec<String> {
        let mut lost = Vec::new();
        while let Some(done) = self.done.pop() {
            if let Err((path, error)) = self.undo_one(done) {
                let error = io::Error::from(error);
                lost.push(format!("{}: {error}", Shown(&path)));
            }
        }
        lost
    }

    fn undo_one(&mut self, done: Done) -> Result<(), (TreePath, Errno)> {
        let stage = &self.stage.directory;
        match done {
            Done::Away(at, path) => self
                .parent(&path)
                .and_then(|parent| move_to_nothing(stage, &stage::old(at), parent, &c_name(&path)))
                .map_err(|error| (path, error)),
            Done::DirectoryAway(path, stat) => {
                self.remake(&path, &stat).map_err(|error| (path, error))
            }
            Done::DirectoryMade(path) => self
                .parent(&path)
                .and_then(|parent| unlinkat(parent, &*c_name(&path), AtFlags::REMOVEDIR))
                .map_err(|error| (path, error)),
            Done::Put(at, path) => self
                .parent(&path)
                .and_then(|parent| move_to_nothing(parent, &c_name(&path), stage, &stage::new(at)))
                .map_err(|error| (path, error)),
            Done::Exchanged(at, path) => self
                .parent(&path)
                .and_then(|parent| {
                    let new = stage::new(at);
                    renameat_with(stage, &*new, parent, &*c_name(&path), RenameFlags::EXCHANGE)
                })
                .map_err(|error| (path, error)),
            Done::Mode(path, mode) => self
                .project
                .look(path.as_bytes())
                .and_then(|found| found.ok_or(Errno::NOENT)?.set_mode(mode))
                .map_err(|error| (path, error)),
        }
    }

    fn remake(&mut self, path: &TreePath, stat: &Stat) -> Result<(), Errno> {
        let parent = self.parent(path)?;
        mkdirat(parent, &*c_name(path), Mode::RWXU)?;
        let (uid, gid) = stage::ids(stat);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let _ = rustix::fs::chownat(parent, &*c_name(path), Some(uid), Some(gid), flags);
        let made = self.project.look(path.as_bytes())?.ok_or(Errno::NOENT)?;
        made.set_mode((stat.st_mode & 0o7777) as u16)
    }
}

/// The system's answer, or ours.
fn explained(error: Errno) -> io::Error {
    match error {
        Errno::STALE => io::Error::other("it has changed in the project meanwhile; look again"),
        error => error.into(),
    }
}

/// Moves something to where nothing is.
fn move_to_nothing(
    from: &Directory,
    name: &CStr,
    to: &Directory,
    new_name: &CStr,
) -> Result<(), Errno> {
    match renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        // A file system without that flag: a second name, which is never put over anything, then one name less.
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(from, name, to, new_name, AtFlags::empty())?;
            unlinkat(from, name, AtFlags::empty())
        }
        moved => moved,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use tempfile::TempDir;

    use super::*;
    use crate::changes::{Chosen, Guard, NoBaseContent, Scope, apply::Node};

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    /// A project with a file, a directory and something in it.
    fn project() -> (TempDir, Layers) {
        let place = tempfile::tempdir().unwrap();
        let project = place.path().join("project");
        fs::create_dir_all(project.join("d/empty")).unwrap();
        fs::write(project.join("a"), "1").unwrap();
        fs::write(project.join("b"), "1").unwrap();
        fs::write(project.join("d/f"), "1").unwrap();
        let layers = Layers::open(Vec::<&Path>::new(), project).unwrap();
        (place, layers)
    }

    fn stamp(layers: &Layers, name: &str) -> Stamp {
        Stamp::of(&layers.project.look(name.as_bytes()).unwrap().unwrap().stat)
    }

    fn put(name: &str, text: &str, replaces: Option<Stamp>) -> Step {
        Step::Put {
            path: path(name),
            node: Node::Merged {
                text: text.as_bytes().to_owned(),
                mode: 0o644,
            },
            replaces,
        }
    }

    fn list(directory: &Path) -> Vec<(String, u32, Option<String>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let name = path.to_string_lossy().into_owned();
            found.push((
                name,
                stat.permissions().mode(),
                fs::read_to_string(&path).ok(),
            ));
            if stat.is_dir() {
                found.extend(list(&path));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn after_a_failure_everything_is_as_it_was() {
        let (place, layers) = project();
        fs::set_permissions(
            place.path().join("project/d/empty"),
            PermissionsExt::from_mode(0o750),
        )
        .unwrap();
        let before = list(place.path());
        let steps = [
            Step::Remove {
                path: path("b"),
                stamp: stamp(&layers, "b"),
            },
            Step::RemoveDirectory {
                path: path("d/empty"),
            },
            Step::MakeDirectory { path: path("n") },
            put("n/f", "2", None),
            put("a", "2", Some(stamp(&layers, "a"))),
            Step::SetMode {
                path: path("d"),
                mode: 0o700,
            },
            put("nowhere/f", "2", None),
        ];
        let error = commit(&layers, &Changes::default(), &steps, true).unwrap_err();
        assert!(
            matches!(&error, ApplyError::Undone { path: at, .. } if *at == path("nowhere/f")),
            "{error:?}"
        );
        assert_eq!(list(place.path()), before);
        commit(&layers, &Changes::default(), &steps[..6], true).unwrap();
        assert_ne!(list(place.path()), before);
    }

    /// The owner would lose what they wrote between the check and the rename.
    #[test]
    fn what_changed_after_the_check_goes_back() {
        let (place, layers) = project();
        let (a, b) = (stamp(&layers, "a"), stamp(&layers, "b"));
        fs::write(place.path().join("project/a"), "owner's").unwrap();
        fs::remove_file(place.path().join("project/b")).unwrap();
        fs::create_dir(place.path().join("project/b")).unwrap();
        fs::write(place.path().join("project/b/new"), "owner's").unwrap();
        let before = list(place.path());
        let remove = |path, stamp| Step::Remove { path, stamp };
        for steps in [
            [put("n", "2", None), put("a", "2", Some(a))],
            [put("n", "2", None), remove(path("a"), a)],
            [put("n", "2", None), remove(path("b"), b)],
            [put("n", "2", None), put("b", "2", Some(b))],
            [put("n", "2", None), put("a", "2", None)],
        ] {
            let error = commit(&layers, &Changes::default(), &steps, false).unwrap_err();
            assert!(matches!(error, ApplyError::Undone { .. }), "{error:?}");
            assert_eq!(list(place.path()), before);
        }
    }

    #[test]
    fn nothing_to_do_leaves_no_trace() {
        let (place, layers) = project();
        let before = list(place.path());
        let changes = layers.changes(&Scope::default()).unwrap();
        let base = crate::changes::Base::now();
        layers
            .apply(
                &changes,
                &Chosen::All,
                &Guard::default(),
                &base,
                &NoBaseContent,
            )
            .unwrap();
        assert_eq!(list(place.path()), before);
    }
}
