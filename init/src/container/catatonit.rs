//! As catatonit 0.2 takes its command line.

use super::{
    event::Event,
    message::{
        Message,
        Value::{self, Error, Number, Text},
    },
    options::{Grammar, Word, Words},
    settings::{Command, SETTINGS, STOPS, Settings, variable},
};
use crate::sys::{self, Start};

const GRAMMAR: Grammar = Grammar {
    letters: b"ghLPV",
    names: &[(b"version", b'V')],
};

/// Container managers look for the name of tini.
const VERSION: &str = "tini version 0.2.1_catatonit\n";

const USAGE: &str = "usage: catatonit [-ghLPV] [--] PROGRAM [ARGUMENT]...\n";

/// From the command line and the environment; otherwise gives the exit code.
pub fn parse(start: &Start) -> Result<(Settings, Command<'_>), i32> {
    let called = start.arguments.iter().next().unwrap_or_default();
    let debug = variable(&start.environment, b"CATATONIT_DEBUG").is_some();
    let mut settings = Settings {
        tell,
        refused: |_| 1,
        verbosity: i32::from(debug),
        subreaper: true,
        kept: STOPS,
        ..SETTINGS
    };
    let mixed = variable(&start.environment, b"POSIXLY_CORRECT").is_none();
    let words = Words::new(&start.arguments, &GRAMMAR, mixed);
    for word in words.clone() {
        match word {
            Word::Option(b'g', _) => settings.to_group = true,
            Word::Option(b'P', _) => settings.pause = true,
            Word::Option(b'h', _) => {
                Message::error().add(USAGE, &[]).add(
                    "\n  -g             Signal the whole process group of PROGRAM.\n  \
                    -P             Pause: run nothing, end on SIGINT or SIGTERM.\n  \
                    -h             Print this help.\n  \
                    -L             Print the licence.\n  \
                    -V, --version  Print the version.\n",
                    &[],
                );
                return Err(0);
            }
            Word::Option(b'L', _) => {
                Message::output().add("Apache-2.0 OR MIT\n", &[]);
                return Err(0);
            }
            Word::Option(..) => {
                Message::output().add(VERSION, &[]);
                return Err(0);
            }
            Word::Wrong(mistake) => {
                mistake.tell(called, &GRAMMAR);
                Message::error().add(USAGE, &[]);
                return Err(1);
            }
            Word::Operand(_) => {}
        }
    }
    let command = Command::new(words, start);
    if !settings.pause && command.operands().next().is_none() {
        line("ERROR", "missing program name", &[]);
        Message::error().add(USAGE, &[]);
        return Err(1);
    }
    Ok((settings, command))
}

fn line(level: &str, template: &str, values: &[Value<'_>]) {
    let prefix = [Text(level.as_bytes()), Number(sys::own_pid())];
    Message::error()
        .add("% (catatonit:%): ", &prefix)
        .add(template, values)
        .add("\n", &[]);
}

fn tell(settings: &Settings, event: Event<'_>) {
    match event {
        Event::NotExecuted(program, error) => {
            return line(
                "ERROR",
                "cannot execute %: %",
                &[Text(program), Error(error)],
            );
        }
        Event::NotStarted(error) => {
            return line("ERROR", "cannot start a process: %", &[Error(error)]);
        }
        Event::NoGroup(error) => return line("ERROR", "no process group: %", &[Error(error)]),
        Event::Subreaper(Err(error)) => {
            return line("ERROR", "cannot adopt orphans: %", &[Error(error)]);
        }
        _ if settings.verbosity == 0 => return,
        _ => {}
    }
    let line = |template, values: &[Value<'_>]| line("DEBUG", template, values);
    match event {
        Event::Started(program, pid) => {
            line("% runs, as process %", &[Text(program), Number(pid)]);
        }
        Event::NoTerminal(error) => line("no terminal handed over: %", &[Error(error)]),
        Event::Received(signal) => line("signal %", &[Number(signal)]),
        Event::NotForwarded(signal, error) => {
            line("signal % not forwarded: %", &[Number(signal), Error(error)])
        }
        Event::Reaped(pid, status, _) => line(
            "process % ended with %",
            &[Number(pid), Number(sys::shell_code(status))],
        ),
        _ => {}
    }
}
