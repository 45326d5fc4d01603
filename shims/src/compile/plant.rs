//! What goes into a layer of the root's overlay before there is one: the upper directory, or a layer that environments share
//! ([`crate::skeleton`]).
//!
//! Through an overlay, the first file made in `/etc` copies that directory up, and each file that is replaced leaves a
//! whiteout behind: 0.1 ms for the account files alone. Put into the upper directory beforehand they cost a fifth of that,
//! and the result is the same wherever nothing but plain directories of our own are on the way. All else is left to
//! [`Compiler::mount`].

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use envd_init::program::{Operation, Slot};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::{Compiler, MOUNT_POINT, c_path};
use crate::{
    error::{LaunchError, SetupError},
    plan::{Mount, Plan},
    skeleton::{Planted, Thing},
};

impl Compiler<'_> {
    /// Plants what can be, in the order of the plan; tells for each mount whether it is done with.
    pub(super) fn plant(&mut self, lower: &Path, upper: Slot) -> Result<Vec<Done>, LaunchError> {
        let (things, planted) = bed(self.plan, lower);
        for Planted {
            path,
            thing,
            target,
        } in &things
        {
            let (parent, path) = (upper, c_path(path)?);
            let points_to;
            let operation = match thing {
                Thing::Directory(mode) => Operation::MakeDirectory {
                    parent,
                    path: &path,
                    mode: *mode,
                },
                Thing::File(mode, content) => Operation::MakeFile {
                    parent,
                    path: &path,
                    mode: *mode,
                    content: content.as_bytes(),
                },
                Thing::Link(to) => {
                    points_to = c_path(to)?;
                    Operation::MakeLink {
                        parent,
                        path: &path,
                        points_to: &points_to,
                    }
                }
            };
            let origin = SetupError::Write {
                target: target.clone(),
                source: crate::Errno(0),
            };
            self.push(operation, origin);
        }
        Ok(planted)
    }
}

/// How much of a mount is in a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    /// At most a place for it.
    Nothing,
    /// What it consists of; something is to be mounted on that.
    Laid,
    /// It is done with.
    All,
}

/// What of a plan can be put into a layer over its root, in order; and how much of each of its mounts is done with then.
pub(crate) fn bed(plan: &Plan, lower: &Path) -> (Vec<Planted>, Vec<Done>) {
    let mut planted = Vec::with_capacity(plan.mounts.len());
    let mut things = Vec::new();
    // A root that cannot be opened is said when it is needed.
    if let Ok(lower) = open_directory(rustix::fs::CWD, lower) {
        let mut bed = Bed {
            lower,
            recorded: plan.privileges.record_ownership,
            things,
            made: BTreeSet::new(),
        };
        // Below these the layer will not be what is seen.
        let mut covered: Vec<&Path> = Vec::new();
        for mount in &plan.mounts {
            let target = mount.target();
            let done = if covered.iter().any(|above| target.starts_with(above)) {
                Done::Nothing
            } else {
                match bed.put(mount) {
                    Ok(done) => done,
                    // Where a link leads to is not known here, and so not what it covers.
                    Err(Errno::LOOP | Errno::NOTDIR) => break,
                    Err(_) => Done::Nothing,
                }
            };
            if done != Done::All {
                covered.push(target);
            }
            planted.push(done);
        }
        things = bed.things;
    }
    planted.resize(plan.mounts.len(), Done::Nothing);
    (things, planted)
}

struct Bed {
    lower: OwnedFd,
    /// What is written to the root itself is noted, and so nothing else is to be in it.
    recorded: bool,
    things: Vec<Planted>,
    /// What is among them by now.
    made: BTreeSet<PathBuf>,
}

impl Bed {
    /// How much of the mount is done with. A place that something is to be mounted on is made.
    fn put(&mut self, mount: &Mount) -> Result<Done, Errno> {
        let target = mount.target();
        match mount {
            Mount::File { content, mode, .. } => {
                let path = self.free(target)?;
                self.push(Thing::File(*mode, content.clone()), target, path);
                Ok(Done::All)
            }
            Mount::Symlink { points_to, .. } => {
                let path = self.free(target)?;
                self.push(Thing::Link(points_to.clone()), target, path);
                Ok(Done::All)
            }
            Mount::Directory { mode, .. } => {
                if self.lower_has(target)? {
                    return Ok(Done::Nothing);
                }
                self.make_directory(target, *mode)?;
                Ok(Done::All)
            }
            // The upper directory is in a tmpfs itself: where nothing of the root is to be hidden, a directory in it is one.
            Mount::Tmpfs {
                mode, size: None, ..
            } if self.is_free(target)? => {
                self.make_directory(target, *mode)?;
                Ok(Done::All)
            }
            Mount::Devices { .. } if self.is_free(target)? => {
                self.make_directory(target, MOUNT_POINT)?;
                let relative = target.strip_prefix("/").map_err(|_| Errno::INVAL)?;
                for (name, thing) in super::devices::parts() {
                    self.push(thing, &target.join(name), relative.join(name));
                }
                Ok(Done::Laid)
            }
            Mount::Tmpfs { .. }
            | Mount::Scratch { .. }
            | Mount::Overlay { .. }
            | Mount::Proc { .. }
            | Mount::Devices { .. }
            | Mount::Nodes { .. } => {
                if !self.lower_has(target)? {
                    self.make_directory(target, MOUNT_POINT)?;
                }
                Ok(Done::Nothing)
            }
            // May be a file, or nothing at all, and then its place is made when that is known; but it must not lie behind a
            // link.
            Mount::Bind { source, .. } => {
                if !self.lower_has(target)? && source.is_dir() {
                    self.make_directory(target, MOUNT_POINT)?;
                }
                Ok(Done::Nothing)
            }
        }
    }

