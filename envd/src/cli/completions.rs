//! `envd completions`

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Context, Failure, Kind};

/// Print a shell's completions
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd completions bash > ~/.local/share/bash-completion/completions/envd\n  envd completions zsh > ~/.zfunc/_envd\n  envd completions fish > ~/.config/fish/completions/envd.fish"
)]
pub struct Arguments {
    /// The shell
    pub shell: Shell,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let text = completions(arguments.shell)?;
    context.output.raw(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: Shell) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut super::Arguments::command(), "envd", &mut bytes);
    String::from_utf8(bytes).map_err(|e| Failure::of(Kind::Other, &e))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let text = completions(*shell).unwrap();
            for command in super::super::Arguments::command().get_subcommands() {
                assert!(
                    text.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }
}
