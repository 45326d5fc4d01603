//! `envd agent logs`

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use envd_agents::service::{
    CommandId, ResourceRead, ResourceUri, Stream,
    command::{CommandPoll, CommandPolled, MOST_OUTPUT_BYTES, MOST_WAIT_SECONDS, Status},
};
use serde::Serialize;

use super::{
    super::{Context, Failure, Kind, output::plain},
    connection::{Sessions, existing},
    ending::words,
    terminal::Plain,
};

/// Bytes that are asked for at a time.
const PIECE: u64 = 1 << 20;

/// Print what a command has written so far, or list the commands
///
/// Its outputs go to ours, whole and as they were. They are kept, up to a gigabyte each, until the environment ends. Without a
/// command, lists those whose output is kept.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd agent logs\n  envd agent logs -f cmd_1f00\n  envd agent logs cmd_1f00 --offset 4096 --json    # and where to go on: next_offset"
)]
pub struct Arguments {
    /// The command's handle, or its beginning
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
    /// Go on with what it writes until it ends
    #[arg(short, long, requires = "command")]
    pub follow: bool,
    /// Begin at this byte of its standard output
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub offset: u64,
    /// Begin at this byte of its standard error
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub error_offset: u64,
}

/// A command in a list.
#[derive(Serialize)]
struct Listed {
    command: CommandId,
    #[serde(flatten)]
    status: Status,
    words: String,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let Some(operand) = &arguments.command else {
        return list(context);
    };
    let sessions = existing(context, "command", operand)?;
    let command = sessions.command(operand)?;
    let mut reading = Reading {
        sessions: &sessions,
        command,
        offsets: [arguments.offset, arguments.error_offset],
        plain: [
            io::stdout().is_terminal().then(Plain::default),
            io::stderr().is_terminal().then(Plain::default),
        ],
    };
    match context.output.json {
        true => reading.print_json(arguments.follow, context)?,
        false => reading.print(arguments.follow)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context) -> Result<ExitCode, Failure> {
    let mut listed = Vec::new();
    if let Some(sessions) = Sessions::existing(context)? {
        for (command, words) in sessions.commands()? {
            // One that went with its environment meanwhile is none.
            if let Ok(polled) = poll(&sessions, &command, [u64::MAX; 2], 0, 0) {
                listed.push(Listed {
                    command,
                    status: polled.status,
                    words,
                });
            }
        }
    }
    context.output.result(&listed, |out, style| {
        if listed.is_empty() {
            return writeln!(out, "no command was run");
        }
        for one in &listed {
            let command = style.strong(one.command.as_str());
            writeln!(
                out,
                "{command}  {}: {}",
                words(&one.status),
                plain(&one.words)
            )?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// How a command stands, once there is more than `offsets` or so many seconds are over.
pub(super) fn poll(
    sessions: &Sessions,
    command: &CommandId,
    [stdout_offset, stderr_offset]: [u64; 2],
    wait_seconds: u64,
    output_bytes: u64,
) -> Result<CommandPolled, Failure> {
    let request = CommandPoll {
        command: command.clone(),
        stdout_offset,
        stderr_offset,
        wait_seconds,
        output_bytes,
    };
    sessions.ask(|service, call| service.command_poll(call, request))
}

struct Reading<'s> {
    sessions: &'s Sessions,
    command: CommandId,
    offsets: [u64; 2],
    plain: [Option<Plain>; 2],
}

impl Reading<'_> {
    fn poll(&self, wait: u64, bytes: u64) -> Result<CommandPolled, Failure> {
        poll(self.sessions, &self.command, self.offsets, wait, bytes)
    }

    /// Prints outputs as they are.
    fn print(&mut self, follow: bool) -> Result<(), Failure> {
        loop {
            let wait = if follow { MOST_WAIT_SECONDS } else { 0 };
            let polled = self.poll(wait, 0)?;
            let running = polled.status == Status::RUNNING;
            let totals = [polled.stdout.total_bytes, polled.stderr.total_bytes];
            for (at, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
                self.catch_up(at, stream, totals[at])?;
            }
            if !running || !follow {
                break;
            }
        }
        for at in 0..2 {
            let rest = self.plain[at].as_mut().map(Plain::finish);
            write(at, &rest.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Prints one output up to `total`.
    fn catch_up(&mut self, at: usize, stream: Stream, total: u64) -> Result<(), Failure> {
        while self.offsets[at] < total {
            let request = ResourceRead {
                uri: ResourceUri::Output {
                    command: self.command.clone(),
                    stream,
                },
                offset: self.offsets[at],
                limit: PIECE.min(total - self.offsets[at]),
            };
            let piece = self
                .sessions
                .ask(|service, call| service.resource_read(call, request))?;
            if piece.bytes.is_empty() {
                let message = format!(
                    "{} bytes of the command's {} were not kept",
                    total - self.offsets[at],
                    stream.name()
                );
                return Err(Failure::new(Kind::Other, message)
                    .help("a gigabyte of each is; have it write the rest to a file"));
            }
            self.offsets[at] += piece.bytes.len() as u64;
            match &mut self.plain[at] {
                Some(plain) => write(at, &plain.push(&piece.bytes))?,
                None => write(at, &piece.bytes)?,
            }
        }
        Ok(())
    }

    /// Prints polls: one, or one a line until the end.
    fn print_json(&mut self, follow: bool, context: &Context) -> Result<(), Failure> {
        if !follow {
            let polled = self.poll(0, MOST_OUTPUT_BYTES)?;
            return context.output.result(&polled, |_, _| Ok(()));
        }
        loop {
            let polled = self.poll(MOST_WAIT_SECONDS, MOST_OUTPUT_BYTES)?;
            self.offsets = [polled.stdout.next_offset, polled.stderr.next_offset];
            let line =
                serde_json::to_string(&polled).map_err(|error| Failure::of(Kind::Other, &error))?;
            context.output.raw(&format!("{line}\n"))?;
            let whole = |stretch: &envd_agents::service::command::Stretch| {
                stretch.next_offset >= stretch.total_bytes || stretch.next_offset == stretch.offset
            };
            let all = whole(&polled.stdout) && whole(&polled.stderr);
            if polled.status != Status::RUNNING && all {
                return Ok(());
            }
        }
    }
}

fn write(at: usize, bytes: &[u8]) -> Result<(), Failure> {
    let written = match at {
        0 => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        _ => io::stderr().lock().write_all(bytes),
    };
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Kind::BrokenPipe, "nobody reads the output"),
        _ => Failure::of(Kind::Other, &error),
    })
}
