//! Keeping a view while an environment runs on it.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, Stat, flock, fstat, openat, statat},
    io::Errno,
};

use super::{Context, DIRECTORY, Result, Store};
use crate::TreeId;

/// The permissions of a complete view's top directory. Whoever dismantles a view first takes some of them away.
pub(super) const COMPLETE: u32 = 0o755;
/// The permissions of a view that is being dismantled.
pub(super) const DISMANTLED: u32 = 0o700;

/// A view that stays as long as this value lives; the kernel lets go when the process ends, however it ends. A child that inherits
/// the descriptor keeps the view, too.
#[derive(Debug)]
pub struct Hold {
    directory: OwnedFd,
    path: PathBuf,
}

impl Store {
    /// The path of a tree's view, or `None` when there is none or it is on its way out. One system call.
    pub fn view_path(&self, id: &TreeId) -> Option<PathBuf> {
        let stat = statat(self.fd(), format!("views/{id}"), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        is_complete(&stat).then(|| self.path("views").join(id.to_string()))
    }

    /// Holds a tree's view, or returns `None` when there is none. Three system calls; waits only for a removal of this very view, or a look at it.
    pub fn hold(&self, id: &TreeId) -> Result<Option<Hold>> {
        let path = self.path("views").join(id.to_string());
        let directory = match openat(self.fd(), format!("views/{id}"), DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            directory => directory.context("open the view", || path.clone())?,
        };
        // Only gc and repairs lock a view alone: to see whether it is held, and while they remove it.
        rustix::io::retry_on_intr(|| flock(&directory, FlockOperation::LockShared))
            .context("lock the view", || path.clone())?;
        let stat = fstat(&directory).context("look at the view", || path.clone())?;
        Ok((is_complete(&stat) && stat.st_nlink > 0).then_some(Hold { directory, path }))
    }
}

impl Hold {
    /// The view's directory.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The descriptor that holds it: to pass to whatever outlives this process.
    pub fn into_fd(self) -> OwnedFd {
        self.directory
    }
}

impl AsFd for Hold {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn is_complete(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_mode & 0o777 == COMPLETE
}
