//! Places inside the new root, found or made, never outside it.
//!
//! Every path of a plan that names something inside is resolved by openat2(2) with the new root as `/`, so that neither
//! `..` nor a symbolic link planted in a package or a project leads out. Magic links of procfs are refused altogether.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::error::SetupError;

/// What to make where nothing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// The new root, while it is assembled.
pub(crate) struct Inside {
    root: OwnedFd,
}

impl Inside {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Inside { root }
    }

    /// The new root itself.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens what is at `path` as a mere reference to it, or with `flags`.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        // The kernel answers EAGAIN when something was renamed anywhere while it was resolving a `..`.
        for _ in 0..128 {
            let opened = rustix::fs::openat2(
                &self.root,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            );
            match opened {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens what is at `path`, making it and its parents where missing.
    pub(crate) fn ensure(&self, path: &Path, kind: Kind) -> Result<OwnedFd, SetupError> {
        self.try_ensure(path, kind)
            .map_err(|source| SetupError::Target {
                target: path.to_owned(),
                source: source.into(),
            })
    }

    fn try_ensure(&self, path: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = self.try_parent(path)?;
        let made = match make(parent.as_fd(), name, kind) {
            // A symbolic link that leads nowhere: what is mounted here takes its place.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                make(parent.as_fd(), name, kind)
            }
            other => other,
        };
        made?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::empty())
    }

    /// The directory that `path` lies in, made where missing, and the name in it.
    pub(crate) fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p Path), SetupError> {
        self.try_parent(path).map_err(|source| SetupError::Target {
            target: path.to_owned(),
            source: source.into(),
        })
    }

    fn try_parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p Path), Errno> {
        let name = Path::new(path.file_name().ok_or(Errno::INVAL)?);
        let parent = path.parent().ok_or(Errno::INVAL)?;
        Ok((self.try_ensure(parent, Kind::Directory)?, name))
    }
}

/// Whether `path` can be a target: absolute, below the root, and without `..`.
pub(crate) fn is_target(path: &Path) -> bool {
    use std::path::Component::{Normal, RootDir};
    path.is_absolute()
        && path.file_name().is_some()
        && path
            .components()
            .all(|component| matches!(component, RootDir | Normal(_)))
}

/// The mode of a directory that is only made to mount something on it, and of its parents.
pub(crate) const MOUNT_POINT: Mode = Mode::from_raw_mode(0o755);

/// Makes an empty file or directory. Their modes are for looking at: something is mounted over them.
fn make(parent: BorrowedFd<'_>, name: &Path, kind: Kind) -> Result<(), Errno> {
    match kind {
        Kind::Directory => rustix::fs::mkdirat(parent, name, MOUNT_POINT),
        Kind::File => rustix::fs::mknodat(
            parent,
            name,
            FileType::RegularFile,
            Mode::from_raw_mode(0o644),
            0,
        ),
    }
}

/// What is mounted at `path` to a caller that is only to name it in an error.
pub(crate) fn mount_error(what: &str, target: &Path, source: Errno) -> SetupError {
    SetupError::Mount {
        what: what.to_owned(),
        target: PathBuf::from(target),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_absolute_and_plain() {
        for good in ["/proc", "/home/me/project", "/a//b"] {
            assert!(is_target(Path::new(good)), "{good}");
        }
        for bad in ["", "/", "proc", "/a/../../etc", "/.."] {
            assert!(!is_target(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn a_planted_link_does_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let link = |to: &Path, at: &str| {
            std::os::unix::fs::symlink(to, directory.path().join(at)).unwrap();
        };
        link(outside.path(), "absolute");
        link(Path::new("../../../../../../../../../tmp"), "upwards");
        link(Path::new("/nowhere/at/all"), "dangling");
        link(Path::new("/proc/self/root/tmp"), "magic");
        let root = rustix::fs::open(directory.path(), OFlags::PATH, Mode::empty()).unwrap();
        let inside = Inside::new(root);

        for target in [
            "/absolute/victim",
            "/upwards/envd-victim",
            "/magic/envd-victim",
        ] {
            inside.ensure(Path::new(target), Kind::File).unwrap();
        }
        let dangling = Path::new("/dangling");
        inside.ensure(dangling, Kind::Directory).unwrap();
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
        assert!(!Path::new("/tmp/envd-victim").exists());
        // A link that leads nowhere inside gives way to what is made there.
        for made in ["absolute/victim", "magic/envd-victim", "dangling"] {
            assert!(directory.path().join(made).exists(), "{made}");
        }
    }
}
