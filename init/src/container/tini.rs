//! As tini 0.19 takes its command line and speaks.

use super::{
    event::Event,
    message::{
        Message,
        Value::{self, Error, Number, Signal, Text},
    },
    names, numbers,
    options::{Grammar, Word, Words},
    settings::{Command, SETTINGS, Settings, missing, variable},
};
use crate::sys::{self, Errno, Start, constant::*};

const GRAMMAR: Grammar = Grammar {
    letters: b"p:hvwgle:s",
    names: &[],
};

const VERSION: &str = "tini version 0.19.0";

/// Verbosity at which each kind of line is told.
const WARN: i32 = 1;
const INFO: i32 = 2;
const DEBUG: i32 = 3;
const TRACE: i32 = 4;

/// From the command line and the environment; otherwise gives the exit code.
pub fn parse(start: &Start) -> Result<(Settings, Command<'_>), i32> {
    let called = start.arguments.iter().next().unwrap_or_default();
    let mut settings = Settings {
        tell,
        refused: |error| match error {
            Errno(EACCES) => 126,
            Errno(ENOENT) => 127,
            error if missing(error) => 127,
            _ => 1,
        },
        verbosity: WARN,
        ..SETTINGS
    };
    let mut alone = start.arguments.iter().skip(1);
    if (alone.next(), alone.next()) == (Some(c"--version"), None) {
        Message::output().add(VERSION, &[]).add("\n", &[]);
        return Err(0);
    }
    let mixed = variable(&start.environment, b"POSIXLY_CORRECT").is_none();
    let words = Words::new(&start.arguments, &GRAMMAR, mixed);
    for word in words.clone() {
        match word {
            Word::Option(b'p', name) => {
                let signal = name.strip_prefix(b"SIG").and_then(names::signal);
                settings.parent_death = signal.ok_or_else(|| refuse(&settings, "-p", name))?;
            }
            Word::Option(b'e', code) => {
                let number = numbers::code(code).ok_or_else(|| refuse(&settings, "-e", code))?;
                settings.forgiven.add(number);
            }
            Word::Option(b'h', _) => {
                usage(Message::output(), called.to_bytes());
                return Err(0);
            }
            Word::Option(b'l', _) => {
                Message::output().add("Apache-2.0 OR MIT\n", &[]);
                return Err(0);
            }
            Word::Option(b's', _) => settings.subreaper = true,
            Word::Option(b'v', _) => settings.verbosity += 1,
            Word::Option(b'w', _) => settings.tells_orphans = true,
            Word::Option(b'g', _) => settings.to_group = true,
            Word::Wrong(mistake) => {
                mistake.tell(called, &GRAMMAR);
                usage(Message::error(), called.to_bytes());
                return Err(1);
            }
            Word::Option(..) | Word::Operand(_) => {}
        }
    }
    settings.subreaper |= variable(&start.environment, b"TINI_SUBREAPER").is_some();
    settings.to_group |= variable(&start.environment, b"TINI_KILL_PROCESS_GROUP").is_some();
    if let Some(level) = variable(&start.environment, b"TINI_VERBOSITY") {
        settings.verbosity = numbers::leading(level).map_or(0, |(number, _)| number);
    }
    let command = Command::new(words, start);
    if command.operands().next().is_none() {
        usage(Message::error(), called.to_bytes());
        return Err(1);
    }
    Ok((settings, command))
}

fn refuse(settings: &Settings, option: &str, value: &[u8]) -> i32 {
    line(
        settings,
        0,
        "Not a valid option for %: %",
        &[Text(option.as_bytes()), Text(value)],
    );
    1
}

