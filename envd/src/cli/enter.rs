//! `envd enter`

use std::process::ExitCode;

use super::{Context, Failure, Kind, entering::Inside, operations::Operations, run::in_project};

/// Open a shell in the project's environment
///
/// It is your $SHELL if the environment has that, else bash, else sh. Ends with the shell, and so does everything started
/// in it.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd enter\n  envd enter --home host   # with your dotfiles; what is written to them is discarded"
)]
pub struct Arguments {
    /// Do not use the project's daemon: a shell on a terminal never does
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
    let exit = in_project(&arguments.inside, context, operations, true, |root| {
        let shell = root
            .own_shell
            .clone()
            .or_else(|| root.shell.map(Into::into));
        let shell = shell.ok_or_else(|| {
            Failure::new(Kind::Usage, "the environment has no shell").help("`envd add bash`")
        })?;
        Ok(vec![shell.into_os_string()])
    })?;
    Ok(exit.into())
}
