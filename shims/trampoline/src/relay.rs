//! Waiting for a command, and passing signals on to it.

use envd_init::{
    protocol::{FAILURE_LENGTH, Order, Report},
    sys::{self, Descriptor, Interest, Mask, Received, SignalSet, constant::*},
};

/// Signals that are passed on.
const RELAYED: SignalSet = SignalSet::of(&[
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGTSTP,
]);

/// Signals held back for a command.
pub(crate) struct Held {
    descriptor: Descriptor,
    /// The mask before.
    pub(crate) before: SignalSet,
}

impl Held {
    pub(crate) fn new() -> Option<Self> {
        // Whoever has this process not stop by it has the command not stop either.
        let held = match sys::is_ignored(SIGTSTP) {
            true => RELAYED.without(SIGTSTP),
            false => RELAYED,
        };
        let descriptor = sys::signal_descriptor(held).ok()?;
        match sys::mask_signals(Mask::Block, held) {
            Ok(before) => Some(Held { descriptor, before }),
            Err(_) => {
                sys::close(descriptor);
                None
            }
        }
    }

    /// As before. What came in meanwhile takes effect now.
    pub(crate) fn release(self) {
        let _ = sys::mask_signals(Mask::Set, self.before);
        sys::close(self.descriptor);
    }
}

/// Stops this process as SIGTSTP does, and comes back when it is continued: at once where no shell is there to do that (an
/// orphaned process group).
fn stop() {
    let signal = SignalSet::of(&[SIGTSTP]);
    let _ = sys::kill(sys::own_pid(), SIGTSTP);
    let _ = sys::mask_signals(Mask::Unblock, signal);
    let _ = sys::mask_signals(Mask::Block, signal);
}

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It ended, with this status of waitpid(2).
    Ended(i32),
    /// It did not start.
    Failed,
    /// Its environment is gone.
    Gone,
}

/// Waits until the command whose connection this is has ended, and passes on what signals come meanwhile. `apart` says that the
/// command has a session of its own; else what a terminal sends reaches it, too. What comes on `other`, if anything, means that
/// it will not start.
pub(crate) fn wait(connection: Descriptor, held: &Held, other: Descriptor, apart: bool) -> Outcome {
    let mut interests = [
        Interest::readable(connection),
        Interest::readable(held.descriptor),
        Interest::readable(other),
    ];
    let mut started = false;
    loop {
        let _ = sys::poll(&mut interests);
        if interests[1].ready() {
            while let Some(received) = sys::next_signal(held.descriptor) {
                pass(connection, received, apart);
            }
        }
        if interests[0].ready() {
            let mut packet = [0; FAILURE_LENGTH];
            let length = match sys::receive(connection, &mut packet, false) {
                Ok(received) => received.length,
                Err(sys::Errno(EAGAIN | EINTR)) => continue,
                Err(_) => 0,
            };
            match packet.get(..length).and_then(Report::decode) {
                Some(Report::Ended(status)) => return Outcome::Ended(status),
                Some(Report::Started(_)) => started = true,
                Some(Report::Stopped(_)) => {}
                // The daemon's error comes before the connection ends, and may be seen together with that.
                None if !started && (length > 0 || has_said(other)) => return Outcome::Failed,
                None => return Outcome::Gone,
            }
        } else if interests[2].ready() {
            // What the daemon has to say before it hands over is an error; after that, it is its end, which the connection
            // tells better.
            if !started {
                return Outcome::Failed;
            }
            interests[2] = Interest::NONE;
        }
    }
}

/// Whether something has come that is not the end.
fn has_said(other: Descriptor) -> bool {
    let mut packet = [0; 1];
    sys::receive(other, &mut packet, false).is_ok_and(|received| received.length > 0)
}

/// Passes a signal on.
fn pass(connection: Descriptor, received: Received, apart: bool) {
    // What a terminal sends, it sends to its whole foreground process group.
    if received.from_kernel && !apart {
        if received.signal == SIGTSTP {
            stop();
        }
        return;
    }
    if received.signal == SIGTSTP {
        // In its session nobody could continue the command, so the kernel would not let it stop itself.
        order(connection, SIGSTOP);
        stop();
        order(connection, SIGCONT);
    } else {
        order(connection, received.signal);
    }
}

/// Sends a signal on as an order.
fn order(connection: Descriptor, signal: i32) {
    let _ = sys::send(connection, &Order::Signal(signal).encode(), &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the daemon says when it refuses, and hangs up, would be lost behind the end of the connection.
    #[test]
    fn an_error_counts_though_the_connection_has_ended_too() {
        let held = || Held {
            descriptor: -1,
            before: SignalSet(0),
        };
        let ended = |says: bool| {
            let (ours, theirs) = sys::packet_pair().unwrap();
            let (daemon, other) = sys::packet_pair().unwrap();
            if says {
                sys::send(other, b"no", &[]).unwrap();
            }
            sys::close(theirs);
            sys::close(other);
            let outcome = wait(ours, &held(), daemon, true);
            sys::close(ours);
            sys::close(daemon);
            outcome
        };
        assert_eq!(ended(true), Outcome::Failed);
        assert_eq!(ended(false), Outcome::Gone);
    }
}
