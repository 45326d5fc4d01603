//! Freezing what a session has written so far.

use std::{ffi::CStr, io, os::fd::BorrowedFd};

use rustix::{
    fs::{AtFlags, FileType, Mode, RenameFlags, mkdirat, renameat_with, statat},
    io::Errno,
};

use super::remove_tree;

/// The names of an overlay's directories, in the one that holds a session's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Names<'a> {
    /// The upper directory.
    pub upper: &'a CStr,
    /// The overlay's own work directory.
    pub work: &'a CStr,
}

/// Why an upper directory was not frozen. It is where it was.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {name}")]
pub struct SnapshotError {
    step: &'static str,
    name: String,
    #[source]
    source: io::Error,
}

/// Makes the upper directory one more lower layer, called `frozen`, and makes a new, empty one for what comes. Costs two renames
/// and no copy, whatever is in it.
///
/// Nothing may have the overlay mounted any more: to the kernel, a layer that changes under a mount is undefined, and what had the
/// old upper directory open would go on writing to the frozen one.
pub fn freeze(
    session: BorrowedFd<'_>,
    names: Names<'_>,
    frozen: &CStr,
) -> Result<(), SnapshotError> {
    let failed = |step, name: &CStr| {
        let name = name.to_string_lossy().into_owned();
        move |error: Errno| SnapshotError {
            step,
            name,
            source: error.into(),
        }
    };
    let Names { upper, work } = names;
    let stat =
        statat(session, upper, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at", upper))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(failed("freeze", upper)(Errno::NOTDIR));
    }
    // The kernel wants it empty or made by the same upper directory.
    remove_tree(session, work).map_err(failed("remove", work))?;
    mkdirat(session, work, Mode::RWXU).map_err(failed("make", work))?;
    renameat_with(session, upper, session, frozen, RenameFlags::NOREPLACE)
        .map_err(failed("rename to", frozen))?;
    let made = mkdirat(session, upper, Mode::RWXU).and_then(|()| {
        if rustix::process::geteuid().is_root() {
            let owner = (
                rustix::fs::Uid::from_raw(stat.st_uid),
                rustix::fs::Gid::from_raw(stat.st_gid),
            );
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(session, upper, Some(owner.0), Some(owner.1), flags)?;
        }
        // The mode of an upper directory is the mode of the overlay's root.
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmodat(session, upper, mode, AtFlags::empty())
    });
    made.map_err(|error| {
        let _ = remove_tree(session, upper);
        let _ = renameat_with(session, frozen, session, upper, RenameFlags::NOREPLACE);
        failed("make", upper)(error)
    })
}
