//! What goes into the overlay's upper directory before there is an overlay.
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
    plan::Mount,
};

impl Compiler<'_> {
    /// Plants what can be, in the order of the plan; tells for each mount whether it is done with.
    pub(super) fn plant(&mut self, lower: &Path, upper: Slot) -> Result<Vec<bool>, LaunchError> {
        let plan = self.plan;
        let mut planted = Vec::with_capacity(plan.mounts.len());
        // A root that cannot be opened is said when it is needed.
        if let Ok(lower) = open_directory(rustix::fs::CWD, lower) {
            let mut bed = Bed {
                compiler: self,
                lower,
                upper,
                made: BTreeSet::new(),
            };
            // Below these the upper directory will not be what is seen.
            let mut covered: Vec<&Path> = Vec::new();
            for mount in &plan.mounts {
                let target = mount.target();
                let done = if covered.iter().any(|above| target.starts_with(above)) {
                    false
                } else {
                    match bed.put(mount) {
                        Ok(done) => done,
                        // Where a link leads to is not known here, and so not what it covers.
                        Err(Refused::Kernel(Errno::LOOP | Errno::NOTDIR)) => break,
                        Err(Refused::Kernel(_)) => false,
                        Err(Refused::Plan(error)) => return Err(error),
                    }
                };
                if !done {
                    covered.push(target);
                }
                planted.push(done);
            }
        }
        planted.resize(plan.mounts.len(), false);
        Ok(planted)
    }
}

/// Why something is not planted.
enum Refused {
    Kernel(Errno),
    Plan(LaunchError),
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Refused::Kernel(error)
    }
}

impl From<LaunchError> for Refused {
    fn from(error: LaunchError) -> Self {
        Refused::Plan(error)
    }
}

struct Bed<'b, 'p> {
    compiler: &'b mut Compiler<'p>,
    lower: OwnedFd,
    upper: Slot,
    /// What is in the upper directory by now, relative to it.
    made: BTreeSet<PathBuf>,
}

impl Bed<'_, '_> {
    /// Whether the mount is done with. A place that something is to be mounted on is made, and is not.
    fn put(&mut self, mount: &Mount) -> Result<bool, Refused> {
        let target = mount.target();
        match mount {
            Mount::File { content, mode, .. } => {
                let path = self.free(target)?;
                let operation = Operation::MakeFile {
                    parent: self.upper,
                    path: &c_path(&path)?,
                    mode: *mode,
                    content: content.as_bytes(),
                };
                self.push(operation, target, path.clone());
                Ok(true)
            }
            Mount::Symlink { points_to, .. } => {
                let path = self.free(target)?;
                let operation = Operation::MakeLink {
                    parent: self.upper,
                    path: &c_path(&path)?,
                    points_to: &c_path(points_to)?,
                };
                self.push(operation, target, path.clone());
                Ok(true)
            }
            Mount::Directory { mode, .. } => {
                if self.lower_has(target)? {
                    return Ok(false);
                }
                self.make_directory(target, *mode)?;
                Ok(true)
            }
            Mount::Tmpfs { .. }
            | Mount::Scratch { .. }
            | Mount::Overlay { .. }
            | Mount::Proc { .. }
            | Mount::Devices { .. } => {
                if !self.lower_has(target)? {
                    self.make_directory(target, MOUNT_POINT)?;
                }
                Ok(false)
            }
            // May be a file, or nothing at all, and then its place is made when that is known; but it must not lie behind a
            // link.
            Mount::Bind { source, .. } => {
                if !self.lower_has(target)? && source.is_dir() {
                    self.make_directory(target, MOUNT_POINT)?;
                }
                Ok(false)
            }
        }
    }

    fn push(&mut self, operation: Operation<'_>, target: &Path, path: PathBuf) {
        self.compiler.push(
            operation,
            SetupError::Write {
                target: target.to_owned(),
                source: crate::Errno(0),
            },
        );
        self.made.insert(path);
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

    fn make_directory(&mut self, target: &Path, mode: u32) -> Result<(), Refused> {
        let path = self.parents(target)?;
        if self.made.contains(&path) {
            return Err(Errno::EXIST.into());
        }
        let operation = Operation::MakeDirectory {
            parent: self.upper,
            path: &c_path(&path)?,
            mode,
        };
        self.push(operation, target, path.clone());
        Ok(())
    }

    /// A path for a new file or link: its parents are made, and no directory is in its place, which it would hide. The plan
    /// is wrong then, and whoever carries it out will say so.
    fn free(&mut self, target: &Path) -> Result<PathBuf, Refused> {
        let path = self.parents(target)?;
        if self.made.contains(&path) {
            return Err(Errno::EXIST.into());
        }
        match rustix::fs::statat(&self.lower, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if file_type(&stat) == FileType::Directory => Err(Errno::ISDIR.into()),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(path),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the directories that `target` lies in, as copies of the lower ones where those are there; gives the path
    /// relative to the upper directory.
    fn parents(&mut self, target: &Path) -> Result<PathBuf, Refused> {
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
            let operation = Operation::MakeDirectory {
                parent: self.upper,
                path: &c_path(&path)?,
                mode,
            };
            let made = path.clone();
            self.push(operation, parent, made);
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
