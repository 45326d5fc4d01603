//! What happens, to be told in each name's own words.

use crate::sys::{Errno, Pid};

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// Orphans fall to another process.
    NotReaper,
    /// They fall to this one from now on, or would not.
    Subreaper(Result<(), Errno>),
    /// No signal will come when the parent dies.
    NoParentDeathSignal(Errno),
    /// The terminal was given up, by the leader of its session or not; or it was not.
    LeftTerminal(Result<bool, Errno>),
    /// A signal that giving up the terminal itself had caused.
    HandOff(i32),
    /// In the child: it has a session of its own, or not.
    Session(Result<(), Errno>),
    /// In the child: no process group of its own.
    NoGroup(Errno),
    /// In the child: no terminal was handed over.
    NoTerminal(Errno),
    /// In the child: the program is not executed.
    NotExecuted(&'e [u8], Errno),
    /// There is no child.
    NotStarted(Errno),
    /// There is one, and it runs the program.
    Started(&'e [u8], Pid),
    /// The directory it was started in stays in use.
    NoRoot(Errno),
    /// A signal came.
    Received(i32),
    /// The second is sent in place of the first.
    Rewritten(i32, i32),
    /// It was sent on.
    Forwarded(i32),
    /// It was not, as was asked for.
    Dropped(i32),
    /// It could not be.
    NotForwarded(i32, Errno),
    /// This process stops, as the program does.
    Suspending,
    /// A child has ended with this status, as waitpid(2) gives it; the program itself, or an orphan.
    Reaped(Pid, i32, bool),
    /// All is done; the exit code.
    Ended(i32),
}
