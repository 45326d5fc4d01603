//! The loop of PID 1.

use crate::{
    protocol::{LENGTH, Order, Report},
    sys::{self, Descriptor, Errno, Interest, Mask, Pid, SignalSet, Wait, constant::*},
};

/// Forwarded to the command, when a process sent it. What reports a fault of PID 1 itself is not, nor what is about the
/// terminal's input and output: those are for whom the kernel sends them to.
const FORWARDED: SignalSet = SignalSet::of(&[
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGCONT, SIGTSTP,
]);

/// What PID 1 has to look after.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// The command, its child.
    pub command: Pid,
    /// The connection to the owner.
    pub control: Descriptor,
    /// Signals to act on, blocked since before the command was started (see [`block_signals`]).
    pub signals: Descriptor,
    /// The terminal, when the command has a process group of its own that is to be in its foreground.
    pub terminal: Option<Descriptor>,
}

/// Exit status when the owner has gone: nobody is left to read it.
const ABANDONED: i32 = 129;

/// Blocks every signal PID 1 acts on and gives a descriptor to read them from, close-on-exec.
///
/// Called before the command is started: a signal that comes in between waits instead of being lost, for the kernel
/// drops unblocked signals to a PID 1 that has no handler for them. SIGTTOU is blocked as well, so that handing over the
/// terminal from the background works.
pub fn block_signals() -> Result<Descriptor, Errno> {
    let read = FORWARDED.with(SIGCHLD);
    let descriptor = sys::signal_descriptor(read)?;
    sys::mask_signals(Mask::Block, read.with(SIGTTOU))?;
    Ok(descriptor)
}

/// Runs until the command or the owner has ended, then ends the process, and so the PID namespace.
///
/// The calling process must be PID 1 of its namespace, have `duty.command` as its child, and hold no other descriptor
/// than those of `duty` if the environment is not to hold on to what it was given.
pub fn supervise(duty: Duty) -> ! {
    let mut interests = [
        Interest::readable(duty.control),
        Interest::readable(duty.signals),
    ];
    loop {
        // Both descriptors are looked at after every wake-up, so that nothing depends on which one caused it.
        let _ = sys::poll(&mut interests);
        if interests[1].ready() {
            while let Some(received) = sys::next_signal(duty.signals) {
                match received.signal {
                    SIGCHLD => reap(&duty),
                    // The terminal signals the whole process group: the command has had this one already.
                    _ if received.from_kernel => {}
                    signal => {
                        let _ = sys::kill(duty.command, signal);
                    }
                }
            }
        }
        if interests[0].ready() {
            let mut packet = [0; LENGTH];
            match sys::receive(duty.control, &mut packet, false) {
                Ok(received) if received.length > 0 => {
                    let packet = packet.get(..received.length).unwrap_or_default();
                    if let Some(Order::Resume(foreground)) = Order::decode(packet) {
                        resume(&duty, foreground);
                    }
                }
                Err(Errno(EAGAIN | EINTR)) => {}
                Ok(_) | Err(_) => sys::exit(ABANDONED),
            }
        }
    }
}

/// Takes every child that has changed. One SIGCHLD may stand for several: the kernel merges pending ones.
fn reap(duty: &Duty) {
    while let Some((pid, change)) = sys::wait_child(duty.terminal.is_some()) {
        if pid != duty.command {
            continue;
        }
        match change {
            Wait::Stopped(signal) => {
                let _ = sys::send(duty.control, &Report::Stopped(signal).encode(), &[]);
            }
            Wait::Ended(status) => {
                let _ = sys::send(duty.control, &Report::Ended(status).encode(), &[]);
                sys::exit(sys::shell_code(status));
            }
        }
    }
}

/// Continues the command's process group. It leads one, since only then is it reported as stopped.
fn resume(duty: &Duty, foreground: bool) {
    if let (Some(terminal), true) = (duty.terminal, foreground) {
        let _ = sys::give_terminal(terminal, duty.command);
    }
    let _ = sys::kill(-duty.command, SIGCONT);
}
