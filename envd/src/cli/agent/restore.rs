//! `envd agent restore`

use std::process::ExitCode;

use envd_agents::service::environment::EnvironmentRestore;

use super::{
    super::{Context, Failure, Kind},
    connection::existing,
    name::Name,
};

/// Put an environment's files back as they were in a snapshot
///
/// What runs in it is killed, and what was changed since is lost. With --as-new it is left alone, and the snapshot becomes an
/// environment of its own.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples\n  envd agent restore try before\n  envd agent restore try before --as-new --name again"
)]
pub struct Arguments {
    /// The environment; with --as-new it may be gone, and is named by its handle then
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: String,
    /// One of its snapshots
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
    /// Make a new environment of it, and print its handle
    #[arg(long)]
    pub as_new: bool,
    /// The new one's name
    #[arg(long, value_name = "NAME", requires = "as_new")]
    pub name: Option<Name>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "environment", &arguments.environment)?;
    let snapshot = sessions.snapshot(&arguments.snapshot)?;
    if snapshot.environment.as_str() != arguments.environment {
        let environment = sessions.environment(&arguments.environment)?;
        if snapshot.environment != environment.environment {
            let message = format!(
                "the snapshot {} is of {} and not of {}",
                arguments.snapshot, snapshot.environment, arguments.environment
            );
            return Err(Failure::new(Kind::Usage, message)
                .help("`envd agent ls` lists the snapshots with their environments"));
        }
    }
    let wish = EnvironmentRestore {
        snapshot: snapshot.snapshot,
        as_new: arguments.as_new,
        name: arguments.name.as_ref().map(Name::text),
    };
    let restored = sessions.ask(|service, call| service.environment_restore(call, wish))?;
    context
        .output
        .result(&restored, |out, _| match arguments.as_new {
            true => writeln!(out, "{}", restored.environment),
            false => Ok(()),
        })?;
    Ok(ExitCode::SUCCESS)
}
