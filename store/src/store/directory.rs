//! Directories, relative to open descriptors: listing them and removing them.

use std::{
    ffi::{CStr, CString},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, openat},
    io::Errno,
};

/// What a directory is opened with for reading. Never through a symbolic link.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a directory below `parent`.
pub(crate) fn open(parent: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// Calls `each` for every entry of an open directory except `.` and `..`. The type may be unknown on some file systems.
pub(crate) fn each<E: From<Errno>>(
    directory: impl AsFd,
    mut each: impl FnMut(&CStr, FileType) -> Result<(), E>,
) -> Result<(), E> {
    // Someone may have listed it before, through the same descriptor.
    rustix::fs::seek(&directory, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            each(name, entry.file_type())?;
        }
    }
    Ok(())
}

/// The names in an open directory, with their types.
pub(crate) fn list(directory: impl AsFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    each(directory, |name, kind| {
        names.push((name.to_owned(), kind));
        Ok::<_, Errno>(())
    })?;
    Ok(names)
}

/// How deep [`remove`] goes with one descriptor a level; what lies deeper is first moved up.
const DEPTH: usize = 64;

/// Removes `name` in `parent` and, of a directory, all that is in it. Nothing there is success. Needs no free space unless directories
/// are nested deeper than 64.
pub(crate) fn remove(parent: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    let parent = parent.as_fd();
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EISDIR by Linux, EPERM by POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let directory = open_for_removal(parent, name)?;
    empty(directory.as_fd())?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Removes all that is in an open directory.
pub(crate) fn empty(top: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut moved = 0;
    while clear(top, top, 0, &mut moved)? {}
    Ok(())
}

/// One pass; `true` when something was moved up to `top` and another pass is needed.
fn clear(
    top: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
) -> rustix::io::Result<bool> {
    let mut again = false;
    for (name, kind) in list(directory)? {
        if kind != FileType::Directory {
            let unlink = || rustix::fs::unlinkat(directory, &*name, AtFlags::empty());
            match permitted(directory, unlink) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
        }
        if depth >= DEPTH {
            *moved += 1;
            let above = CString::new(format!("deep-{moved}")).unwrap_or_default();
            match permitted(directory, || {
                rustix::fs::renameat(directory, &*name, top, &*above)
            }) {
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => again = true,
                Err(error) => return Err(error),
            }
            continue;
        }
        let below = open_for_removal(directory, &name)?;
        again |= clear(top, below.as_fd(), depth + 1, moved)?;
        drop(below);
        match permitted(directory, || {
            rustix::fs::unlinkat(directory, &*name, AtFlags::REMOVEDIR)
        }) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) if again => {}
            Err(error) => return Err(error),
        }
    }
    Ok(again)
}

/// Tries again with full access to the directory when that was what was missing: the work directory of an overlay has none, and a
/// package's script may have taken it away.
fn permitted(
    directory: BorrowedFd<'_>,
    action: impl Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match action() {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(directory, Mode::RWXU)?;
            action()
        }
        other => other,
    }
}

fn open_for_removal(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    match open(parent, name) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open(parent, name)
        }
        other => other,
    }
}
