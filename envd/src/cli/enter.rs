//! `envd enter`

use std::process::ExitCode;

use super::{
    Context, Failure,
    entering::Inside,
    handing_over::{Wanted, run_if_there},
    operations::Operations,
    run::in_project,
};

/// Open a shell in the project's environment
///
/// It is your $SHELL if the environment has that, else bash, else sh. Ends with the shell, and so does everything started
/// in it.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd enter\n  envd enter --home host   # with your dotfiles; what is written to them is discarded"
)]
pub struct Arguments {
    /// Do not use the project's daemon, should it run
    #[arg(long)]
    pub no_daemon: bool,
    /// About the inside
    #[command(flatten)]
    pub inside: Inside,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    if !arguments.no_daemon
        && let Some(exit) = run_if_there(&arguments.inside, context, operations, Wanted::Shell)?
    {
        return Ok(exit.into());
    }
    let exit = in_project(&arguments.inside, context, operations, true, |root| {
        let shell = root.shell_to_open().ok_or_else(Failure::no_shell)?;
        Ok(vec![shell.into_os_string()])
    })?;
    Ok(exit.into())
}
