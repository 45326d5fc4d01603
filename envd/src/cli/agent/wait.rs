//! `envd agent wait`

use std::{process::ExitCode, time::Instant};

use envd_agents::service::command::{MOST_WAIT_SECONDS, Status};

use super::{
    super::{Context, Failure, lease::Time},
    connection::existing,
    ending::{TIME_OVER, exit_code},
    logs::poll,
};

/// Wait for a command that was detached, and exit as it did
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd agent wait cmd_1f00\n  envd agent wait cmd_1f00 --timeout 0s; echo $?    # 124: it runs"
)]
pub struct Arguments {
    /// The command's handle, or its beginning
    #[arg(value_name = "COMMAND")]
    pub command: String,
    /// Give up after this time, with 124, and leave it running
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Time>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let end = arguments.timeout.map(|time| Instant::now() + time.0);
    let sessions = existing(context, "command", &arguments.command)?;
    let command = sessions.command(&arguments.command)?;
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let seconds = left.map_or(MOST_WAIT_SECONDS, |left| {
            left.as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(MOST_WAIT_SECONDS)
        });
        // Of its output there is never more than that.
        let polled = poll(&sessions, &command, [u64::MAX; 2], seconds, 0)?;
        let running = polled.status == Status::RUNNING;
        if !running || left.is_some_and(|left| left.is_zero()) {
            context.output.result(&polled, |_, _| Ok(()))?;
            return Ok(ExitCode::from(match running {
                true => TIME_OVER,
                false => exit_code(&polled.status),
            }));
        }
    }
}
