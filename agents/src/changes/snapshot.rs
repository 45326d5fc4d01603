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

/// Who owns the top of an overlay, and its mode: those of its upper directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Top {
    uid: u32,
    gid: u32,
    mode: u32,
}

fn failed(step: &'static str, name: &CStr) -> impl FnOnce(Errno) -> SnapshotError {
    let name = name.to_string_lossy().into_owned();
    move |error: Errno| SnapshotError {
        step,
        name,
        source: error.into(),
    }
}

/// Makes the upper directory one more lower layer, `frozen` in the directory `to` of the same file system. Costs a rename and no copy, whatever
/// is in it. There is none afterwards.
///
/// Nothing may have the overlay mounted any more: to the kernel, a layer that changes under a mount is undefined, and what had the
/// old upper directory open would go on writing to the frozen one.
pub fn set_aside(
    session: BorrowedFd<'_>,
    upper: &CStr,
    to: (BorrowedFd<'_>, &CStr),
) -> Result<(), SnapshotError> {
    move_aside(session, upper, to).map(drop)
}

fn move_aside(
    session: BorrowedFd<'_>,
    upper: &CStr,
    (to, frozen): (BorrowedFd<'_>, &CStr),
) -> Result<Top, SnapshotError> {
    let stat =
        statat(session, upper, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at", upper))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(failed("freeze", upper)(Errno::NOTDIR));
    }
    renameat_with(session, upper, to, frozen, RenameFlags::NOREPLACE)
        .map_err(failed("rename to", frozen))?;
    Ok(Top {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
    })
}

/// Makes an empty upper directory with this top, and a work directory in place of the one there is.
fn renew(session: BorrowedFd<'_>, names: Names<'_>, top: Top) -> Result<(), SnapshotError> {
    renew_work(session, names.work)?;
    let upper = names.upper;
    let made = mkdirat(session, upper, Mode::RWXU).and_then(|()| {
        if rustix::process::geteuid().is_root() {
            let owner = rustix::fs::Uid::from_raw(top.uid);
            let group = rustix::fs::Gid::from_raw(top.gid);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(session, upper, Some(owner), Some(group), flags)?;
        }
        let mode = Mode::from_raw_mode(top.mode);
        rustix::fs::chmodat(session, upper, mode, AtFlags::empty())
    });
    made.map_err(|error| {
        let _ = remove_tree(session, upper);
        failed("make", upper)(error)
    })
}

/// Makes a work directory in place of the one there is: the kernel takes no other but an empty one.
pub fn renew_work(session: BorrowedFd<'_>, work: &CStr) -> Result<(), SnapshotError> {
    remove_tree(session, work).map_err(failed("remove", work))?;
    mkdirat(session, work, Mode::RWXU).map_err(failed("make", work))
}

/// Both: what was written becomes `frozen` beside the new upper directory.
pub fn freeze(
    session: BorrowedFd<'_>,
    names: Names<'_>,
    frozen: &CStr,
) -> Result<(), SnapshotError> {
    let top = move_aside(session, names.upper, (session, frozen))?;
    renew(session, names, top).inspect_err(|_| {
        let flags = RenameFlags::NOREPLACE;
        let _ = renameat_with(session, frozen, session, names.upper, flags);
    })
}
