//! Signals.

use core::mem::MaybeUninit;

use super::{Descriptor, Errno, Pid, call, constant::*};

/// A set of signals: bit n-1 is signal n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// Every signal.
    pub const ALL: SignalSet = SignalSet(!0);

    /// These.
    pub const fn of(signals: &[i32]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < signals.len() {
            bits |= 1 << (signals[at] - 1);
            at += 1;
        }
        SignalSet(bits)
    }

    /// And this one.
    #[must_use]
    pub const fn with(self, signal: i32) -> Self {
        SignalSet(self.0 | 1 << (signal - 1))
    }

    /// But not this one.
    #[must_use]
    pub const fn without(self, signal: i32) -> Self {
        SignalSet(self.0 & !(1 << (signal - 1)))
    }

    /// Each of it.
    pub fn iter(self) -> impl Iterator<Item = i32> {
        (1..=64).filter(move |signal| self.has(*signal))
    }

    /// Whether it has this one.
    pub const fn has(self, signal: i32) -> bool {
        self.0 & (1 << (signal - 1)) != 0
    }
}

/// What to do with the set of blocked signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mask {
    /// Block these too.
    Block = 0,
    /// Block these no longer.
    Unblock = 1,
    /// Block exactly these.
    Set = 2,
}

/// Changes which signals are blocked; gives the set before.
pub fn mask_signals(how: Mask, set: SignalSet) -> Result<SignalSet, Errno> {
    let mut before = SignalSet(0);
    // SAFETY: both sets have the size that is given; one is read and the other written.
    unsafe {
        call!(
            RT_SIGPROCMASK,
            how as i32,
            &raw const set,
            &raw mut before,
            8usize
        )
    }?;
    Ok(before)
}

/// A descriptor from which signals are read that are blocked; closed at exec, and never waits.
pub fn signal_descriptor(set: SignalSet) -> Result<Descriptor, Errno> {
    // SAFETY: the set has the size that is given.
    unsafe {
        call!(
            SIGNALFD4,
            -1,
            &raw const set,
            8usize,
            O_CLOEXEC | O_NONBLOCK
        )
    }
    .map(|fd| fd as Descriptor)
}

/// A signal that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Which.
    pub signal: i32,
    /// By the kernel on its own account, such as Ctrl-C on a terminal.
    pub from_kernel: bool,
    /// Who sent it; 0 from outside the PID namespace.
    pub sender: Pid,
}

/// The next signal that waits, if any.
pub fn next_signal(descriptor: Descriptor) -> Option<Received> {
    /// `struct signalfd_siginfo`, 128 bytes.
    #[repr(C)]
    struct Information {
        signal: u32,
        errno: i32,
        code: i32,
        pid: u32,
        _rest: [u64; 14],
    }
    let mut information = MaybeUninit::<Information>::zeroed();
    let size = size_of::<Information>();
    // SAFETY: at most `size` bytes go into a value of that size.
    let read = unsafe { call!(READ, descriptor, information.as_mut_ptr(), size) };
    if read != Ok(size) {
        return None;
    }
    // SAFETY: integers, which the kernel has filled.
    let information = unsafe { information.assume_init() };
    Some(Received {
        signal: information.signal as i32,
        from_kernel: information.code == SI_KERNEL,
        sender: information.pid as Pid,
    })
}

/// What a signal does by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// What the kernel does by default.
    Default = 0,
    /// Nothing.
    Ignore = 1,
}

/// Sets what a signal does by itself.
pub fn set_disposition(signal: i32, disposition: Disposition) -> Result<(), Errno> {
    // `struct sigaction` of the kernel: handler, flags, restorer, mask; those with neither handler nor flags need no more.
    let action: [usize; 4] = [disposition as usize, 0, 0, 0];
    // SAFETY: the structure is only read, no handler is named, and the mask has the size that is given.
    unsafe { call!(RT_SIGACTION, signal, action.as_ptr(), 0usize, 8usize) }.map(drop)
}

/// Whether a signal is ignored.
pub fn is_ignored(signal: i32) -> bool {
    let mut action: [usize; 4] = [0; 4];
    // SAFETY: the structure is only written, and has the kernel's size.
    let asked = unsafe { call!(RT_SIGACTION, signal, 0usize, action.as_mut_ptr(), 8usize) };
    asked.is_ok() && action[0] == Disposition::Ignore as usize
}

/// Signals one process, or (negative) a process group. One that has ended meanwhile is ESRCH.
pub fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(KILL, pid, signal) }.map(drop)
}

/// Signals the process of a pidfd.
pub fn signal_process(pidfd: Descriptor, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    unsafe { call!(PIDFD_SEND_SIGNAL, pidfd, signal, 0usize, 0) }.map(drop)
}
