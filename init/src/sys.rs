//! The system calls of PID 1. All unsafe code of the crate is here.

use core::{
    ffi::{c_int, c_void},
    mem, ptr,
};

/// A process id as this PID namespace counts.
pub type Pid = libc::pid_t;

/// A set of signals.
pub type SignalSet = libc::sigset_t;

/// What a system call failed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub c_int);

/// SIGCONT.
pub const CONTINUE: c_int = libc::SIGCONT;

/// Forwarded to the command, when a process sent it. What reports a fault of PID 1 itself is not, nor what is about the
/// terminal's input and output: those are for whom the kernel sends them to.
const FORWARDED: [c_int; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGTSTP,
];

/// Bytes of stack for the moment between clone and exec.
const STACK: usize = 256 * 1024;

fn errno() -> Errno {
    // SAFETY: the location is this thread's own and always readable.
    Errno(unsafe { *libc::__errno_location() })
}

/// A signal that was taken from the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A child changed.
    Child,
    /// The kernel's doing, such as Ctrl-C on the terminal.
    Terminal(c_int),
    /// A process sent it.
    Sent(c_int),
}

/// How a child changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// By this signal.
    Stopped(c_int),
    /// With this status.
    Ended(c_int),
}

/// Which of two descriptors has something to read, or has come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The first.
    pub first: bool,
    /// The second.
    pub second: bool,
}

/// Blocks every signal PID 1 acts on and gives a descriptor to read them from, close-on-exec.
///
/// Called before the command is started: a signal that comes in between waits instead of being lost, for the kernel
/// drops unblocked signals to a PID 1 that has no handler for them. SIGTTOU is blocked as well, so that handing over the
/// terminal from the background works.
pub fn block_signals() -> Result<c_int, Errno> {
    let mut set = mem::MaybeUninit::<SignalSet>::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it, and the other calls only take pointers to it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in FORWARDED {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        let descriptor = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if descriptor < 0 {
            return Err(errno());
        }
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTTOU);
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) < 0 {
            return Err(errno());
        }
        Ok(descriptor)
    }
}

/// Starts a child that shares this process's memory until it executes a program (vfork(2), on a stack of its own), and
/// runs `child` in it. `child` leaves by exec; when it returns instead, the process ends with status 127.
///
/// What `child` writes is seen here afterwards: that is how it says why it failed. It must not unwind.
pub fn spawn(child: &mut dyn FnMut()) -> Result<Pid, Errno> {
    extern "C" fn enter(argument: *mut c_void) -> c_int {
        // SAFETY: `argument` is the address of `child` below, which outlives this call: the parent is suspended.
        let child = unsafe { &mut *argument.cast::<&mut dyn FnMut()>() };
        child();
        127
    }
    let mut child: &mut dyn FnMut() = child;
    // SAFETY: a fresh private mapping, of which nothing else knows; unmapped below, when the child has left it.
    let stack = unsafe {
        libc::mmap(
            ptr::null_mut(),
            STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if stack == libc::MAP_FAILED {
        return Err(errno());
    }
    // SAFETY: CLONE_VFORK suspends this single-threaded process until the child has executed a program or ended, so that
    // the two never run in the shared memory at once; the stack is the child's alone and its top is 16-byte aligned.
    // Signal handlers are not shared (no CLONE_SIGHAND). When it returns here, the child is out of this memory.
    let pid = unsafe {
        let top = stack.cast::<u8>().add(STACK).cast::<c_void>();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(enter, top, flags, (&raw mut child).cast());
        let error = errno();
        libc::munmap(stack, STACK);
        if pid < 0 {
            return Err(error);
        }
        pid
    };
    Ok(pid)
}

/// Sleeps until one of two descriptors is readable or closed at its other end.
pub fn wait_readable(first: c_int, second: c_int) -> Ready {
    let interest = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled = [interest(first), interest(second)];
    // SAFETY: the pointer and the count describe `polled`.
    unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) };
    Ready {
        first: polled[0].revents != 0,
        second: polled[1].revents != 0,
    }
}

/// The next signal that waits, if any.
pub fn next_signal(descriptor: c_int) -> Option<Event> {
    let mut information = mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: at most `size` bytes go into a value of that size.
    let length = unsafe { libc::read(descriptor, information.as_mut_ptr().cast(), size) };
    if length != size as isize {
        return None;
    }
    // SAFETY: all zeroes are a valid value, and the kernel has filled it whole.
    let information = unsafe { information.assume_init() };
    let signal = information.ssi_signo as c_int;
    Some(if signal == libc::SIGCHLD {
        Event::Child
    } else if information.ssi_code == libc::SI_KERNEL {
        Event::Terminal(signal)
    } else {
        Event::Sent(signal)
    })
}

/// The next child that ended, or (when `stops`) stopped.
pub fn wait_child(stops: bool) -> Option<(Pid, Wait)> {
    let options = libc::WNOHANG | if stops { libc::WUNTRACED } else { 0 };
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let pid = unsafe { libc::waitpid(-1, &mut status, options) };
    if pid <= 0 {
        return None;
    }
    Some(if libc::WIFSTOPPED(status) {
        (pid, Wait::Stopped(libc::WSTOPSIG(status)))
    } else {
        (pid, Wait::Ended(status))
    })
}

/// A status as shells count: the code, or 128 and the signal's number.
pub fn shell_code(status: c_int) -> c_int {
    if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

/// Signals one process; one that has ended meanwhile is none of our concern.
pub fn kill(pid: Pid, signal: c_int) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

/// Signals a process group.
pub fn kill_group(group: Pid, signal: c_int) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(-group, signal) };
}

/// Makes a process group the terminal's foreground. A terminal that has hung up is found out by those who read it.
pub fn give_terminal(terminal: c_int, group: Pid) {
    // SAFETY: no memory is involved.
    unsafe { libc::tcsetpgrp(terminal, group) };
}

/// One packet; `Some(0)` when the other end is gone, `None` when there is none after all.
pub fn receive(descriptor: c_int, packet: &mut [u8]) -> Option<usize> {
    // SAFETY: the pointer and the length describe `packet`.
    let length = unsafe {
        libc::recv(
            descriptor,
            packet.as_mut_ptr().cast(),
            packet.len(),
            libc::MSG_DONTWAIT,
        )
    };
    if length >= 0 {
        return Some(length as usize);
    }
    match errno().0 {
        libc::EAGAIN | libc::EINTR => None,
        _ => Some(0),
    }
}

/// Sends one packet. An owner that is gone is noticed by [`receive`].
pub fn send(descriptor: c_int, packet: &[u8]) {
    // SAFETY: the pointer and the length describe `packet`.
    unsafe {
        libc::send(
            descriptor,
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_NOSIGNAL,
        )
    };
}

/// Ends the process.
pub fn exit(code: c_int) -> ! {
    // SAFETY: runs no destructor and touches no memory.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_shell_codes() {
        assert_eq!(shell_code(0x0700), 7);
        assert_eq!(shell_code(libc::SIGKILL), 137);
        assert_eq!(shell_code(libc::SIGSEGV | 0x80), 139);
    }
}
