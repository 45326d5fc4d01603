//! System calls for which no crate has a safe wrapper. All unsafe code of the launcher is here.

use std::{
    convert::Infallible,
    ffi::{CStr, c_char, c_int},
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use rustix::process::Pid;
use seccompiler::sock_filter;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Runs `child` in a copy of this process, in new namespaces (clone3(2)); gives its pid and a pidfd.
///
/// This process must have one thread: in a copy of several, locks that another thread held stay locked. `child` never
/// comes back; should it panic, the copy ends with status 125 instead of running on in its caller's name.
pub(crate) fn clone_process(
    namespaces: c_int,
    child: impl FnOnce() -> Infallible,
) -> io::Result<(Pid, OwnedFd)> {
    /// `struct clone_args` of the kernel, first version.
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
    }
    let mut pidfd: RawFd = -1;
    let mut arguments = Arguments {
        flags: (namespaces | libc::CLONE_PIDFD) as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..Arguments::default()
    };
    // SAFETY: without CLONE_VM the child has its own copy of all memory and goes on on its own copy of this stack, as
    // after fork(2); the arguments outlive the call, and the kernel writes the one place they name, `pidfd`.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<Arguments>())
    })?;
    if pid == 0 {
        let _ = catch_unwind(AssertUnwindSafe(child));
        exit(125);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidData)?;
    Ok((pid, pidfd))
}

/// Ends the process without running anything of it.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: _exit touches no memory.
    unsafe { libc::_exit(code) }
}

/// Changes the attributes of a mount and of all mounts below it (mount_setattr(2)).
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attributes = Attributes {
        set,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string and the size is that of `attributes`, which the kernel only reads.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    })?;
    Ok(())
}

/// Closes every descriptor but those of `kept`.
///
/// Whatever owns a closed one must never be used or dropped again: for a process that only has exec, the loop of PID 1
/// or exit before it.
pub(crate) fn close_all_but(kept: &mut [RawFd]) {
    kept.sort_unstable();
    let mut first = 0;
    for &descriptor in kept.iter() {
        if descriptor > first {
            close_range(first, descriptor - 1, 0);
        }
        first = descriptor + 1;
    }
    close_range(first, c_int::MAX, 0);
}

/// Makes every descriptor above standard error close at exec.
pub(crate) fn close_on_exec() {
    close_range(3, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC);
}

fn close_range(first: c_int, last: c_int, flags: libc::c_uint) {
    // SAFETY: touches descriptors only; see the callers for who may still own them.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// Gives SIGPIPE its default action back, which Rust's runtime took.
pub(crate) fn reset_sigpipe() {
    // SAFETY: SIG_DFL is a valid disposition and replaces no handler anyone relies on.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Strings as exec wants them: pointers into them, and a null pointer at the end.
pub(crate) struct Vector(Vec<*const c_char>);

impl Vector {
    /// The strings must outlive it.
    pub(crate) fn new<'a>(strings: impl IntoIterator<Item = &'a CStr>) -> Self {
        let pointers = strings.into_iter().map(CStr::as_ptr);
        Vector(pointers.chain([ptr::null()]).collect())
    }
}

/// execve(2): comes back only when it fails.
pub(crate) fn execute(program: &CStr, arguments: &Vector, environment: &Vector) -> io::Error {
    // SAFETY: both vectors end in a null pointer, and what they point to lives as long as the strings that made them,
    // which belong to the launch.
    unsafe {
        libc::execve(
            program.as_ptr(),
            arguments.0.as_ptr(),
            environment.0.as_ptr(),
        )
    };
    io::Error::last_os_error()
}

/// Installs a seccomp filter on this thread.
pub(crate) fn install_filter(program: &[sock_filter]) -> io::Result<()> {
    seccomp(program, 0).map(drop)
}

/// Installs a seccomp filter and gives the descriptor its notifications are read from.
pub(crate) fn install_listening_filter(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Once a notification is being handled only a fatal signal interrupts the caller: without (before Linux 5.19) a
    // signal restarts the call, and it is recorded twice, which is harmless.
    let killable = listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let descriptor = match seccomp(program, killable) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => seccomp(program, listener)?,
        other => other?,
    };
    // SAFETY: with this flag the call gives a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

fn seccomp(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `filter` describes `program`, whose instructions have the kernel's layout; the kernel copies and checks it.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    })
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

/// Brings the loopback device of this network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a structure of integers and a union of such, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    check(
        // SAFETY: the request reads a structure of exactly this type.
        unsafe {
            libc::ioctl(
                socket.as_raw_fd(),
                libc::SIOCSIFFLAGS as _,
                &raw const request,
            )
        }
        .into(),
    )?;
    Ok(())
}
