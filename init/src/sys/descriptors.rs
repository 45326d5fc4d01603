//! Descriptors: reading, writing, waiting, closing.

use super::{Descriptor, Errno, call, constant::*};

/// Reads into `buffer`; 0 is the end.
pub fn read(descriptor: Descriptor, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length describe `buffer`.
    unsafe { call!(READ, descriptor, buffer.as_mut_ptr(), buffer.len()) }
}

/// Reads from a place in a file.
pub fn read_at(file: Descriptor, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length describe `buffer`.
    unsafe { call!(PREAD64, file, buffer.as_mut_ptr(), buffer.len(), at) }
}

/// Writes some of `bytes`.
pub fn write(descriptor: Descriptor, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length describe `bytes`.
    unsafe { call!(WRITE, descriptor, bytes.as_ptr(), bytes.len()) }
}

/// Writes all of `bytes`.
pub fn write_all(descriptor: Descriptor, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(descriptor, bytes) {
            Ok(0) => return Err(Errno(EIO)),
            Ok(written) => bytes = &bytes[written.min(bytes.len())..],
            Err(Errno(EINTR)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes one.
pub fn close(descriptor: Descriptor) {
    // SAFETY: touches no memory. Who still names the descriptor gets EBADF.
    let _ = unsafe { call!(CLOSE, descriptor) };
}

/// Makes `to` another name of `from`, kept across exec.
pub fn duplicate_to(from: Descriptor, to: Descriptor) -> Result<(), Errno> {
    if from == to {
        const F_SETFD: i32 = 2;
        // SAFETY: touches no memory.
        return unsafe { call!(FCNTL, from, F_SETFD, 0) }.map(drop);
    }
    // SAFETY: touches no memory.
    unsafe { call!(DUP2, from, to) }.map(drop)
}

/// Moves a descriptor to `lowest` or above, where the numbers that programs expect things at are not in the way.
pub fn move_above(descriptor: Descriptor, lowest: Descriptor) -> Result<Descriptor, Errno> {
    const F_DUPFD_CLOEXEC: i32 = 1030;
    if descriptor >= lowest {
        return Ok(descriptor);
    }
    // SAFETY: touches no memory.
    let moved = unsafe { call!(FCNTL, descriptor, F_DUPFD_CLOEXEC, lowest) }?;
    close(descriptor);
    Ok(moved as Descriptor)
}

/// Closes every descriptor but those of `kept`, which is sorted by it.
pub fn close_all_but(kept: &mut [Descriptor]) {
    kept.sort_unstable();
    let mut first = 0;
    for &descriptor in kept.iter() {
        if descriptor > first {
            close_range(first, descriptor - 1, 0);
        }
        first = first.max(descriptor + 1);
    }
    close_range(first, i32::MAX, 0);
}

/// Closes every descriptor from `lowest` on, but one. Kernels before Linux 5.9 close none.
pub fn close_from(lowest: Descriptor, kept: Descriptor) {
    if kept > lowest {
        close_range(lowest, kept - 1, 0);
    }
    close_range(lowest.max(kept + 1), i32::MAX, 0);
}

/// Makes every descriptor from `first` on close at exec.
pub fn close_on_exec_from(first: Descriptor) {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    close_range(first, i32::MAX, CLOSE_RANGE_CLOEXEC);
}

fn close_range(first: Descriptor, last: Descriptor, flags: u32) {
    // SAFETY: touches descriptors only.
    let _ = unsafe { call!(CLOSE_RANGE, first, last, flags) };
}

/// What to wait for on a descriptor, and what came (`struct pollfd`). A negative descriptor is passed over.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    /// The descriptor.
    pub descriptor: Descriptor,
    events: i16,
    came: i16,
}

impl Interest {
    /// Something to read, or the other end's closing.
    pub const fn readable(descriptor: Descriptor) -> Self {
        Interest {
            descriptor,
            events: POLLIN,
            came: 0,
        }
    }

    /// Nothing.
    pub const NONE: Self = Interest::readable(-1);

    /// Whether anything came.
    pub fn ready(&self) -> bool {
        self.came != 0
    }
}

/// Sleeps for some milliseconds; a signal that is handled ends it, too.
pub fn nap(milliseconds: u32) {
    let time = [
        i64::from(milliseconds / 1000),
        i64::from(milliseconds % 1000) * 1_000_000,
    ];
    // SAFETY: nothing is waited for, and the time is two numbers that are read.
    let _ = unsafe { call!(PPOLL, 0usize, 0usize, time.as_ptr(), 0usize, 8usize) };
}

/// Reads names of an opened directory (`struct linux_dirent64`, one after the other); 0 is the end.
pub fn read_directory(directory: Descriptor, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length describe `buffer`.
    unsafe { call!(GETDENTS64, directory, buffer.as_mut_ptr(), buffer.len()) }
}

/// Sleeps until something comes; a signal that is handled ends it, too.
pub fn poll(interests: &mut [Interest]) -> Result<(), Errno> {
    // SAFETY: the pointer and the count describe `interests`; without a time limit or a mask nothing else is read.
    let result = unsafe {
        call!(
            PPOLL,
            interests.as_mut_ptr(),
            interests.len(),
            0usize,
            0usize,
            8usize
        )
    };
    if result.is_err() {
        interests.iter_mut().for_each(|interest| interest.came = 0);
    }
    result.map(drop)
}
