//! What goes into the overlay's upper directory before there is an overlay.
//!
//! Through an overlay, the first file made in `/etc` copies that directory up, and each file that is replaced leaves a
//! whiteout behind: 0.1 ms for the account files alone. Put into the upper directory beforehand they cost a fifth of that,
//! and the result is the same wherever nothing but plain directories of our own are on the way. All else is left to
//! [`crate::mounts::apply`].

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use crate::{mounts::write_file, plan::Mount, target};

/// Plants what can be, in the order of the plan; tells for each mount whether it is done with.
pub(crate) fn plant(mounts: &[Mount], lower: BorrowedFd<'_>, upper: BorrowedFd<'_>) -> Vec<bool> {
    let mut bed = Bed {
        lower,
        upper,
        last: None,
    };
    let mut planted = Vec::with_capacity(mounts.len());
    // Below these the upper directory will not be what is seen.
    let mut covered: Vec<&Path> = Vec::new();
    for mount in mounts {
        let target = mount.target();
        let done = if covered.iter().any(|above| target.starts_with(above)) {
            false
        } else {
            match bed.put(mount) {
                Ok(done) => done,
                // Where a link leads to is not known here, and so not what it covers.
                Err(Errno::LOOP | Errno::NOTDIR) => break,
                Err(_) => false,
            }
        };
        if !done {
            covered.push(target);
        }
        planted.push(done);
    }
    planted.resize(mounts.len(), false);
    planted
}

/// A directory as it will be seen: its layers.
struct Place {
    upper: OwnedFd,
    lower: Option<OwnedFd>,
}

struct Bed<'b> {
    lower: BorrowedFd<'b>,
    upper: BorrowedFd<'b>,
    /// The directory that was planted in last. Most are the same.
    last: Option<(PathBuf, Place)>,
}

impl Bed<'_> {
    /// Whether the mount is done with. A place that something is to be mounted on is made, and is not.
    fn put(&mut self, mount: &Mount) -> Result<bool, Errno> {
        let target = mount.target();
        match mount {
            Mount::File { content, mode, .. } => {
                let (parent, name) = self.parent(target)?;
                refuse_directory(parent, name)?;
                write_file(parent.upper.as_fd(), name, content, *mode)?;
                Ok(true)
            }
            Mount::Symlink { points_to, .. } => {
                let (parent, name) = self.parent(target)?;
                refuse_directory(parent, name)?;
                rustix::fs::symlinkat(points_to, &parent.upper, name)?;
                Ok(true)
            }
            Mount::Directory { mode, .. } => {
                if self.lower_has(target)? {
                    return Ok(false);
                }
                self.make_directory(target, Mode::from_raw_mode(*mode))?;
                Ok(true)
            }
            Mount::Tmpfs { .. }
            | Mount::Scratch { .. }
            | Mount::Proc { .. }
            | Mount::Devices { .. } => {
                if !self.lower_has(target)? {
                    self.make_directory(target, target::MOUNT_POINT)?;
                }
                Ok(false)
            }
            // May be a file, or nothing at all; but it must not lie behind a link.
            Mount::Bind { .. } => self.lower_has(target).map(|_| false),
        }
    }

    fn lower_has(&self, target: &Path) -> Result<bool, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let relative = target.strip_prefix("/").map_err(|_| Errno::INVAL)?;
        let found = if relative.components().nth(1).is_none() {
            rustix::fs::statat(self.lower, relative, AtFlags::SYMLINK_NOFOLLOW)
        } else {
            rustix::fs::openat2(self.lower, relative, flags, Mode::empty(), resolve)
                .and_then(rustix::fs::fstat)
        };
        match found {
            Ok(stat) if file_type(&stat) == FileType::Symlink => Err(Errno::LOOP),
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn make_directory(&mut self, target: &Path, mode: Mode) -> Result<(), Errno> {
        let (parent, name) = self.parent(target)?;
        rustix::fs::mkdirat(&parent.upper, name, mode)
    }

    /// The directory that `path` lies in, made in the upper layer where it is not there, and the name in it.
    fn parent<'p>(&mut self, path: &'p Path) -> Result<(&Place, &'p Path), Errno> {
        let name = Path::new(path.file_name().ok_or(Errno::INVAL)?);
        let parent = path.parent().ok_or(Errno::INVAL)?;
        let last = self.last.take().filter(|(last, _)| last == parent);
        let found = match last {
            Some(last) => last,
            None => (parent.to_owned(), self.descend(parent)?),
        };
        Ok((&self.last.insert(found).1, name))
    }

    fn descend(&self, directory: &Path) -> Result<Place, Errno> {
        let mut place = Place {
            upper: open_directory(self.upper, Path::new("."), OFlags::PATH)?,
            lower: Some(open_directory(self.lower, Path::new("."), OFlags::PATH)?),
        };
        for component in directory.components() {
            if let Component::Normal(name) = component {
                place = place.step(Path::new(name))?;
            }
        }
        Ok(place)
    }
}

impl Place {
    fn step(&self, name: &Path) -> Result<Place, Errno> {
        let lower = match &self.lower {
            None => None,
            Some(lower) => match open_directory(lower.as_fd(), name, OFlags::RDONLY) {
                Err(Errno::NOENT) => None,
                other => Some(other?),
            },
        };
        let upper = match open_directory(self.upper.as_fd(), name, OFlags::PATH) {
            Err(Errno::NOENT) => {
                let mode = match &lower {
                    Some(lower) => plain_mode(lower)?,
                    None => target::MOUNT_POINT,
                };
                rustix::fs::mkdirat(&self.upper, name, mode)?;
                open_directory(self.upper.as_fd(), name, OFlags::PATH)?
            }
            other => other?,
        };
        Ok(Place { upper, lower })
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &Path, how: OFlags) -> Result<OwnedFd, Errno> {
    let flags = how | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The mode of a lower directory that a new one of that mode is a faithful copy of. Any other is left to the overlay.
fn plain_mode(lower: &OwnedFd) -> Result<Mode, Errno> {
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
    Ok(Mode::from_raw_mode(stat.st_mode))
}

/// A directory is not replaced by a file, nor by a link: the plan is wrong, and whoever carries it out will say so.
fn refuse_directory(parent: &Place, name: &Path) -> Result<(), Errno> {
    let Some(lower) = &parent.lower else {
        return Ok(());
    };
    match rustix::fs::statat(lower, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if file_type(&stat) == FileType::Directory => Err(Errno::ISDIR),
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}
