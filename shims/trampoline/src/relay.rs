//! Waiting for a command, and passing signals on to it.

use envd_init::{
    protocol::{FAILURE_LENGTH, Order, Report},
    sys::{self, Descriptor, Interest, Mask, Received, SignalSet, constant::*},
};

/// Signals that are passed on.
const RELAYED: SignalSet = SignalSet::of(&[
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH,
]);

/// Signals held back for a command.
pub(crate) struct Held {
    pub(crate) descriptor: Descriptor,
    /// The mask before.
    pub(crate) before: SignalSet,
}

impl Held {
    pub(crate) fn new() -> Option<Self> {
        let descriptor = sys::signal_descriptor(RELAYED).ok()?;
        match sys::mask_signals(Mask::Block, RELAYED) {
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

/// Waits until the command whose connection this is has ended. `pass` is given each signal that comes meanwhile; what comes on
/// `other`, if anything, means that it will not start.
pub(crate) fn wait(
    connection: Descriptor,
    held: &Held,
    other: Descriptor,
    mut pass: impl FnMut(Received),
) -> Outcome {
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
                pass(received);
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
                None if started || length == 0 => return Outcome::Gone,
                None => return Outcome::Failed,
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

/// Sends a signal on as an order.
pub(crate) fn order(connection: Descriptor, signal: i32) {
    let _ = sys::send(connection, &Order::Signal(signal).encode(), &[]);
}
