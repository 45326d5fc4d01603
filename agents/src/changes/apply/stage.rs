//! New files, made ready beside the project's own.
//!
//! They lie in one directory at the top of the project, on its file system, that nobody but its owner can enter. One and not
//! many: what a crash leaves is in one place, under a name that says whose it is.

use std::{
    ffi::{CStr, CString},
    fmt::Write as _,
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
};

use envd_store::{Hasher, TreePath};
use rustix::{
    fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps},
    io::Errno,
};

use super::{ApplyError, Node, Step};
use crate::changes::{
    Change, ChangeKind, Changes, Layers, State, beneath::Directory, escape::Shown,
    remove::remove_tree,
};

/// How the directory's name begins.
const PREFIX: &str = ".envd-apply-";

pub(super) struct Stage {
    pub(super) name: String,
    pub(super) directory: Directory,
}

impl Stage {
    pub(super) fn make(project: &Directory) -> Result<Self, ApplyError> {
        let mut random = [0; 8];
        let name = |random: [u8; 8]| format!("{PREFIX}{:016x}", u64::from_ne_bytes(random));
        let failed = |step, name: &str, error: Errno| ApplyError::Stages {
            step,
            name: name.to_owned(),
            source: error.into(),
        };
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| failed("name", PREFIX, error))?;
        let name = name(random);
        rustix::fs::mkdirat(project, &*name, Mode::RWXU)
            .map_err(|error| failed("make", &name, error))?;
        let path = TreePath::new(name.as_bytes()).ok();
        match project.below(path.as_ref()) {
            Ok(directory) => Ok(Self { name, directory }),
            Err(error) => {
                let _ = rustix::fs::unlinkat(project, &*name, AtFlags::REMOVEDIR);
                Err(failed("open", &name, error))
            }
        }
    }

    /// Makes ready all that is to be put.
    pub(super) fn fill(
        &self,
        layers: &Layers,
        changes: &Changes,
        steps: &[Step],
        durable: bool,
    ) -> Result<(), ApplyError> {
        self.explain(steps).map_err(|error| ApplyError::Stages {
            step: "write into",
            name: self.name.clone(),
            source: error,
        })?;
        let owner = rustix::fs::fstat(&layers.project).ok();
        let mut buffer = vec![0; 128 * 1024];
        for (at, step) in steps.iter().enumerate() {
            let Step::Put { path, node, .. } = step else {
                continue;
            };
            let failed = |(step, source): (&'static str, io::Error)| ApplyError::Stage {
                step,
                path: path.clone(),
                source,
            };
            let name = new(at);
            match node {
                Node::Link { target } => {
                    rustix::fs::symlinkat(&target[..], &self.directory, &*name)
                        .map_err(|error| failed(("make ready", error.into())))?;
                    self.give(&name, owner.as_ref());
                }
                Node::File { change, mode } => {
                    let change = &changes.entries[*change];
                    let file = self
                        .create(&name)
                        .map_err(|error| failed(("make ready", error.into())))?;
                    copy(layers, change, &file, &mut buffer).map_err(failed)?;
                    self.finish(&file, Some(change), *mode, layers, owner.as_ref())
                        .map_err(|error| failed(("set the permissions of", error.into())))?;
                }
                Node::Merged { text, mode } => {
                    let mut file = self
                        .create(&name)
                        .map_err(|error| failed(("make ready", error.into())))?;
                    file.write_all(text)
                        .map_err(|error| failed(("write", error)))?;
                    self.finish(&file, changes.get(path), *mode, layers, owner.as_ref())
                        .map_err(|error| failed(("set the permissions of", error.into())))?;
                }
            }
        }
        if durable && steps.iter().any(|step| matches!(step, Step::Put { .. })) {
            rustix::fs::syncfs(&self.directory).map_err(|error| ApplyError::Stages {
                step: "write to the disk",
                name: self.name.clone(),
                source: error.into(),
            })?;
        }
        Ok(())
    }

    /// Says what is what, for whoever finds the directory after a crash. Nothing of ours reads it: what lies in a project is no
    /// order to us.
    fn explain(&self, steps: &[Step]) -> io::Result<()> {
        let mut text = String::from(
            "Changes were being applied here and were cut short. A file named old- was at the path beside it; so was, where\n\
             it is not what was to be put there, one named new-.\n",
        );
        for (at, step) in steps.iter().enumerate() {
            let _ = match step {
                Step::Remove { path, .. } => writeln!(text, "old-{at} {}", Shown(path)),
                Step::Put { path, .. } => writeln!(text, "new-{at} old-{at} {}", Shown(path)),
                _ => continue,
            };
        }
        self.create(c"README")?.write_all(text.as_bytes())
    }

    fn create(&self, name: &CStr) -> Result<File, Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::openat(&self.directory, name, flags, mode).map(File::from)
    }

    /// Gives a new file its owner, mode and times.
    fn finish(
        &self,
        file: &File,
        change: Option<&Change>,
        mode: u16,
        layers: &Layers,
        top: Option<&Stat>,
    ) -> Result<(), Errno> {
        let before = change
            .filter(|change| change.old.is_some())
            .and_then(|change| layers.project.look(change.path.as_bytes()).ok().flatten());
        let owner = before.as_ref().map(|found| &found.stat).or(top);
        if let Some(owner) = owner {
            let own = rustix::fs::fstat(file)?;
            if (own.st_uid, own.st_gid) != (owner.st_uid, owner.st_gid) {
                let (uid, gid) = ids(owner);
                // Only root can give a file away; a group is another matter. The owner of the project does as they can.
                if rustix::fs::fchown(file, Some(uid), Some(gid)).is_err() {
                    let _ = rustix::fs::fchown(file, None, Some(gid));
                }
            }
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode((mode & 0o777).into()))?;
        // A file with another mode and the same content is not newer than what was made from it.
        if let Some(Change {
            kind: ChangeKind::ModeChanged,
            old: Some(State { stamp, .. }),
            ..
        }) = change
        {
            let time = Timespec {
                tv_sec: stamp.content.0,
                tv_nsec: stamp.content.1.into(),
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::futimens(file, &times)?;
        }
        Ok(())
    }

    /// Gives a link to the project's owner, as far as we can.
    fn give(&self, name: &CStr, owner: Option<&Stat>) {
        if let Some(owner) = owner {
            let (uid, gid) = ids(owner);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let _ = rustix::fs::chownat(&self.directory, name, Some(uid), Some(gid), flags);
        }
    }

    /// Removes it with all that is left in it. What could not be removed is named.
    pub(super) fn discard(self, project: &Directory) -> Option<String> {
        let name = CString::new(self.name.as_str()).unwrap_or_default();
        remove_tree(project.as_fd(), &name).err().map(|_| self.name)
    }
}

