//! As dumb-init 1.2 takes its command line and speaks.

use super::{
    dialect::{Dialect, Step},
    event::{Voice, words},
    message::Message,
    numbers,
    options::Grammar,
    settings::{Placement, SETTINGS, STOPS, Settings, variable},
};
use crate::sys::{SignalSet, Vector};

const VERSION: &str = "dumb-init v1.2.5\n";

const HELP: &str = "dumb-init v1.2.5\n\
    Usage: %1 [option] command [[arg] ...]\n\
    \n\
    dumb-init is a simple process supervisor that forwards signals to children.\n\
    It is designed to run as PID1 in minimal container environments.\n\
    \n\
    Optional arguments:\n\
    \x20  -c, --single-child   Run in single-child mode.\n\
    \x20                       In this mode, signals are only proxied to the\n\
    \x20                       direct child and not any of its descendants.\n\
    \x20  -r, --rewrite s:r    Rewrite received signal s to new signal r before proxying.\n\
    \x20                       To ignore (not proxy) a signal, rewrite it to 0.\n\
    \x20                       This option can be specified multiple times.\n\
    \x20  -v, --verbose        Print debugging information to stderr.\n\
    \x20  -h, --help           Print this help message and exit.\n\
    \x20  -V, --version        Print the current version and exit.\n\
    \n\
    Full help is available online at https://github.com/Yelp/dumb-init\n";

/// The name and all that it means.
pub static DIALECT: Dialect = Dialect {
    names: &[b"dumb-init"],
    settings: Settings {
        voice: Voice {
            words: WORDS,
            begin: |_| "[dumb-init] ",
            output: i32::MAX,
        },
        refused: |_| 2,
        placement: Placement::Session,
        to_group: true,
        own: SignalSet(0),
        kept: SignalSet(0),
        suspending: STOPS,
        ends_group: true,
        fresh_signals: true,
        ..SETTINGS
    },
    grammar: Grammar {
        letters: b"hvVcr:",
        names: &[
            (b"help", b'h'),
            (b"single-child", b'c'),
            (b"rewrite", b'r'),
            (b"verbose", b'v'),
            (b"version", b'V'),
        ],
    },
    mixed: false,
    option,
    settle,
    version: "",
    mistaken: "",
    wrong_value: "Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.\n\
        This option can be specified multiple times.\n\
        Use --help for full usage.\n",
    no_program: "Usage: %1 [option] program [args]\nTry %1 --help for full usage.\n",
    wrong: 1,
};

fn option(settings: &mut Settings, letter: u8, value: &[u8]) -> Step {
    match letter {
        b'h' => return Step::Print(2, HELP),
        b'V' => return Step::Print(2, VERSION),
        b'v' => settings.verbosity = 1,
        b'c' => single_child(settings),
        _ => {
            let pair = pair(value).map(|(from, to)| settings.rewrites.set(from, to));
            return Step::taken(pair);
        }
    }
    Step::Taken
}

/// `s:r`; what comes behind it is passed over.
fn pair(text: &[u8]) -> Option<(i32, i32)> {
    let (from, rest) = numbers::leading(text)?;
    let (to, _) = numbers::leading(rest.strip_prefix(b":")?)?;
    ((1..=31).contains(&from) && (0..=31).contains(&to)).then_some((from, to))
}

fn single_child(settings: &mut Settings) {
    settings.placement = Placement::Beside;
    settings.to_group = false;
}

fn settle(settings: &mut Settings, environment: &Vector<'static>) {
    if variable(environment, b"DUMB_INIT_DEBUG") == Some(b"1") {
        settings.verbosity = 1;
        Message::to(2).add(b"[dumb-init] Running in debug mode.\n", &[]);
    }
    if variable(environment, b"DUMB_INIT_SETSID") == Some(b"0") {
        single_child(settings);
        if settings.verbosity > 0 {
            Message::to(2).add(b"[dumb-init] Not running in setsid mode.\n", &[]);
        }
    }
    if settings.placement == Placement::Session {
        settings.rewrites.stop_sessions();
    }
}

const WORDS: &str = words! {
    NotStarted 0 "Unable to fork. Exiting.";
    NoSession 0 "Unable to setsid (errno=%1 %2). Exiting.";
    NotExecuted 0 "%3: %2";
    LeftTerminal 1 "Detached from controlling tty, ignoring the first SIGHUP and SIGCONT we receive.";
    LeftTerminalOnly 1 "Detached from controlling tty, but was not session leader.";
    HeldTerminal 1 "Unable to detach from controlling tty (errno=%1 %2).";
    HandOff 1 "Ignoring tty hand-off signal %1.";
    Session 1 "setsid complete.";
    NoTerminal 1 "Unable to attach to controlling tty (errno=%1 %2).";
    Started 1 "Child spawned with PID %1.";
    NoRoot 1 "Unable to chdir(\"/\") (errno=%1 %2)";
    Received 1 "Received signal %1.";
    ReceivedOfChild 1 "Received signal %1.";
    Rewritten 1 "Translating signal %1 to %2.";
    Forwarded 1 "Forwarded signal %1 to children.";
    Late 1 "Forwarded signal %1 to children.";
    NotForwarded 1 "Forwarded signal %1 to children.";
    Dropped 1 "Not forwarding signal %1 to children (ignored).";
    Suspending 1 "Suspending self due to TTY signal.";
    Exited 1 "A child with PID %1 exited with exit status %2.";
    Killed 1 "A child with PID %1 was terminated by signal %2.";
    Ended 1 "Child exited with status %1. Goodbye.";
};
