//! Our own command line.

use super::{
    dialect::{Dialect, Step},
    event::{Voice, words},
    numbers,
    options::Grammar,
    settings::{Placement, SETTINGS, STOPS, Settings},
};
use crate::sys::SignalSet;

const VERSION: &str = concat!("envd-init ", env!("CARGO_PKG_VERSION"), "\n");

const HELP: &str = "Usage: envd-init [OPTION]... [--] PROGRAM [ARGUMENT]...\n\
    \n\
    Runs PROGRAM as PID 1 of a container should: sends signals on to it, reaps what\n\
    others leave behind, and ends when it ends, with its exit code.\n\
    \n\
    \x20 -g, --group                Signal the whole process group of PROGRAM\n\
    \x20 -S, --session              Run PROGRAM in a session of its own, with the terminal\n\
    \x20 -s, --subreaper            Adopt orphans even where this is not PID 1\n\
    \x20 -p, --parent-death SIGNAL  Have SIGNAL sent when the parent dies\n\
    \x20 -r, --rewrite FROM:TO      Send TO on in place of FROM; nothing when TO is 0\n\
    \x20 -e, --expect CODE          End with 0 when PROGRAM ends with CODE\n\
    \x20 -w, --warn                 Say which orphans are reaped\n\
    \x20 -v, --verbose              Say what happens\n\
    \x20 -h, --help                 Print this help\n\
    \x20 -V, --version              Print the version\n\
    \n\
    Signals are names (TERM or SIGTERM) or numbers. Exit codes: 128 and the signal's\n\
    number when one ended PROGRAM; 127 when there is no PROGRAM, 126 when it cannot be\n\
    executed, 125 when this command line is wrong.\n\
    Called tini, dumb-init or catatonit it behaves as that.\n";

/// The name and all that it means.
pub static DIALECT: Dialect = Dialect {
    names: &[],
    settings: Settings {
        voice: Voice {
            words: WORDS,
            begin: |_| "envd-init: ",
            output: i32::MAX,
        },
        ..SETTINGS
    },
    grammar: Grammar {
        letters: b"ghe:p:r:sSvVw",
        names: &[
            (b"expect", b'e'),
            (b"group", b'g'),
            (b"help", b'h'),
            (b"parent-death", b'p'),
            (b"rewrite", b'r'),
            (b"session", b'S'),
            (b"subreaper", b's'),
            (b"verbose", b'v'),
            (b"version", b'V'),
            (b"warn", b'w'),
        ],
    },
    mixed: false,
    option,
    settle: |settings, _| {
        if settings.placement == Placement::Session {
            settings.rewrites.stop_sessions();
        }
    },
    version: "",
    mistaken: "Try envd-init --help.\n",
    wrong_value: "envd-init: option -%4 does not take '%5'\nTry envd-init --help.\n",
    no_program: "envd-init: no PROGRAM given\nTry envd-init --help.\n",
    wrong: 125,
};

fn option(settings: &mut Settings, letter: u8, value: &[u8]) -> Step {
    match letter {
        b'h' => return Step::Print(1, HELP),
        b'V' => return Step::Print(1, VERSION),
        b'e' => return Step::taken(numbers::code(value).map(|code| settings.forgiven.add(code))),
        b'p' => {
            let signal = numbers::signal(value);
            return Step::taken(signal.map(|signal| settings.parent_death = signal));
        }
        b'r' => {
            let pair = pair(value).map(|(from, to)| settings.rewrites.set(from, to));
            return Step::taken(pair);
        }
        b'S' => {
            settings.placement = Placement::Session;
            settings.kept = SignalSet(0);
            settings.suspending = STOPS;
        }
        b's' => settings.subreaper = true,
        b'v' => settings.verbosity = 1,
        b'w' => settings.tells_orphans = true,
        _ => settings.to_group = true,
    }
    Step::Taken
}

fn pair(text: &[u8]) -> Option<(i32, i32)> {
    let mut halves = text.splitn(2, |&byte| byte == b':');
    let from = numbers::signal(halves.next()?)?;
    let to = match halves.next()? {
        b"0" => 0,
        name => numbers::signal(name)?,
    };
    (from < 32 && to < 32).then_some((from, to))
}

const WORDS: &str = words! {
    NotExecuted 0 "cannot execute %3: %2";
    NotStarted 0 "cannot start a process: %2";
    NoGroup 0 "no process group: %2";
    NoSession 0 "no session: %2";
    NoReaper 0 "cannot adopt orphans: %2";
    NoParentDeathSignal 0 "no signal will come when the parent dies: %2";
    Orphan 0 "process %1 was an orphan";
    NotReaper 1 "neither PID 1 nor a subreaper: orphans go to another process";
    NoTerminal 1 "no terminal handed over: %2";
    Started 1 "%2 runs as process %1";
    Rewritten 1 "signal %1 becomes %2";
    Forwarded 1 "%2 sent on";
    NotForwarded 1 "%2 not sent on: %3";
    Exited 1 "process %1 exited with code %2";
    Killed 1 "process %1 ended by signal %2";
};