pub(super) fn ids(stat: &Stat) -> (rustix::fs::Uid, rustix::fs::Gid) {
    (
        rustix::fs::Uid::from_raw(stat.st_uid),
        rustix::fs::Gid::from_raw(stat.st_gid),
    )
}

/// The name of what a step puts.
pub(super) fn new(step: usize) -> CString {
    CString::new(format!("new-{step}")).unwrap_or_default()
}

/// The name of what a step took away.
pub(super) fn old(step: usize) -> CString {
    CString::new(format!("old-{step}")).unwrap_or_default()
}

/// Copies the session's file, if it is still the one that was judged.
fn copy(
    layers: &Layers,
    change: &Change,
    mut to: &File,
    buffer: &mut [u8],
) -> Result<(), (&'static str, io::Error)> {
    let stale = || {
        let text = "the session has changed it since the changes were looked at; look again";
        ("take", io::Error::other(text))
    };
    let state = change.new.as_ref().ok_or_else(stale)?;
    let layer = change.layer.ok_or_else(stale)?;
    let found = layers
        .find(layer, &change.path)
        .map_err(|error| ("open", error.into()))?
        .ok_or_else(stale)?;
    let file = match found.read() {
        // It is no file any more.
        Err(Errno::INVAL) => return Err(stale()),
        file => file.map_err(|error| ("open", error.into()))?,
    };
    // One byte more than expected, so that a longer file shows.
    let mut from = file.take(state.size.saturating_add(1));
    let mut hasher = Hasher::default();
    loop {
        let count = match from.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(("read", error)),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])
            .map_err(|error| ("write", error))?;
    }
    let (digest, size) = hasher.finish();
    if size != state.size || Some(digest) != state.digest {
        return Err(stale());
    }
    Ok(())
}
