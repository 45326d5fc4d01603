//! Removing what a session left: trees made by somebody who wants them to stay.
//!
//! Through descriptors, never through a link; a directory without permissions is given some; a directory of millions of names
//! is never held in memory; a tree deeper than paths and descriptors reach is taken apart from above.

use std::{
    ffi::{CStr, CString},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RawDir, openat, renameat, unlinkat},
    io::Errno,
};

/// How many directories are open within each other; what lies deeper is first moved up.
const DEPTH: usize = 32;

/// Removes `name` in `parent` and, of a directory, all that is in it. Nothing there is success. Needs to own what is there.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EISDIR by Linux, EPERM by POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let mut moved = 0;
    loop {
        let top = enter(parent, name)?;
        let progress = clear(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if progress => {}
            Err(Errno::NOENT) => return Ok(()),
            other => return other,
        }
    }
}

/// Removes all that is in a directory but what had to be moved up to `top`. Whether anything went.
fn clear(
    top: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
) -> Result<bool, Errno> {
    let mut progress = false;
    // Names that go away while a directory is read may make it skip others: it is read again until nothing goes.
    loop {
        let mut gone = false;
        let reading = openat(directory, c".", OPEN, Mode::empty())?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        let mut entries = RawDir::new(&reading, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                gone |= one(top, directory, name, depth, moved)?;
            }
        }
        if !gone {
            return Ok(progress);
        }
        progress = true;
    }
}

/// Removes one entry, or moves it up. Whether it is gone from here, or something from below it.
fn one(
    top: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
    moved: &mut u64,
) -> Result<bool, Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    if unlinkat(directory, name, AtFlags::REMOVEDIR).is_ok() {
        return Ok(true);
    }
    let below = match enter(directory, name) {
        Err(Errno::NOENT) => return Ok(false),
        below => below?,
    };
    if depth < DEPTH {
        let progress = clear(top, below.as_fd(), depth + 1, moved)?;
        drop(below);
        return match unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(progress),
            Err(error) => Err(error),
        };
    }
    // Only who may write to a directory can move it, for its `..` changes: that is why it was entered.
    *moved += 1;
    let above = CString::new(format!("deep-{moved}")).unwrap_or_default();
    match renameat(directory, name, top, &*above) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        // The name is taken: the next one will do.
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(true),
        Err(error) => Err(error),
    }
}

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a directory, and takes the permissions on it that removing needs.
fn enter(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(parent, name, flags, Mode::empty())?;
    let mode = rustix::fs::fstat(&found)?.st_mode;
    if mode & 0o700 != 0o700 {
        // By the descriptor: the name may be a link by now. Where this fails, so does what follows, and says why.
        let own = format!("/proc/self/fd/{}", found.as_raw_fd());
        let _ = rustix::fs::chmod(own, Mode::RWXU);
    }
    openat(
        &found,
        c".",
        OPEN.difference(OFlags::NOFOLLOW),
        Mode::empty(),
    )
}