fn usage(mut to: Message, called: &[u8]) {
    let name = called
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or_default();
    to.add(
        "% (%)\nUsage: % [OPTIONS] PROGRAM -- [ARGS] | --version\n\n\
        Runs PROGRAM as the init process of a container should.\n\n\
        Command line options:\n\n  \
        --version: Print the version.\n  \
        -h: Print this help.\n  \
        -s: Adopt orphans even where this is not PID 1.\n  \
        -p SIGNAL: Have SIGNAL sent when the parent dies, such as SIGKILL.\n  \
        -v: Say more. Up to three times.\n  \
        -w: Say which orphans are reaped.\n  \
        -g: Signal the whole process group of PROGRAM.\n  \
        -e CODE: End with 0 when PROGRAM ends with CODE. Any number of times.\n  \
        -l: Print the licence.\n\n\
        Environment variables:\n\n  \
        TINI_SUBREAPER: As -s.\n  \
        TINI_VERBOSITY: How much to say; 1 unless set.\n  \
        TINI_KILL_PROCESS_GROUP: As -g.\n\n",
        &[Text(name), Text(VERSION.as_bytes()), Text(name)],
    );
}

fn line(settings: &Settings, level: i32, template: &str, values: &[Value<'_>]) {
    if level > settings.verbosity && level > 0 {
        return;
    }
    let (mut message, prefix) = match level {
        0 => (Message::error(), "[FATAL tini (%)] "),
        WARN => (Message::error(), "[WARN  tini (%)] "),
        INFO => (Message::output(), "[INFO  tini (%)] "),
        DEBUG => (Message::output(), "[DEBUG tini (%)] "),
        _ => (Message::output(), "[TRACE tini (%)] "),
    };
    let pid = [Number(sys::own_pid())];
    message
        .add(prefix, &pid)
        .add(template, values)
        .add("\n", &[]);
}

fn tell(settings: &Settings, event: Event<'_>) {
    let line = |level, template, values: &[Value<'_>]| line(settings, level, template, values);
    match event {
        Event::NotReaper => line(
            WARN,
            "Tini is not running as PID 1 and is not registered as a child subreaper.\n\
            Orphans will go to another process, so zombie reaping won't work.\n\
            To have them come here, use -s, set TINI_SUBREAPER in the environment, or run Tini as PID 1.",
            &[],
        ),
        Event::Subreaper(Ok(())) => line(TRACE, "Registered as child subreaper", &[]),
        Event::Subreaper(Err(error)) => line(
            0,
            "Failed to register as child subreaper: %",
            &[Error(error)],
        ),
        Event::NoParentDeathSignal(error) => line(
            0,
            "Failed to set up parent death signal: %",
            &[Error(error)],
        ),
        Event::NoGroup(error) => line(0, "setpgid failed: %", &[Error(error)]),
        Event::NoTerminal(error) => line(
            DEBUG,
            "tcsetpgrp failed: % (ok to proceed)",
            &[Error(error)],
        ),
        Event::NotExecuted(program, error) => {
            line(0, "exec % failed: %", &[Text(program), Error(error)]);
        }
        Event::NotStarted(error) => line(0, "fork failed: %", &[Error(error)]),
        Event::Started(program, pid) => line(
            INFO,
            "Spawned child process '%' with pid '%'",
            &[Text(program), Number(pid)],
        ),
        Event::Received(SIGCHLD) => line(DEBUG, "Received SIGCHLD", &[]),
        Event::Forwarded(signal) => line(DEBUG, "Passing signal: '%'", &[Signal(signal)]),
        Event::NotForwarded(_, Errno(ESRCH)) => {
            line(WARN, "Child was dead when forwarding signal", &[]);
        }
        Event::NotForwarded(signal, error) => line(
            WARN,
            "Cannot pass signal '%': %",
            &[Signal(signal), Error(error)],
        ),
        Event::Reaped(pid, status, program) => {
            line(DEBUG, "Reaped child with pid: '%'", &[Number(pid)]);
            match (program, sys::shell_code(status), status & 0x7f) {
                (true, code, 0) => line(
                    INFO,
                    "Main child exited normally (with status '%')",
                    &[Number(code)],
                ),
                (true, _, signal) => line(
                    INFO,
                    "Main child exited with signal (with signal '%')",
                    &[Signal(signal)],
                ),
                (false, ..) if settings.tells_orphans => {
                    line(WARN, "Reaped zombie process with pid=%", &[Number(pid)]);
                }
                (false, ..) => {}
            }
        }
        Event::Ended(_) => line(TRACE, "Exiting: child has exited", &[]),
        _ => {}
    }
}
