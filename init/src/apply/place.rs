//! Places inside the new root, found or made, never outside it.
//!
//! Every path that names something inside is resolved by openat2(2) with the new root as `/`, so that neither `..` nor a
//! symbolic link planted in a package or a project leads out. Magic links of procfs are refused altogether.

use core::ffi::CStr;

use crate::sys::{self, Descriptor, Errno, arch, constant::*};

/// The mode of a directory that is only made to mount something on it, and of its parents.
const MOUNT_POINT: u32 = 0o755;

/// The longest path, with its zero byte (PATH_MAX).
const LONGEST_PATH: usize = 4096;

/// Opens what is at `path` as a mere reference, making it (a directory or an empty file) and its parents where missing.
pub(super) fn ensure(root: Descriptor, path: &CStr, kind: u32) -> Result<Descriptor, Errno> {
    match sys::open_in_root(root, path, O_PATH) {
        Err(Errno(ENOENT)) => {}
        other => return other,
    }
    with_parent(root, path, |parent, name| {
        match make(parent, name, kind) {
            // A symbolic link that leads nowhere: what is mounted here takes its place.
            Err(Errno(EEXIST)) => {
                sys::unlink_at(parent, name)?;
                make(parent, name, kind)?;
            }
            made => made?,
        }
        sys::open_at(parent, name, O_PATH | arch::flags::O_NOFOLLOW, 0)
    })
}

/// Makes an empty file or directory. Their modes are for looking at: something is mounted over them.
fn make(parent: Descriptor, name: &CStr, kind: u32) -> Result<(), Errno> {
    match kind {
        S_IFDIR => sys::make_directory_at(parent, name, MOUNT_POINT),
        _ => sys::make_file_at(parent, name, 0o644),
    }
}

/// Calls `act` with the directory that `path` lies in, made where missing, and the name in it.
fn with_parent<T>(
    root: Descriptor,
    path: &CStr,
    act: impl FnOnce(Descriptor, &CStr) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let bytes = path.to_bytes();
    let trimmed = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == b'/').count();
    let slash = bytes[..trimmed].iter().rposition(|byte| *byte == b'/');
    let slash = slash.ok_or(Errno(EINVAL))?;
    let mut copy = [0; LONGEST_PATH];
    let name = terminated(&mut copy, bytes.get(slash + 1..trimmed).unwrap_or_default())?;
    let parent = directory(root, &bytes[..slash])?;
    let done = act(parent, name);
    sys::close(parent);
    done
}

/// Opens the directory `path`, making what is missing of it.
fn directory(root: Descriptor, path: &[u8]) -> Result<Descriptor, Errno> {
    let mut copy = [0; LONGEST_PATH];
    let whole = terminated(&mut copy, if path.is_empty() { b"/" } else { path })?;
    match sys::open_in_root(root, whole, O_PATH) {
        Err(Errno(ENOENT)) => {}
        other => return other,
    }
    // From the top down: each is there when the next is made in it.
    let mut opened = sys::open_in_root(root, c"/", O_PATH)?;
    let ends = path
        .iter()
        .enumerate()
        .filter(|(at, byte)| **byte == b'/' && *at > 0)
        .map(|(at, _)| at)
        .chain([path.len()]);
    for end in ends {
        let mut copy = [0; LONGEST_PATH];
        let prefix = terminated(&mut copy, &path[..end])?;
        let next = match sys::open_in_root(root, prefix, O_PATH) {
            Err(Errno(ENOENT)) => {
                let start = path[..end]
                    .iter()
                    .rposition(|byte| *byte == b'/')
                    .map_or(0, |at| at + 1);
                let mut copy = [0; LONGEST_PATH];
                let name = terminated(&mut copy, &path[start..end])?;
                match make(opened, name, S_IFDIR) {
                    Err(Errno(EEXIST)) => {
                        sys::unlink_at(opened, name)?;
                        make(opened, name, S_IFDIR)?;
                    }
                    made => made?,
                }
                sys::open_at(opened, name, O_PATH | arch::flags::O_NOFOLLOW, 0)?
            }
            found => found?,
        };
        sys::close(opened);
        opened = next;
    }
    Ok(opened)
}

fn terminated<'c>(copy: &'c mut [u8; LONGEST_PATH], text: &[u8]) -> Result<&'c CStr, Errno> {
    let place = copy
        .get_mut(..text.len())
        .filter(|_| text.len() < LONGEST_PATH);
    place.ok_or(Errno(ENAMETOOLONG))?.copy_from_slice(text);
    CStr::from_bytes_until_nul(copy).map_err(|_| Errno(ENAMETOOLONG))
}

/// Makes a file where nothing is.
pub(super) fn write_file(
    parent: Descriptor,
    name: &CStr,
    mode: u32,
    content: &[u8],
) -> Result<(), Errno> {
    let flags = O_WRONLY | O_CREAT | O_EXCL | arch::flags::O_NOFOLLOW;
    let file = sys::open_at(parent, name, flags, mode)?;
    let written = sys::write_all(file, content);
    sys::close(file);
    written
}

/// Puts a new file in the place of what is there, so that neither a link is followed nor another name of the same file
/// changed.
pub(super) fn put_file(
    root: Descriptor,
    path: &CStr,
    mode: u32,
    content: &[u8],
) -> Result<(), Errno> {
    with_parent(root, path, |parent, name| {
        match sys::unlink_at(parent, name) {
            Ok(()) | Err(Errno(ENOENT)) => {}
            Err(error) => return Err(error),
        }
        write_file(parent, name, mode, content)
    })
}

/// Makes a directory, or gives the one that is there this mode.
pub(super) fn put_directory(root: Descriptor, path: &CStr, mode: u32) -> Result<(), Errno> {
    let made = with_parent(root, path, |parent, name| {
        sys::make_directory_at(parent, name, mode)
    });
    if made != Err(Errno(EEXIST)) {
        return made;
    }
    let existing = sys::open_in_root(root, path, arch::flags::O_DIRECTORY)?;
    let changed = sys::change_mode(existing, mode);
    sys::close(existing);
    changed
}

/// Makes a symbolic link in the place of what is there.
pub(super) fn put_link(root: Descriptor, path: &CStr, points_to: &CStr) -> Result<(), Errno> {
    with_parent(root, path, |parent, name| {
        match sys::link_at(parent, name, points_to) {
            Err(Errno(EEXIST)) => {
                sys::unlink_at(parent, name)?;
                sys::link_at(parent, name, points_to)
            }
            other => other,
        }
    })
}
