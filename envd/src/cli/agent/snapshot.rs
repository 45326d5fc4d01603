//! `envd agent snapshot`

use std::process::ExitCode;

use envd_agents::service::environment::EnvironmentSnapshot;

use super::{
    super::{Context, Failure},
    connection::existing,
    name::Name,
};

/// Freeze an environment's files, and print the snapshot's handle
///
/// A snapshot is kept as long as its environment was lent for, or until `envd agent rm`. What runs inside has to end first.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples\n  envd agent snapshot try --name before\n  envd agent restore try before"
)]
pub struct Arguments {
    /// The environment, which goes on as it is
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: String,
    /// A name that stands for the handle
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "environment", &arguments.environment)?;
    let wish = EnvironmentSnapshot {
        environment: sessions.environment(&arguments.environment)?.environment,
        name: arguments.name.as_ref().map(Name::text),
    };
    let snapshot = sessions.ask(|service, call| service.environment_snapshot(call, wish))?;
    context
        .output
        .result(&snapshot, |out, _| writeln!(out, "{}", snapshot.snapshot))?;
    Ok(ExitCode::SUCCESS)
}
