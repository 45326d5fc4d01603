//! Our own command line.

use super::{
    event::Event,
    message::{
        Message,
        Value::{self, Error, Number, Signal, Text},
    },
    numbers,
    options::{Grammar, Word, Words},
    settings::{Command, Placement, SETTINGS, STOPS, Settings},
};
use crate::sys::{self, SignalSet, Start, constant::*};

const GRAMMAR: Grammar = Grammar {
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
};

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

/// Exit code for a wrong command line.
const WRONG: i32 = 125;

/// From the command line; otherwise gives the exit code.
pub fn parse(start: &Start) -> Result<(Settings, Command<'_>), i32> {
    let mut settings = Settings { tell, ..SETTINGS };
    let words = Words::new(&start.arguments, &GRAMMAR, false);
    for word in words.clone() {
        match word {
            Word::Option(b'g', _) => settings.to_group = true,
            Word::Option(b's', _) => settings.subreaper = true,
            Word::Option(b'w', _) => settings.tells_orphans = true,
            Word::Option(b'v', _) => settings.verbosity = 1,
            Word::Option(b'S', _) => {
                settings.placement = Placement::Session;
                settings.kept = SignalSet(0);
                settings.suspending = STOPS;
            }
            Word::Option(b'p', value) => {
                let signal = numbers::signal(value);
                settings.parent_death = signal.ok_or_else(|| refuse("a signal", value))?;
            }
            Word::Option(b'r', value) => {
                let (from, to) = pair(value)
                    .ok_or_else(|| refuse("FROM:TO, two signals from 1 to 31", value))?;
                settings.rewrites.set(from, to);
            }
            Word::Option(b'e', value) => {
                let code = numbers::code(value)
                    .ok_or_else(|| refuse("an exit code from 0 to 255", value))?;
                settings.forgiven.add(code);
            }
            Word::Option(b'h', _) => {
                Message::output().add(HELP, &[]);
                return Err(0);
            }
            Word::Option(..) => {
                Message::output().add("envd-init %\n", &[Text(VERSION.as_bytes())]);
                return Err(0);
            }
            Word::Wrong(mistake) => {
                mistake.tell(c"envd-init", &GRAMMAR);
                return Err(see_help());
            }
            Word::Operand(_) => break,
        }
    }
    if settings.placement == Placement::Session {
        // The kernel does not stop the group of a session's leader for the sake of a terminal.
        for signal in [SIGTSTP, SIGTTOU, SIGTTIN] {
            settings.rewrites.set_default(signal, SIGSTOP);
        }
    }
    let command = Command::new(words, start);
    if command.operands().next().is_none() {
        line("no PROGRAM given", &[]);
        return Err(see_help());
    }
    Ok((settings, command))
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn pair(text: &[u8]) -> Option<(i32, i32)> {
    let mut halves = text.splitn(2, |&byte| byte == b':');
    let from = numbers::signal(halves.next()?)?;
    let to = match halves.next()? {
        b"0" => 0,
        name => numbers::signal(name)?,
    };
    (from < 32 && to < 32).then_some((from, to))
}

fn refuse(wanted: &str, value: &[u8]) -> i32 {
    line("'%' is not %", &[Text(value), Text(wanted.as_bytes())]);
    see_help()
}

fn see_help() -> i32 {
    line("try envd-init --help", &[]);
    WRONG
}

fn line(template: &str, values: &[Value<'_>]) {
    Message::error()
        .add("envd-init: ", &[])
        .add(template, values)
        .add("\n", &[]);
}

fn tell(settings: &Settings, event: Event<'_>) {
    match event {
        Event::NotExecuted(program, error) => {
            return line("cannot execute %: %", &[Text(program), Error(error)]);
        }
        Event::NotStarted(error) => return line("cannot start a process: %", &[Error(error)]),
        Event::Subreaper(Err(error)) => return line("cannot adopt orphans: %", &[Error(error)]),
        Event::NoParentDeathSignal(error) => {
            return line(
                "no signal will come when the parent dies: %",
                &[Error(error)],
            );
        }
        Event::NoGroup(error) => return line("no process group: %", &[Error(error)]),
        Event::Session(Err(error)) => return line("no session: %", &[Error(error)]),
        Event::Reaped(pid, _, false) if settings.tells_orphans => {
            return line("reaped orphan %", &[Number(pid)]);
        }
        _ if settings.verbosity == 0 => return,
        _ => {}
    }
    match event {
        Event::NotReaper => line(
            "not PID 1 and no subreaper: orphans go to another process (--subreaper)",
            &[],
        ),
        Event::NoTerminal(error) => line("no terminal handed over: %", &[Error(error)]),
        Event::Started(program, pid) => {
            line("% runs, as process %", &[Text(program), Number(pid)]);
        }
        Event::Rewritten(from, to) => line("signal % becomes %", &[Number(from), Number(to)]),
        Event::Forwarded(signal) => line("sent on: %", &[Signal(signal)]),
        Event::NotForwarded(signal, error) => {
            line("not sent on: %: %", &[Signal(signal), Error(error)])
        }
        Event::Reaped(pid, status, _) => line(
            "process % ended with %",
            &[Number(pid), Number(sys::shell_code(status))],
        ),
        Event::Ended(code) => line("ends with %", &[Number(code)]),
        _ => {}
    }
}
