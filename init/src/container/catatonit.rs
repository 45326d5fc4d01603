//! As catatonit 0.2 takes its command line.

use super::{
    dialect::{Dialect, Step},
    event::{Voice, words},
    options::Grammar,
    settings::{SETTINGS, STOPS, Settings, variable},
};

/// Container managers look for the name of tini.
const VERSION: &str = "tini version 0.2.1_catatonit\n";

macro_rules! usage {
    () => {
        "usage: catatonit [-ghLPV] [--] PROGRAM [ARGUMENT]...\n"
    };
}

const HELP: &str = concat!(
    usage!(),
    "\n",
    "  -g             Signal the whole process group of PROGRAM.\n",
    "  -P             Pause: run nothing, end on SIGINT or SIGTERM.\n",
    "  -h             Print this help.\n",
    "  -L             Print the licence.\n",
    "  -V, --version  Print the version.\n",
);

/// The name and all that it means.
pub static DIALECT: Dialect = Dialect {
    names: &[b"catatonit", b"podman-init"],
    settings: Settings {
        voice: Voice {
            words: WORDS,
            begin: |level| match level {
                0 => "ERROR (catatonit:%1): ",
                _ => "DEBUG (catatonit:%1): ",
            },
            output: i32::MAX,
        },
        refused: |_| 1,
        subreaper: true,
        kept: STOPS,
        ..SETTINGS
    },
    grammar: Grammar {
        letters: b"ghLPV",
        names: &[(b"version", b'V')],
    },
    mixed: true,
    option,
    settle: |settings, environment| {
        if variable(environment, b"CATATONIT_DEBUG").is_some() {
            settings.verbosity = 1;
        }
    },
    version: "",
    mistaken: usage!(),
    wrong_value: "",
    no_program: concat!("ERROR (catatonit:%3): missing program name\n", usage!()),
    wrong: 1,
};

fn option(settings: &mut Settings, letter: u8, _: &[u8]) -> Step {
    match letter {
        b'h' => return Step::Print(2, HELP),
        b'L' => return Step::Print(1, super::LICENCE),
        b'V' => return Step::Print(1, VERSION),
        b'P' => settings.pause = true,
        _ => settings.to_group = true,
    }
    Step::Taken
}

const WORDS: &str = words! {
    NotExecuted 0 "cannot execute %3: %2";
    NotStarted 0 "cannot start a process: %2";
    NoGroup 0 "no process group: %2";
    NoReaper 0 "cannot adopt orphans: %2";
    NoTerminal 1 "no terminal handed over: %2";
    Started 1 "%2 runs as process %1";
    NotForwarded 1 "%2 not sent on: %3";
    Exited 1 "process %1 exited with code %2";
    Killed 1 "process %1 ended by signal %2";
};
