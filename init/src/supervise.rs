//! The loop of PID 1.

use core::ffi::c_int;

use crate::{
    protocol::{LENGTH, Order, Report},
    sys::{self, Event, Pid, Wait},
};

/// What PID 1 has to look after.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// The command, its child.
    pub command: Pid,
    /// The connection to the owner.
    pub control: c_int,
    /// Signals to act on, blocked since before the command was started (see [`sys::block_signals`]).
    pub signals: c_int,
    /// The terminal, when the command has a process group of its own that is to be in its foreground.
    pub terminal: Option<c_int>,
}

/// Exit status when the owner has gone: nobody is left to read it.
const ABANDONED: c_int = 129;

/// Runs until the command or the owner has ended, then ends the process, and so the PID namespace.
///
/// The calling process must be PID 1 of its namespace, have `duty.command` as its child, and hold no other descriptor
/// than those of `duty` if the environment is not to hold on to what it was given.
pub fn supervise(duty: Duty) -> ! {
    loop {
        // Both descriptors are looked at after every wake-up, so that nothing depends on which one caused it.
        let ready = sys::wait_readable(duty.control, duty.signals);
        if ready.second {
            while let Some(event) = sys::next_signal(duty.signals) {
                match event {
                    Event::Child => reap(&duty),
                    // The terminal signals the whole process group: the command has had this one already.
                    Event::Terminal(_) => {}
                    Event::Sent(signal) => sys::kill(duty.command, signal),
                }
            }
        }
        if ready.first {
            let mut packet = [0; LENGTH];
            match sys::receive(duty.control, &mut packet) {
                Some(0) => sys::exit(ABANDONED),
                Some(length) => {
                    if let Some(Order::Resume(foreground)) = Order::decode(&packet[..length]) {
                        resume(&duty, foreground);
                    }
                }
                None => {}
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
            Wait::Stopped(signal) => sys::send(duty.control, &Report::Stopped(signal).encode()),
            Wait::Ended(status) => {
                sys::send(duty.control, &Report::Ended(status).encode());
                sys::exit(sys::shell_code(status));
            }
        }
    }
}

/// Continues the command's process group. It leads one, since only then is it reported as stopped.
fn resume(duty: &Duty, foreground: bool) {
    if let (Some(terminal), true) = (duty.terminal, foreground) {
        sys::give_terminal(terminal, duty.command);
    }
    sys::kill_group(duty.command, sys::CONTINUE);
}
