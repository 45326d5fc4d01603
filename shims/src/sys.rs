//! System calls for which no crate has a safe wrapper. All unsafe code of the launcher is here.

use std::{
    ffi::{c_char, c_int},
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes over a descriptor that `envd-init` has just opened for this process.
pub(crate) fn adopt(descriptor: RawFd) -> OwnedFd {
    // SAFETY: it is fresh from the kernel and nobody else's; the callers take each but once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Ends the process without running anything of it.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: _exit touches no memory.
    unsafe { libc::_exit(code) }
}

/// Whether the kernel knows an action of seccomp filters.
pub(crate) fn filter_action_available(action: u32) -> bool {
    // SAFETY: the call reads one 32-bit number.
    unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        ) == 0
    }
}

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    pub(crate) thread: u32,
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
}

/// What a system call is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It did what it was asked.
    Success,
    /// It failed.
    Errno(c_int),
    /// The kernel is to carry it out after all.
    Continue,
}

/// Reads the next notification. `Ok(None)` when its caller has gone before it could be read.
pub(crate) fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    // SAFETY: a structure of integers, for which zeroes are valid (and demanded by the kernel).
    let mut notification: libc::seccomp_notif = unsafe { mem::zeroed() };
    let result = check(
        // SAFETY: the request fills a structure of exactly this type.
        unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut notification,
            )
        }
        .into(),
    );
    match result {
        Ok(_) => Ok(Some(Notification {
            id: notification.id,
            thread: notification.pid,
            number: notification.data.nr.into(),
            arguments: notification.data.args,
        })),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR | libc::EAGAIN) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Whether the caller of a notification still waits; if not, its process id may already be someone else's.
pub(crate) fn notification_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the request reads one 64-bit number.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id,
        ) == 0
    }
}

/// Answers a notification. A caller that has gone needs no answer.
pub(crate) fn answer_notification(
    listener: BorrowedFd<'_>,
    id: u64,
    answer: Answer,
) -> io::Result<()> {
    let mut response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: match answer {
            Answer::Errno(errno) => -errno,
            Answer::Success | Answer::Continue => 0,
        },
        flags: match answer {
            Answer::Continue => libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Answer::Success | Answer::Errno(_) => 0,
        },
    };
    let result = check(
        // SAFETY: the request reads a structure of exactly this type.
        unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut response,
            )
        }
        .into(),
    );
    match result {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The kernel's Landlock version, 0 when it has none (or it is not enabled).
pub(crate) fn landlock_version() -> i32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no structure.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0,
            VERSION,
        )
    };
    version.clamp(0, i32::MAX.into()) as i32
}

/// Lets go of the pages of this process's program code: those that are used again come back from the file. For a process that has
/// started and is going to stay: most of what it has run until then it does not run again.
pub fn let_go_of_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp")) = (fields.next(), fields.next()) else {
            continue;
        };
        // Offset and device, then the inode; what the kernel itself has mapped has none.
        if matches!(fields.nth(2), None | Some("0")) {
            continue;
        }
        let ends = range
            .split_once('-')
            .map(|(start, end)| [start, end].map(|end| usize::from_str_radix(end, 16)));
        let Some([Ok(start), Ok(end)]) = ends else {
            continue;
        };
        // SAFETY: a mapping of a file that cannot be written to and never was: all its pages are the file's, and the kernel reads
        // them again when they are touched.
        let advised = unsafe {
            libc::madvise(
                ptr::with_exposed_provenance_mut(start),
                end - start,
                libc::MADV_DONTNEED,
            )
        };
        check(advised.into())?;
    }
    Ok(())
}

/// Has host names looked up in `/etc/hosts` and by DNS only, whatever `nsswitch.conf` says.
///
/// For programs that are linked statically: these two are part of the C library, for any other way it would load shared
/// libraries of the host, which belong to the host's C library and not to this one. Call it before there is a second thread.
#[cfg(target_env = "gnu")]
pub fn look_names_up_without_modules() {
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both are C strings, of which the library keeps what it needs. It fails only for a database that it does not
    // know, and then nothing has changed.
    unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of program code of this process that are in memory for it.
    fn code() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let mut sum = 0;
        for line in maps.lines() {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["Rss:", number, "kB"] if inside => sum += number.parse::<u64>().unwrap(),
                [range, mode, ..] if range.contains('-') => inside = mode == "r-xp",
                _ => {}
            }
        }
        sum
    }

    #[test]
    fn code_that_was_let_go_of_is_there_when_it_is_needed() {
        // Not a page of it would be gone if nothing had been there.
        let before = code();
        let_go_of_code().unwrap();
        assert!(code() < before, "{} KiB of {before}", code());
        assert_eq!("1a".parse::<u8>().ok(), None);
    }
}
