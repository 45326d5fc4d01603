//! `envd agent input`

use std::{
    io::{self, Read as _},
    process::ExitCode,
};

use envd_agents::service::{
    command::{CommandSignal, CommandSignalled},
    excerpt::whole_characters,
};

use super::{
    super::{Context, Failure, Kind},
    connection::{Sessions, existing},
};
use envd_agents::service::CommandId;

/// Write our standard input to that of a command
///
/// The command must have been started with --detach --keep-input-open. Afterwards its input is closed.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  echo status | envd agent input cmd_1f00 --keep-open\n  envd agent input cmd_1f00 < answers"
)]
pub struct Arguments {
    /// The command's handle, or its beginning
    #[arg(value_name = "COMMAND")]
    pub command: String,
    /// Leave its input open for more
    #[arg(long)]
    pub keep_open: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "command", &arguments.command)?;
    let command = sessions.command(&arguments.command)?;
    let mut input = io::stdin().lock();
    let mut held = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut written = 0;
    loop {
        let count = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| {
                Failure::of(Kind::Usage, &error).help("standard input cannot be read")
            })?,
        };
        held.extend_from_slice(&buffer[..count]);
        let whole = match count {
            0 => held.len(),
            _ => whole_characters(&held),
        };
        let rest = held.split_off(whole);
        let text = String::from_utf8(std::mem::replace(&mut held, rest)).map_err(|_| {
            let message = format!("standard input is not UTF-8 after {written} bytes");
            Failure::new(Kind::Usage, message)
                .help("`envd agent run` passes any input on; or write it to a file inside")
        })?;
        let last = count == 0;
        let told = tell(&sessions, &command, text, last && !arguments.keep_open)?;
        written += told.written_bytes;
        if last {
            context.output.result(&told, |_, _| Ok(()))?;
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn tell(
    sessions: &Sessions,
    command: &CommandId,
    text: String,
    close: bool,
) -> Result<CommandSignalled, Failure> {
    let request = CommandSignal {
        command: command.clone(),
        stdin: (!text.is_empty()).then_some(text),
        close_stdin: close,
        terminal: None,
        signal: None,
    };
    sessions.ask(|service, call| service.command_signal(call, request))
}
