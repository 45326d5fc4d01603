//! Files and directories.

use core::{ffi::CStr, mem::MaybeUninit};

use super::{Descriptor, Errno, arch, call, constant::*};

/// Opens `path`, taken from `directory` unless it is absolute. Closed at exec.
pub fn open_at(
    directory: Descriptor,
    path: &CStr,
    flags: i32,
    mode: u32,
) -> Result<Descriptor, Errno> {
    // SAFETY: `path` ends in a zero byte, and is only read.
    unsafe { call!(OPENAT, directory, path, flags | O_CLOEXEC, mode) }.map(|fd| fd as Descriptor)
}

/// Opens `path` with `root` as `/`: neither `..` nor a link leads out of it.
pub fn open_in_root(root: Descriptor, path: &CStr, flags: i32) -> Result<Descriptor, Errno> {
    #[repr(C)]
    struct How {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    let how = How {
        flags: (flags | O_CLOEXEC) as u64,
        mode: 0,
        resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    // The kernel answers EAGAIN when something was renamed anywhere while it was resolving a `..`.
    for _ in 0..128 {
        // SAFETY: `path` ends in a zero byte, and `how` has the size that is given.
        let opened = unsafe { call!(OPENAT2, root, path, &raw const how, size_of::<How>()) };
        match opened {
            Err(Errno(EAGAIN)) => {}
            other => return other.map(|fd| fd as Descriptor),
        }
    }
    Err(Errno(EAGAIN))
}

/// Flags that open a directory as a mere reference.
pub const DIRECTORY: i32 = O_PATH | arch::flags::O_DIRECTORY;

/// Makes a directory.
pub fn make_directory_at(parent: Descriptor, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: `name` ends in a zero byte.
    unsafe { call!(MKDIRAT, parent, name, mode) }.map(drop)
}

/// Makes an empty file.
pub fn make_file_at(parent: Descriptor, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: `name` ends in a zero byte.
    unsafe { call!(MKNODAT, parent, name, S_IFREG | mode, 0) }.map(drop)
}

/// Makes a symbolic link.
pub fn link_at(parent: Descriptor, name: &CStr, points_to: &CStr) -> Result<(), Errno> {
    // SAFETY: both end in a zero byte.
    unsafe { call!(SYMLINKAT, points_to, parent, name) }.map(drop)
}

/// Removes a file.
pub fn unlink_at(parent: Descriptor, name: &CStr) -> Result<(), Errno> {
    // SAFETY: `name` ends in a zero byte.
    unsafe { call!(UNLINKAT, parent, name, 0) }.map(drop)
}

/// Sets an opened file's permissions.
pub fn change_mode(descriptor: Descriptor, mode: u32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(FCHMOD, descriptor, mode) }.map(drop)
}

/// Whether `path` is there, as far as can be seen.
pub fn exists(path: &CStr) -> bool {
    // SAFETY: `path` ends in a zero byte.
    let found = unsafe { call!(FACCESSAT2, AT_FDCWD, path, 0, 0) };
    !matches!(found, Err(Errno(ENOENT | ENOTDIR)))
}

/// The part of `struct statx` that is asked for here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Type and permissions (`st_mode`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Number on its file system.
    pub inode: u64,
    /// The file system's device, as major and minor number.
    pub device: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// Seconds and nanoseconds of the last change of content.
    pub modified: (i64, u32),
    /// Seconds and nanoseconds of the last change of anything.
    pub changed: (i64, u32),
}

/// Looks at `path` below `directory`, or at `directory` itself when `path` is empty.
pub fn status_at(directory: Descriptor, path: &CStr, follow: bool) -> Result<Status, Errno> {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: u32,
        _reserved: i32,
    }
    /// `struct statx`, 256 bytes.
    #[repr(C)]
    struct Statx {
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        _spare: u16,
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: Time,
        btime: Time,
        ctime: Time,
        mtime: Time,
        rdev: [u32; 2],
        dev: [u32; 2],
        _rest: [u64; 14],
    }
    const BASIC: u32 = 0x7ff;
    let mut flags = AT_EMPTY_PATH as i32;
    if !follow {
        flags |= AT_SYMLINK_NOFOLLOW;
    }
    let mut found = MaybeUninit::<Statx>::zeroed();
    // SAFETY: `path` ends in a zero byte, and the kernel writes 256 bytes, which is the size of `found`.
    unsafe { call!(STATX, directory, path, flags, BASIC, found.as_mut_ptr()) }?;
    // SAFETY: integers, zeroed before the kernel filled them.
    let found = unsafe { found.assume_init() };
    Ok(Status {
        mode: found.mode.into(),
        uid: found.uid,
        inode: found.ino,
        device: (found.dev[0], found.dev[1]),
        size: found.size,
        modified: (found.mtime.seconds, found.mtime.nanoseconds),
        changed: (found.ctime.seconds, found.ctime.nanoseconds),
    })
}

/// The current directory, as a path with a zero byte at its end.
pub fn current_directory(buffer: &mut [u8]) -> Result<&CStr, Errno> {
    // SAFETY: the pointer and the length describe `buffer`.
    let length = unsafe { call!(GETCWD, buffer.as_mut_ptr(), buffer.len()) }?;
    CStr::from_bytes_with_nul(&buffer[..length]).map_err(|_| Errno(EINVAL))
}

/// Where a symbolic link leads to; gives how many bytes of `buffer` that takes. Cut where it does not fit.
pub fn read_link(path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: `path` ends in a zero byte; the pointer and the length describe `buffer`.
    unsafe {
        call!(
            READLINKAT,
            AT_FDCWD,
            path,
            buffer.as_mut_ptr(),
            buffer.len()
        )
    }
}

/// Locks an opened file or directory together with others who share it (flock(2)), without waiting.
pub fn share_lock(descriptor: Descriptor) -> Result<(), Errno> {
    const LOCK_SH: i32 = 1;
    const LOCK_NB: i32 = 4;
    // SAFETY: touches no memory.
    unsafe { call!(FLOCK, descriptor, LOCK_SH | LOCK_NB) }.map(drop)
}

/// The machine's name (`uname -n`), as a string in `buffer`.
pub fn host_name(buffer: &mut [u8; 390]) -> Result<&CStr, Errno> {
    // `struct new_utsname`: six names of 65 bytes, of which this is the second.
    // SAFETY: the kernel writes 390 bytes.
    unsafe { call!(UNAME, buffer.as_mut_ptr()) }?;
    CStr::from_bytes_until_nul(&buffer[65..130]).map_err(|_| Errno(EINVAL))
}

/// Goes to a directory.
pub fn change_directory(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` ends in a zero byte.
    unsafe { call!(CHDIR, path) }.map(drop)
}

/// Goes to an opened directory.
pub fn change_directory_to(directory: Descriptor) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(FCHDIR, directory) }.map(drop)
}

/// A file in memory (memfd_create(2)), closed at exec unless `inherited`.
pub fn memory_file(name: &CStr, inherited: bool) -> Result<Descriptor, Errno> {
    // SAFETY: `name` ends in a zero byte.
    unsafe { call!(MEMFD_CREATE, name, u32::from(!inherited)) }.map(|fd| fd as Descriptor)
}

/// Sets the mask of permission bits that files are made without; gives the one before.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: touches no memory and always succeeds.
    unsafe { call!(UMASK, mask) }.unwrap_or(0) as u32
}
