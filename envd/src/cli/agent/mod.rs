//! `envd agent`: environments for coding agents and their owners, one file a command.
//!
//! `mcp` lends them in its own process. All else asks the project's daemon, where they outlive the command that made them.

mod apply;
mod audit;
mod connection;
mod create;
mod diff;
mod ending;
mod explain;
mod failure;
mod fork;
mod grants;
mod input;
mod install;
mod kill;
mod logs;
mod ls;
mod mcp;
mod name;
mod pipes;
mod publish;
mod restore;
mod rm;
mod run;
mod snapshot;
mod terminal;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;

use super::{Context, Failure, operations::Operations};

/// Lend environments to coding agents
///
/// An environment has the project as a private copy: what is changed inside comes back only by `apply`. It ends by `rm`, with
/// its time, or with the project's daemon. Wherever an environment is asked for, its name, its handle or the beginning of that
/// will do.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples\n  envd agent create --name try\n  envd agent run try -- make test\n  envd agent diff try\n  envd agent apply try && envd agent rm try\n  envd agent install claude-code"
)]
pub struct Arguments {
    /// What about it.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done about agents.
#[derive(Subcommand, Clone, Debug)]
#[allow(missing_docs, reason = "each is documented where its arguments are")]
pub enum Command {
    Create(create::Arguments),
    Ls(ls::Arguments),
    Run(run::Arguments),
    Logs(logs::Arguments),
    Wait(wait::Arguments),
    Kill(kill::Arguments),
    Input(input::Arguments),
    Diff(diff::Arguments),
    Apply(apply::Arguments),
    Fork(fork::Arguments),
    Snapshot(snapshot::Arguments),
    Restore(restore::Arguments),
    Publish(publish::Arguments),
    Rm(rm::Arguments),
    Mcp(mcp::Arguments),
    Install(install::Arguments),
    Explain(explain::Arguments),
    Audit(audit::Arguments),
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Create(arguments) => create::run(arguments, context, operations),
        Command::Ls(arguments) => ls::run(arguments, context),
        Command::Run(arguments) => run::run(arguments, context),
        Command::Logs(arguments) => logs::run(arguments, context),
        Command::Wait(arguments) => wait::run(arguments, context),
        Command::Kill(arguments) => kill::run(arguments, context),
        Command::Input(arguments) => input::run(arguments, context),
        Command::Diff(arguments) => diff::run(arguments, context),
        Command::Apply(arguments) => apply::run(arguments, context),
        Command::Fork(arguments) => fork::run(arguments, context),
        Command::Snapshot(arguments) => snapshot::run(arguments, context),
        Command::Restore(arguments) => restore::run(arguments, context),
        Command::Publish(arguments) => publish::run(arguments, context),
        Command::Rm(arguments) => rm::run(arguments, context),
        Command::Mcp(arguments) => mcp::run(arguments, context),
        Command::Install(arguments) => install::run(arguments, context),
        Command::Explain(arguments) => explain::run(arguments, context),
        Command::Audit(arguments) => audit::run(arguments, context),
    }
}
