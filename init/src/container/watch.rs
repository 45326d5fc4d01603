//! The loop: reaps, forwards signals, sleeps.

use super::{
    event::{Event, tell},
    settings::{OF_TERMINAL, Placement, Settings},
};
use crate::sys::{self, Descriptor, Errno, Interest, Pid, Received, SignalSet, constant::*};

/// What is to be looked after.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// The program; 0 for none.
    pub child: Pid,
    /// Every signal that is acted on, to be read from here.
    pub signals: Descriptor,
    /// Signals that came before the loop.
    pub early: SignalSet,
}

/// Runs until the program has ended; gives the exit code.
pub fn watch(settings: &Settings, duty: &Duty) -> i32 {
    for signal in 1..=64 {
        if duty.early.has(signal) {
            forward(settings, duty, signal);
        }
    }
    let mut interests = [Interest::readable(duty.signals)];
    loop {
        let _ = sys::poll(&mut interests);
        while let Some(received) = sys::next_signal(duty.signals) {
            if let Some(code) = act(settings, duty, received) {
                tell(settings, Event::Ended(code));
                return code;
            }
        }
    }
}

/// Does what a signal asks for; gives the exit code when that is the end.
fn act(settings: &Settings, duty: &Duty, received: Received) -> Option<i32> {
    let signal = received.signal;
    if signal == SIGPIPE && received.sender == sys::own_pid() {
        // From a message to someone who has gone: no matter of the program's.
        return None;
    }
    if signal == SIGCHLD {
        tell(settings, Event::ReceivedOfChild(signal));
        return reap(settings, duty);
    }
    tell(settings, Event::Received(signal));
    if settings.pause {
        return matches!(signal, SIGINT | SIGTERM).then_some(0);
    }
    // The program is in the same foreground group and has had it from the terminal.
    let had =
        received.from_kernel && settings.placement == Placement::Beside && OF_TERMINAL.has(signal);
    if !had && !settings.kept.has(signal) {
        forward(settings, duty, signal);
    }
    if settings.suspending.has(signal) {
        tell(settings, Event::Suspending);
        let _ = sys::kill(sys::own_pid(), SIGSTOP);
    }
    None
}

/// Sends a signal, or what was asked for in its place, to the program.
fn forward(settings: &Settings, duty: &Duty, signal: i32) {
    let rewritten = settings.rewrites.get(signal);
    if let Some(other) = rewritten {
        tell(settings, Event::Rewritten(signal, other));
    }
    let signal = rewritten.unwrap_or(signal);
    if signal == 0 {
        return tell(settings, Event::Dropped(signal));
    }
    let target = if settings.to_group {
        -duty.child
    } else {
        duty.child
    };
    let event = match sys::kill(target, signal) {
        Ok(()) => Event::Forwarded(signal),
        Err(Errno(ESRCH)) => Event::Late(signal),
        Err(error) => Event::NotForwarded(signal, error),
    };
    tell(settings, event);
}

/// Takes every child that has ended; gives the exit code when the program is among them. One SIGCHLD may stand for several:
/// the kernel merges pending ones.
fn reap(settings: &Settings, duty: &Duty) -> Option<i32> {
    let mut ended = None;
    while let Some((pid, sys::Wait::Ended(status))) = sys::wait_child(false) {
        let signal = status & 0x7f;
        let code = sys::shell_code(status);
        let (ending, of_program) = match signal {
            0 => (Event::Exited(pid, code), Event::ProgramExited(code)),
            _ => (Event::Killed(pid, signal), Event::ProgramKilled(signal)),
        };
        tell(settings, ending);
        if pid == duty.child {
            tell(settings, of_program);
            ended = Some(code);
        } else {
            tell(settings, Event::Orphan(pid));
        }
    }
    let code = ended?;
    if settings.ends_group && settings.to_group {
        forward(settings, duty, SIGTERM);
    } else if settings.ends_group {
        // Nothing is left that is looked after, and the number may be another's already.
        tell(settings, Event::Late(SIGTERM));
    }
    let forgiven = settings.forgiven.has(code as u8);
    Some(if forgiven { 0 } else { code })
}
