//! As dumb-init 1.2 takes its command line and speaks.

use super::{
    event::Event,
    message::{
        Message,
        Value::{self, Error, Number, Text},
    },
    numbers,
    options::{Grammar, Word, Words},
    settings::{Command, Placement, SETTINGS, STOPS, Settings, variable},
};
use crate::sys::{self, Errno, SignalSet, Start, constant::*};

const GRAMMAR: Grammar = Grammar {
    letters: b"hvVcr:",
    names: &[
        (b"help", b'h'),
        (b"single-child", b'c'),
        (b"rewrite", b'r'),
        (b"verbose", b'v'),
        (b"version", b'V'),
    ],
};

const VERSION: &str = "dumb-init v1.2.5\n";

/// From the command line and the environment; otherwise gives the exit code.
pub fn parse(start: &Start) -> Result<(Settings, Command<'_>), i32> {
    let called = start.arguments.iter().next().unwrap_or_default();
    let name = Text(called.to_bytes());
    let mut settings = Settings {
        tell,
        refused: |_| 2,
        placement: Placement::Session,
        to_group: true,
        own: SignalSet(0),
        kept: SignalSet(0),
        suspending: STOPS,
        ends_group: true,
        fresh_signals: true,
        ..SETTINGS
    };
    let words = Words::new(&start.arguments, &GRAMMAR, false);
    for word in words.clone() {
        match word {
            Word::Option(b'h', _) => {
                help(name);
                return Err(0);
            }
            Word::Option(b'V', _) => {
                Message::error().add(VERSION, &[]);
                return Err(0);
            }
            Word::Option(b'v', _) => settings.verbosity = 1,
            Word::Option(b'c', _) => single_child(&mut settings),
            Word::Option(_, rewrite) => {
                let (from, to) = pair(rewrite).ok_or_else(refuse)?;
                settings.rewrites.set(from, to);
            }
            Word::Wrong(mistake) => {
                mistake.tell(called, &GRAMMAR);
                return Err(1);
            }
            Word::Operand(_) => break,
        }
    }
    let command = Command::new(words, start);
    if command.operands().next().is_none() {
        Message::error().add(
            "Usage: % [option] program [args]\nTry % --help for full usage.\n",
            &[name, name],
        );
        return Err(1);
    }
    if variable(&start.environment, b"DUMB_INIT_DEBUG") == Some(b"1") {
        settings.verbosity = 1;
        line("Running in debug mode.", &[]);
    }
    if variable(&start.environment, b"DUMB_INIT_SETSID") == Some(b"0") {
        single_child(&mut settings);
        if settings.verbosity > 0 {
            line("Not running in setsid mode.", &[]);
        }
    }
    if settings.placement == Placement::Session {
        // The kernel does not stop the group of a session's leader for the sake of a terminal.
        for signal in [SIGTSTP, SIGTTOU, SIGTTIN] {
            settings.rewrites.set_default(signal, SIGSTOP);
        }
    }
    Ok((settings, command))
}

fn single_child(settings: &mut Settings) {
    settings.placement = Placement::Beside;
    settings.to_group = false;
}

/// `s:r`, and what comes behind it, which is passed over.
fn pair(text: &[u8]) -> Option<(i32, i32)> {
    let (from, rest) = numbers::leading(text)?;
    let (to, _) = numbers::leading(rest.strip_prefix(b":")?)?;
    ((1..=31).contains(&from) && (0..=31).contains(&to)).then_some((from, to))
}

fn refuse() -> i32 {
    Message::error().add(
        "Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.\n\
        This option can be specified multiple times.\n\
        Use --help for full usage.\n",
        &[],
    );
    1
}

fn help(name: Value<'_>) {
    Message::error().add(VERSION, &[]).add(
        "Usage: % [option] command [[arg] ...]\n\
        \n\
        dumb-init is a simple process supervisor that forwards signals to children.\n\
        It is designed to run as PID1 in minimal container environments.\n\
        \n\
        Optional arguments:\n   \
        -c, --single-child   Run in single-child mode.\n                        \
        In this mode, signals are only proxied to the\n                        \
        direct child and not any of its descendants.\n   \
        -r, --rewrite s:r    Rewrite received signal s to new signal r before proxying.\n                        \
        To ignore (not proxy) a signal, rewrite it to 0.\n                        \
        This option can be specified multiple times.\n   \
        -v, --verbose        Print debugging information to stderr.\n   \
        -h, --help           Print this help message and exit.\n   \
        -V, --version        Print the current version and exit.\n\
        \n\
        Full help is available online at https://github.com/Yelp/dumb-init\n",
        &[name],
    );
}

fn line(template: &str, values: &[Value<'_>]) {
    Message::error()
        .add("[dumb-init] ", &[])
        .add(template, values)
        .add("\n", &[]);
}

fn tell(settings: &Settings, event: Event<'_>) {
    match event {
        Event::NotStarted(_) => return line("Unable to fork. Exiting.", &[]),
        Event::NotExecuted(program, error) => {
            return line("%: %", &[Text(program), Error(error)]);
        }
        Event::Session(Err(error)) => return unable("setsid", error, ". Exiting."),
        _ if settings.verbosity == 0 => return,
        _ => {}
    }
    match event {
        Event::LeftTerminal(Ok(true)) => line(
            "Detached from controlling tty, ignoring the first SIGHUP and SIGCONT we receive.",
            &[],
        ),
        Event::LeftTerminal(Ok(false)) => line(
            "Detached from controlling tty, but was not session leader.",
            &[],
        ),
        Event::LeftTerminal(Err(error)) => unable("detach from controlling tty", error, "."),
        Event::HandOff(signal) => {
            line("Received signal %.", &[Number(signal)]);
            line("Ignoring tty hand-off signal %.", &[Number(signal)]);
        }
        Event::Session(Ok(())) => line("setsid complete.", &[]),
        Event::NoTerminal(error) => unable("attach to controlling tty", error, "."),
        Event::NoRoot(error) => unable("chdir(\"/\")", error, ""),
        Event::Started(_, pid) => line("Child spawned with PID %.", &[Number(pid)]),
        Event::Received(signal) => line("Received signal %.", &[Number(signal)]),
        Event::Rewritten(from, to) => {
            line("Translating signal % to %.", &[Number(from), Number(to)])
        }
        Event::Dropped(signal) => line(
            "Not forwarding signal % to children (ignored).",
            &[Number(signal)],
        ),
        Event::Forwarded(signal) | Event::NotForwarded(signal, _) => {
            line("Forwarded signal % to children.", &[Number(signal)]);
        }
        Event::Suspending => line("Suspending self due to TTY signal.", &[]),
        Event::Reaped(pid, status, _) => match (sys::shell_code(status), status & 0x7f) {
            (code, 0) => line(
                "A child with PID % exited with exit status %.",
                &[Number(pid), Number(code)],
            ),
            (_, signal) => line(
                "A child with PID % was terminated by signal %.",
                &[Number(pid), Number(signal)],
            ),
        },
        Event::Ended(code) => line("Child exited with status %. Goodbye.", &[Number(code)]),
        _ => {}
    }
}

fn unable(to: &str, error: Errno, end: &str) {
    line(
        "Unable to % (errno=% %)%",
        &[
            Text(to.as_bytes()),
            Number(error.0),
            Error(error),
            Text(end.as_bytes()),
        ],
    );
}
