//! `envd agent fork`

use std::process::ExitCode;

use envd_agents::service::environment::EnvironmentFork;

use super::{
    super::{Context, Failure, lease::Time},
    connection::existing,
    create::{DEFAULT_TIME, seconds},
    name::Name,
};

/// Make environments that begin with the files of another, and print their handles
///
/// They share everything with it and with each other until it is changed. What runs in it is not copied, and has to end first.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples\n  envd agent fork try --name other\n  envd agent fork try --count 8 --name attempt    # attempt-1 … attempt-8"
)]
pub struct Arguments {
    /// The environment, which goes on as it is
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: String,
    /// How many
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub count: u32,
    /// A name; several get a number behind it
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// End them after this time: 30m, 8h, 2d
    #[arg(long, value_name = "TIME", default_value = DEFAULT_TIME)]
    pub ttl: Time,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "environment", &arguments.environment)?;
    let wish = EnvironmentFork {
        environment: sessions.environment(&arguments.environment)?.environment,
        count: arguments.count,
        name: arguments.name.as_ref().map(Name::text),
        ttl_seconds: Some(seconds(arguments.ttl)),
    };
    let forks = sessions.ask(|service, call| service.environment_fork(call, wish))?;
    context.output.result(&forks, |out, _| {
        for fork in &forks.environments {
            writeln!(out, "{}", fork.environment)?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
