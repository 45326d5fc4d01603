//! What to run and how to look after it.

use core::ffi::CStr;

use super::{
    event::Voice,
    options::{Word, Words},
};
use crate::sys::{self, Errno, Pid, SignalSet, Start, Vector, constant::*};

/// Where the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// In a process group of its own, in the terminal's foreground if this process was.
    Group,
    /// In a session of its own, with the terminal.
    Session,
    /// In this process's group.
    Beside,
}

/// How to look after a program.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// In whose words what happens is told.
    pub voice: Voice,
    /// The exit code for a program that cannot be executed.
    pub refused: fn(Errno) -> i32,
    /// How much of it.
    pub verbosity: i32,
    /// Whether to tell of orphans that were reaped.
    pub tells_orphans: bool,
    /// Where the program runs.
    pub placement: Placement,
    /// Whether signals go to the program's whole process group.
    pub to_group: bool,
    /// Whether to adopt orphans even where this is not PID 1.
    pub subreaper: bool,
    /// Comes when the parent dies; 0 for none.
    pub parent_death: i32,
    /// What do to this process what they do by themselves.
    pub own: SignalSet,
    /// What is not sent on.
    pub kept: SignalSet,
    /// After which this process stops.
    pub suspending: SignalSet,
    /// What is sent on in place of what.
    pub rewrites: Rewrites,
    /// Exit codes that become 0.
    pub forgiven: Codes,
    /// Whether what the program leaves behind in its group is told to end.
    pub ends_group: bool,
    /// Whether the program starts with every signal unblocked and none ignored.
    pub fresh_signals: bool,
    /// Whether there is no program, only waiting for SIGINT or SIGTERM.
    pub pause: bool,
}

/// What tells of a fault of the process itself.
pub const FAULTS: SignalSet =
    SignalSet::of(&[SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS]);

/// What stops a process for the sake of a terminal.
pub const STOPS: SignalSet = SignalSet::of(&[SIGTSTP, SIGTTIN, SIGTTOU]);

/// What a terminal sends to all of its foreground group by itself.
pub const OF_TERMINAL: SignalSet = SignalSet::of(&[SIGINT, SIGQUIT, SIGTSTP, SIGWINCH]);

/// Most of what differs between the names; each says what differs for it.
pub const SETTINGS: Settings = Settings {
    voice: Voice {
        words: "",
        begin: |_| "",
        output: i32::MAX,
    },
    refused: |error| match error.0 {
        ENOENT | ENOTDIR => 127,
        _ => 126,
    },
    verbosity: 0,
    tells_orphans: false,
    placement: Placement::Group,
    to_group: false,
    subreaper: false,
    parent_death: 0,
    own: FAULTS,
    kept: SignalSet::of(&[SIGTTIN, SIGTTOU]),
    suspending: SignalSet(0),
    rewrites: Rewrites([KEEP; 32]),
    forgiven: Codes([0; 4]),
    ends_group: false,
    fresh_signals: false,
    pause: false,
};

/// What is sent on in place of signals 1 to 31.
#[derive(Clone, Copy, Debug)]
pub struct Rewrites([u8; 32]);

const KEEP: u8 = u8::MAX;

impl Rewrites {
    /// Sends `to`, or nothing when that is 0, in place of `from`.
    pub fn set(&mut self, from: i32, to: i32) {
        if let Some(place) = self.0.get_mut(from as usize) {
            *place = to as u8;
        }
    }

    /// Stops what would not stop by itself: the group of a session's leader, for the sake of a terminal.
    pub fn stop_sessions(&mut self) {
        for signal in [SIGTSTP, SIGTTOU, SIGTTIN] {
            if self.get(signal).is_none() {
                self.set(signal, SIGSTOP);
            }
        }
    }

    /// What is sent in place of `from`, if not itself.
    pub fn get(&self, from: i32) -> Option<i32> {
        let to = *self.0.get(from as usize)?;
        (to != KEEP).then_some(to.into())
    }
}

/// A set of exit codes.
#[derive(Clone, Copy, Debug)]
pub struct Codes([u64; 4]);

impl Codes {
    /// And this one.
    pub fn add(&mut self, code: u8) {
        if let Some(word) = self.0.get_mut(usize::from(code) / 64) {
            *word |= 1 << (code % 64);
        }
    }

    /// Whether it has this one.
    pub fn has(&self, code: u8) -> bool {
        let word = self.0.get(usize::from(code) / 64);
        word.is_some_and(|word| word & 1 << (code % 64) != 0)
    }
}

/// The program, its arguments and its environment.
#[derive(Clone, Debug)]
pub struct Command<'s> {
    /// The whole command line, of which the program's are the operands.
    pub words: Words<'s>,
    /// The environment.
    pub environment: &'s Vector<'static>,
    /// This process's id, as socket activation may have told it to the program.
    pub supervisor: Pid,
}

impl<'s> Command<'s> {
    /// Of this process's command line.
    pub fn new(words: Words<'s>, start: &'s Start) -> Self {
        Command {
            words,
            environment: &start.environment,
            supervisor: sys::own_pid(),
        }
    }

    /// The program's name and arguments.
    pub fn operands(&self) -> impl Iterator<Item = &'s CStr> + Clone + use<'s> {
        self.words.clone().filter_map(|word| match word {
            Word::Operand(operand) => Some(operand),
            Word::Option(..) | Word::Wrong(_) => None,
        })
    }

    /// The program's name; empty when there is none.
    pub fn program(&self) -> &'s CStr {
        self.operands().next().unwrap_or_default()
    }
}

/// A variable of an environment.
pub fn variable(environment: &Vector<'static>, name: &[u8]) -> Option<&'static [u8]> {
    environment.iter().find_map(|entry| {
        let rest = entry.to_bytes().strip_prefix(name)?;
        rest.strip_prefix(b"=")
    })
}
