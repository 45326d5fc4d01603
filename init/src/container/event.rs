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
    /// The child has a session of its own.
    Session,
    /// It has none \[number, error].
    NoSession(Errno),
    /// It has no process group of its own \[number, error].
    NoGroup(Errno),
    /// No terminal was handed over to it \[number, error].
    NoTerminal(Errno),
    /// It does not execute the program \[number, error, program].
    NotExecuted(Errno, &'e [u8]),
    /// There is no child \[number, error].
    NotStarted(Errno),
    /// There is one \[process, program].
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
    /// The words for what happens, as [`words`] makes them.
    pub words: &'static str,
    /// What every line of a level begins with; this process's id is `%1`.
    pub begin: fn(i32) -> &'static str,
    /// From which level on it is told on standard output.
    pub output: i32,
}

/// `words! { Event level "words"; … }`: the words for what happens, each told from a level of verbosity on (0: always). One
/// text, since a table of references would be twice as long as the words: each has its event's letter, its level and its
/// words, and ends in a zero byte.
macro_rules! words {
    ($($event:ident $level:literal $words:literal;)*) => {
        concat!($($crate::container::event::letter!($event), $level, $words, "\0",)*)
    };
}
pub(super) use words;

/// The letter of an event.
#[rustfmt::skip]
macro_rules! letter {
    (NotReaper) => { 'a' };
    (Reaper) => { 'b' };
    (NoReaper) => { 'c' };
    (NoParentDeathSignal) => { 'd' };
    (LeftTerminal) => { 'e' };
    (LeftTerminalOnly) => { 'f' };
    (HeldTerminal) => { 'g' };
    (HandOff) => { 'h' };
    (Session) => { 'i' };
    (NoSession) => { 'j' };
    (NoGroup) => { 'k' };
    (NoTerminal) => { 'l' };
    (NotExecuted) => { 'm' };
    (NotStarted) => { 'n' };
    (Started) => { 'o' };
    (NoRoot) => { 'p' };
    (Received) => { 'q' };
    (ReceivedOfChild) => { 'r' };
    (Rewritten) => { 's' };
    (Forwarded) => { 't' };
    (Dropped) => { 'u' };
    (Late) => { 'v' };
    (NotForwarded) => { 'w' };
    (Suspending) => { 'x' };
    (Exited) => { 'y' };
    (Killed) => { 'z' };
    (Orphan) => { 'A' };
    (ProgramExited) => { 'B' };
    (ProgramKilled) => { 'C' };
    (Ended) => { 'D' };
}
pub(super) use letter;

fn letter_of(event: Event<'_>) -> u8 {
    let letter = match event {
        Event::NotReaper => letter!(NotReaper),
        Event::Reaper => letter!(Reaper),
        Event::NoReaper(..) => letter!(NoReaper),
        Event::NoParentDeathSignal(..) => letter!(NoParentDeathSignal),
        Event::LeftTerminal => letter!(LeftTerminal),
        Event::LeftTerminalOnly => letter!(LeftTerminalOnly),
        Event::HeldTerminal(..) => letter!(HeldTerminal),
        Event::HandOff(..) => letter!(HandOff),
        Event::Session => letter!(Session),
        Event::NoSession(..) => letter!(NoSession),
        Event::NoGroup(..) => letter!(NoGroup),
        Event::NoTerminal(..) => letter!(NoTerminal),
        Event::NotExecuted(..) => letter!(NotExecuted),
        Event::NotStarted(..) => letter!(NotStarted),
        Event::Started(..) => letter!(Started),
        Event::NoRoot(..) => letter!(NoRoot),
        Event::Received(..) => letter!(Received),
        Event::ReceivedOfChild(..) => letter!(ReceivedOfChild),
        Event::Rewritten(..) => letter!(Rewritten),
        Event::Forwarded(..) => letter!(Forwarded),
        Event::Dropped(..) => letter!(Dropped),
        Event::Late(..) => letter!(Late),
        Event::NotForwarded(..) => letter!(NotForwarded),
        Event::Suspending => letter!(Suspending),
        Event::Exited(..) => letter!(Exited),
        Event::Killed(..) => letter!(Killed),
        Event::Orphan(..) => letter!(Orphan),
        Event::ProgramExited(..) => letter!(ProgramExited),
        Event::ProgramKilled(..) => letter!(ProgramKilled),
        Event::Ended(..) => letter!(Ended),
    };
    letter as u8
}

/// Tells of something that happened.
pub fn tell(settings: &Settings, event: Event<'_>) {
    let letter = letter_of(event);
    let mut known = settings.voice.words.as_bytes().split(|&byte| byte == 0);
    let Some([_, level, words @ ..]) = known.find(|entry| entry.first() == Some(&letter)) else {
        return;
    };
    let level = i32::from(level - b'0');
    if level > settings.verbosity.max(0) {
        return;
    }
    if matches!(event, Event::Orphan(_)) && !settings.tells_orphans {
        return;
    }
    let begin = (settings.voice.begin)(level).as_bytes();
    let mut message = Message::to(if level < settings.voice.output { 2 } else { 1 });
    message
        .add(begin, &[Number(sys::own_pid())])
        .add(words, &values(event))
        .add(b"\n", &[]);
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