    fn push(&mut self, thing: Thing, target: &Path, path: PathBuf) {
        self.made.insert(path.clone());
        let target = target.to_owned();
        self.things.push(Planted {
            path,
            thing,
            target,
        });
    }

    fn lower_has(&self, target: &Path) -> Result<bool, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let relative = target.strip_prefix("/").map_err(|_| Errno::INVAL)?;
        let found = if relative.components().nth(1).is_none() {
            rustix::fs::statat(&self.lower, relative, AtFlags::SYMLINK_NOFOLLOW)
        } else {
            rustix::fs::openat2(&self.lower, relative, flags, Mode::empty(), resolve)
                .and_then(rustix::fs::fstat)
        };
        match found {
            Ok(stat) if file_type(&stat) == FileType::Symlink => Err(Errno::LOOP),
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether what is mounted there may be a directory of the layer instead: the lower directory has nothing there, or nothing in
    /// it.
    fn is_free(&self, target: &Path) -> Result<bool, Errno> {
        if self.recorded {
            return Ok(false);
        }
        if !self.lower_has(target)? {
            return Ok(true);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let relative = target.strip_prefix("/").map_err(|_| Errno::INVAL)?;
        let directory = rustix::fs::openat2(&self.lower, relative, flags, Mode::empty(), resolve)?;
        for entry in rustix::fs::Dir::new(directory)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn make_directory(&mut self, target: &Path, mode: u32) -> Result<(), Errno> {
        let path = self.parents(target)?;
        if self.made.contains(&path) {
            return Err(Errno::EXIST);
        }
        self.push(Thing::Directory(mode), target, path);
        Ok(())
    }

    /// A path for a new file or link: its parents are made, and no directory is in its place, which it would hide. The plan
    /// is wrong then, and whoever carries it out will say so.
    fn free(&mut self, target: &Path) -> Result<PathBuf, Errno> {
        let path = self.parents(target)?;
        if self.made.contains(&path) {
            return Err(Errno::EXIST);
        }
        match rustix::fs::statat(&self.lower, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if file_type(&stat) == FileType::Directory => Err(Errno::ISDIR),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(path),
            Err(error) => Err(error),
        }
    }

    /// Makes the directories that `target` lies in, as copies of the lower ones where those are there; gives the path
    /// relative to the upper directory.
    fn parents(&mut self, target: &Path) -> Result<PathBuf, Errno> {
        let name = target.file_name().ok_or(Errno::INVAL)?;
        let parent = target.parent().ok_or(Errno::INVAL)?;
        let mut path = PathBuf::new();
        let mut lower = Some(open_directory(&self.lower, Path::new("."))?);
        for component in parent.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            lower = match lower {
                None => None,
                Some(lower) => match open_directory(&lower, Path::new(name)) {
                    Err(Errno::NOENT) => None,
                    other => Some(other?),
                },
            };
            path.push(name);
            if self.made.contains(&path) {
                continue;
            }
            let mode = match &lower {
                Some(lower) => plain_mode(lower.as_fd())?,
                None => MOUNT_POINT,
            };
            self.push(Thing::Directory(mode), parent, path.clone());
        }
        path.push(name);
        Ok(path)
    }
}

fn open_directory(parent: impl AsFd, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The mode of a lower directory that a new one of that mode is a faithful copy of. Any other is left to the overlay.
fn plain_mode(lower: BorrowedFd<'_>) -> Result<u32, Errno> {
    let stat = rustix::fs::fstat(lower)?;
    let own = stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_gid == rustix::process::getegid().as_raw();
    let special = stat.st_mode & 0o6000 != 0;
    let mut no_names: [u8; 0] = [];
    let attributes = match rustix::fs::flistxattr(lower, &mut no_names) {
        Ok(length) => length > 0,
        Err(Errno::OPNOTSUPP) => false,
        Err(error) => return Err(error),
    };
    if !own || special || attributes {
        return Err(Errno::OPNOTSUPP);
    }
    Ok(stat.st_mode & 0o7777)
}
