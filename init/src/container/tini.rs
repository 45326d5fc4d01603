//! As tini 0.19 takes its command line and speaks.

use super::{
    dialect::{Dialect, Step},
    event::{Voice, words},
    names, numbers,
    options::Grammar,
    settings::{SETTINGS, Settings, variable},
};
use crate::sys::{Vector, constant::*};

const USAGE: &str = "%2 (tini version 0.19.0)\n\
    Usage: %2 [OPTIONS] PROGRAM -- [ARGS] | --version\n\
    \n\
    Runs PROGRAM as the init process of a container should.\n\
    \n\
    Command line options:\n\
    \n\
    \x20 --version: Print the version.\n\
    \x20 -h: Print this help.\n\
    \x20 -s: Adopt orphans even where this is not PID 1.\n\
    \x20 -p SIGNAL: Have SIGNAL sent when the parent dies, such as SIGKILL.\n\
    \x20 -v: Say more. Up to three times.\n\
    \x20 -w: Say which orphans are reaped.\n\
    \x20 -g: Signal the whole process group of PROGRAM.\n\
    \x20 -e CODE: End with 0 when PROGRAM ends with CODE. Any number of times.\n\
    \x20 -l: Print the licence.\n\
    \n\
    Environment variables:\n\
    \n\
    \x20 TINI_SUBREAPER: As -s.\n\
    \x20 TINI_VERBOSITY: How much to say; 1 unless set.\n\
    \x20 TINI_KILL_PROCESS_GROUP: As -g.\n\
    \n";

/// The name and all that it means.
pub static DIALECT: Dialect = Dialect {
    names: &[b"tini", b"tini-static", b"docker-init"],
    settings: Settings {
        voice: Voice {
            words: WORDS,
            begin,
            output: 2,
        },
        refused: |error| match error.0 {
            EACCES => 126,
            ENOENT => 127,
            _ => 1,
        },
        verbosity: 1,
        ..SETTINGS
    },
    grammar: Grammar {
        letters: b"p:hvwgle:s",
        names: &[],
    },
    mixed: true,
    option,
    settle,
    version: "tini version 0.19.0\n",
    mistaken: USAGE,
    wrong_value: "[FATAL tini (%3)] Not a valid option for -%4: %5\n",
    no_program: USAGE,
    wrong: 1,
};

fn option(settings: &mut Settings, letter: u8, value: &[u8]) -> Step {
    match letter {
        b'h' => return Step::Print(1, USAGE),
        b'l' => return Step::Print(1, super::LICENCE),
        b'p' => {
            let signal = value.strip_prefix(b"SIG").and_then(names::signal);
            return Step::taken(signal.map(|signal| settings.parent_death = signal));
        }
        b'e' => return Step::taken(numbers::code(value).map(|code| settings.forgiven.add(code))),
        b's' => settings.subreaper = true,
        b'v' => settings.verbosity += 1,
        b'w' => settings.tells_orphans = true,
        _ => settings.to_group = true,
    }
    Step::Taken
}

fn settle(settings: &mut Settings, environment: &Vector<'static>) {
    settings.subreaper |= variable(environment, b"TINI_SUBREAPER").is_some();
    settings.to_group |= variable(environment, b"TINI_KILL_PROCESS_GROUP").is_some();
    if let Some(level) = variable(environment, b"TINI_VERBOSITY") {
        settings.verbosity = numbers::leading(level).map_or(0, |(number, _)| number);
    }
}

fn begin(level: i32) -> &'static str {
    match level {
        1 => "[WARN  tini (%1)] ",
        2 => "[INFO  tini (%1)] ",
        3 => "[DEBUG tini (%1)] ",
        4 => "[TRACE tini (%1)] ",
        _ => "[FATAL tini (%1)] ",
    }
}

const WORDS: &str = words! {
    NotReaper 1 "Tini is neither PID 1 nor registered as a child subreaper.\n\
            Orphans will go to another process, so zombie reaping won't work.\n\
            To have them come here, use -s, set TINI_SUBREAPER, or run Tini as PID 1.";
    Reaper 4 "Registered as child subreaper";
    NoReaper 0 "Failed to register as child subreaper: %2";
    NoParentDeathSignal 0 "Failed to set up parent death signal: %2";
    NoGroup 0 "setpgid failed: %2";
    NoTerminal 3 "tcsetpgrp failed: %2 (ok to proceed)";
    NotExecuted 0 "exec %3 failed: %2";
    NotStarted 0 "fork failed: %2";
    Started 2 "Spawned child process '%2' with pid '%1'";
    ReceivedOfChild 3 "Received SIGCHLD";
    Forwarded 3 "Passing signal: '%2'";
    Late 1 "Child was dead when forwarding signal";
    NotForwarded 1 "Cannot pass signal '%2': %3";
    Exited 3 "Reaped child with pid: '%1'";
    Killed 3 "Reaped child with pid: '%1'";
    Orphan 1 "Reaped zombie process with pid=%1";
    ProgramExited 2 "Main child exited normally (with status '%1')";
    ProgramKilled 2 "Main child exited with signal (with signal '%2')";
    Ended 4 "Exiting: child has exited";
};
