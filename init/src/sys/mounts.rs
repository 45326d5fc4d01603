//! Mounts.

use core::ffi::CStr;

use super::{Descriptor, Errno, call, close, constant::*};

/// Mounts a file system (mount(2)).
pub fn mount(kind: &CStr, target: &CStr, flags: usize, options: &CStr) -> Result<(), Errno> {
    // SAFETY: all strings end in a zero byte and are only read.
    unsafe { call!(MOUNT, kind, target, kind, flags, options) }.map(drop)
}

/// Binds the mount at a path to another one.
pub fn bind(source: &CStr, target: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings end in a zero byte and are only read.
    unsafe { call!(MOUNT, source, target, 0usize, MS_BIND, 0usize) }.map(drop)
}

/// Makes a mount read-only, without set-user-id and programs, and with these flags.
pub fn make_read_only(path: &CStr, more: usize) -> Result<(), Errno> {
    let flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC | more;
    // SAFETY: the one string ends in a zero byte and is only read.
    unsafe { call!(MOUNT, 0usize, path, 0usize, flags, 0usize) }.map(drop)
}

/// Cuts the mount namespace off from others: what is mounted on either side stays there.
pub fn make_mounts_private() -> Result<(), Errno> {
    // SAFETY: the one string ends in a zero byte.
    unsafe { call!(MOUNT, 0usize, c"/", 0usize, MS_REC | MS_PRIVATE, 0usize) }.map(drop)
}

/// Copies the mount of what is at `path`, seen from an opened directory, with what is mounted below it, without attaching it
/// anywhere.
pub fn copy_tree(directory: Descriptor, path: &CStr) -> Result<Descriptor, Errno> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE;
    // SAFETY: `path` ends in a zero byte.
    unsafe { call!(OPEN_TREE, directory, path, flags) }.map(|fd| fd as Descriptor)
}

/// The same without what is mounted below it.
pub fn copy_mount(directory: Descriptor, path: &CStr) -> Result<Descriptor, Errno> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    // SAFETY: `path` ends in a zero byte.
    unsafe { call!(OPEN_TREE, directory, path, flags) }.map(|fd| fd as Descriptor)
}

/// Mounts a detached tree on `path` below `directory`; on `directory` itself when `path` is empty.
pub fn attach(tree: Descriptor, directory: Descriptor, path: &CStr) -> Result<(), Errno> {
    let mut flags = MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MOVE_MOUNT_T_EMPTY_PATH;
    }
    // SAFETY: both strings end in a zero byte.
    unsafe { call!(MOVE_MOUNT, tree, c"", directory, path, flags) }.map(drop)
}

/// Sets attributes of a mount and of all below it (mount_setattr(2)).
pub fn set_mount_attributes(tree: Descriptor, set: u64) -> Result<(), Errno> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attributes = Attributes {
        set,
        clear: 0,
        propagation: 0,
        userns: 0,
    };
    let flags = AT_EMPTY_PATH | AT_RECURSIVE;
    // SAFETY: the string ends in a zero byte, and the size is that of `attributes`, which is only read.
    unsafe {
        call!(
            MOUNT_SETATTR,
            tree,
            c"",
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    }
    .map(drop)
}

/// Makes `new` the root and puts the old one on `old`.
pub fn pivot_root(new: &CStr, old: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings end in a zero byte.
    unsafe { call!(PIVOT_ROOT, new, old) }.map(drop)
}

/// Takes a mount away, at once where it is seen and for good when its last user lets go.
pub fn unmount(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the string ends in a zero byte.
    unsafe { call!(UMOUNT2, path, MNT_DETACH) }.map(drop)
}

/// Keeps a process's mount namespace until some time after this process has ended: gives the descriptor that does, which is to
/// be left open.
///
/// Whoever lets go of a mount namespace last waits for the kernel to take it down, most of a third of a millisecond for that of
/// an environment, and a process's end is not told before. Files registered with an io_uring are let go of by a kernel thread
/// (io_uring_register(2), IORING_REGISTER_FILES), which nobody waits for.
pub fn keep_mounts(pidfd: Descriptor) -> Result<Descriptor, Errno> {
    /// `struct io_uring_params`.
    #[repr(C)]
    struct Parameters([u32; 30]);
    let mut parameters = Parameters([0; 30]);
    // SAFETY: touches no memory.
    let namespace = unsafe { call!(IOCTL, pidfd, PIDFD_GET_MNT_NAMESPACE, 0usize) }? as Descriptor;
    // SAFETY: `parameters` has the size that the kernel reads and writes.
    let ring = unsafe { call!(IO_URING_SETUP, 1, &raw mut parameters) };
    let kept = ring.and_then(|ring| {
        let ring = ring as Descriptor;
        let files = [namespace];
        // SAFETY: one descriptor is read.
        unsafe {
            call!(
                IO_URING_REGISTER,
                ring,
                IORING_REGISTER_FILES,
                files.as_ptr(),
                1
            )
        }
        .map(|_| ring)
        .inspect_err(|_| close(ring))
    });
    close(namespace);
    kept
}
