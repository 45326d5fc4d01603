//! What happens, to be told in each name's own words.

use super::{
    message::{
        Message,
        Value::{self, Error, Number, Signal, Text},
    },
    settings::Settings,
};
use crate::sys::{self, Errno, Pid};

/// Something that happened. Words refer to what is in brackets as `%1`, `%2` and `%3`.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// Orphans fall to another process.
    NotReaper,
    /// They fall to this one from now on.
    Reaper,
    /// They do not, though that was asked for \[number, error].
    NoReaper(Errno),
    /// No signal will come when the parent dies \[number, error].
    NoParentDeathSignal(Errno),
    /// The terminal was given up by the leader of its session.
    LeftTerminal,
    /// It was given up by another process of it.
    LeftTerminalOnly,
    /// It was not given up \[number, error].
    HeldTerminal(Errno),
    /// A signal that giving up the terminal itself had caused \[number].
    HandOff(i32),
    /// In the child: it has a session of its own.
    Session,
    /// In the child: it has none \[number, error].
    NoSession(Errno),
    /// In the child: it has no process group of its own \[number, error].
    NoGroup(Errno),
    /// In the child: no terminal was handed over \[number, error].
    NoTerminal(Errno),
    /// In the child: the program is not executed \[number, error, program].
    NotExecuted(Errno, &'e [u8]),
    /// There is no child \[number, error].
    NotStarted(Errno),
    /// There is one, and it runs the program \[process, program].
    Started(Pid, &'e [u8]),
    /// The directory it was started in stays in use \[number, error].
    NoRoot(Errno),
    /// A signal came \[number].
    Received(i32),
    /// SIGCHLD came \[number].
    ReceivedOfChild(i32),
    /// The second is sent in place of the first \[number, number].
    Rewritten(i32, i32),
    /// It was sent on \[number, signal].
    Forwarded(i32),
    /// It was not, as was asked for \[number].
    Dropped(i32),
    /// It was not, since the program has gone \[number, signal].
    Late(i32),
    /// It could not be \[number, signal, error].
    NotForwarded(i32, Errno),
    /// This process stops, as the program does.
    Suspending,
    /// A child has exited \[process, exit code].
    Exited(Pid, i32),
    /// A child was ended by a signal \[process, number].
    Killed(Pid, i32),
    /// It was an orphan \[process].
    Orphan(Pid),
    /// It was the program, which had exited \[exit code].
    ProgramExited(i32),
    /// It was the program, which was ended by a signal \[number, signal].
    ProgramKilled(i32),
    /// All is done \[exit code].
    Ended(i32),
}

/// How a name speaks.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// From which level of verbosity on something is told, and in which words; none when it never is.
    pub words: fn(Event<'_>) -> (i32, &'static str),
    /// What every line of a level begins with; this process's id is `%1`.
    pub begin: fn(i32) -> &'static str,
    /// From which level on it is told on standard output.
    pub output: i32,
}

/// Tells of something that happened.
pub fn tell(settings: &Settings, event: Event<'_>) {
    let (level, words) = (settings.voice.words)(event);
    if words.is_empty() || level > settings.verbosity {
        return;
    }
    if matches!(event, Event::Orphan(_)) && !settings.tells_orphans {
        return;
    }
    let mut message = Message::to(if level < settings.voice.output { 2 } else { 1 });
    message
        .add((settings.voice.begin)(level), &[Number(sys::own_pid())])
        .add(words, &values(event))
        .add("\n", &[]);
}

/// What the words for it may refer to.
fn values(event: Event<'_>) -> [Value<'_>; 3] {
    const NONE: Value<'_> = Text(b"");
    match event {
        Event::NotReaper
        | Event::Reaper
        | Event::LeftTerminal
        | Event::LeftTerminalOnly
        | Event::Session
        | Event::Suspending => [NONE; 3],
        Event::NoReaper(error)
        | Event::NoParentDeathSignal(error)
        | Event::HeldTerminal(error)
        | Event::NoSession(error)
        | Event::NoGroup(error)
        | Event::NoTerminal(error)
        | Event::NotStarted(error)
        | Event::NoRoot(error) => [Number(error.0), Error(error), NONE],
        Event::NotExecuted(error, program) => [Number(error.0), Error(error), Text(program)],
        Event::Started(pid, program) => [Number(pid), Text(program), NONE],
        Event::HandOff(signal)
        | Event::Received(signal)
        | Event::ReceivedOfChild(signal)
        | Event::Forwarded(signal)
        | Event::Dropped(signal)
        | Event::Late(signal)
        | Event::ProgramKilled(signal) => [Number(signal), Signal(signal), NONE],
        Event::NotForwarded(signal, error) => [Number(signal), Signal(signal), Error(error)],
        Event::Rewritten(one, other) | Event::Exited(one, other) | Event::Killed(one, other) => {
            [Number(one), Number(other), NONE]
        }
        Event::Orphan(number) | Event::ProgramExited(number) | Event::Ended(number) => {
            [Number(number), NONE, NONE]
        }
    }
}
