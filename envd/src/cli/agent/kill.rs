//! `envd agent kill`

use std::process::ExitCode;

use envd_agents::service::command::{CommandSignal, Signal};

use super::{
    super::{Context, Failure},
    connection::existing,
};

/// Send a signal to a command and all of its process group
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd agent kill cmd_1f00\n  envd agent kill cmd_1f00 --signal KILL"
)]
pub struct Arguments {
    /// The command's handle, or its beginning
    #[arg(value_name = "COMMAND")]
    pub command: String,
    /// TERM, INT, HUP, QUIT, KILL, USR1, USR2, STOP or CONT
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = parse_signal)]
    pub signal: Signal,
}

fn parse_signal(text: &str) -> Result<Signal, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    serde_json::from_value(name.into())
        .map_err(|_| "there are TERM, INT, HUP, QUIT, KILL, USR1, USR2, STOP and CONT".to_owned())
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "command", &arguments.command)?;
    let wish = CommandSignal {
        command: sessions.command(&arguments.command)?,
        stdin: None,
        close_stdin: false,
        terminal: None,
        signal: Some(arguments.signal),
    };
    let signalled = sessions.ask(|service, call| service.command_signal(call, wish))?;
    context.output.result(&signalled, |_, _| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_as_kill_names_them() {
        assert_eq!(parse_signal("TERM"), Ok(Signal::Term));
        assert_eq!(parse_signal("sigkill"), Ok(Signal::Kill));
        assert!(parse_signal("9").is_err() && parse_signal("SEGV").is_err());
    }
}
