//! `envd x`

use std::{ffi::OsString, process::ExitCode};

use super::{
    Context, Failure,
    entering::{Entering, Inside},
    operations::Operations,
    script,
};
use crate::{
    config::EnvironmentSection,
    environment::{Caller, Workplace},
    provider::Channel,
};

/// Run a tool once, from no project at all
///
/// The current directory is seen inside and writable, unless it is your home directory, / or one of the system's: then
/// nothing of this machine is. Without a command, the program that is named like the first package is run.
///
/// In a script's first line, the script itself is run by the first package's interpreter.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd x hello\n  envd x ripgrep -- rg main\n  #!/usr/bin/env -S envd x python3@3.13 --"
)]
pub struct Arguments {
    /// Take packages from this channel (may be given several times; the first is preferred)
    #[arg(long = "channel", value_name = "CHANNEL")]
    pub channels: Vec<Channel>,
    /// Packages: NAME or NAME@CONSTRAINT
    #[arg(required = true, value_name = "PACKAGE")]
    pub packages: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
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
    let mut section = EnvironmentSection::one_off(arguments.packages.clone());
    if !arguments.channels.is_empty() {
        let channels = arguments.channels.iter().cloned();
        section.channels = channels.map(|c| toml::Spanned::new(0..0, c)).collect();
    }
    let caller = Caller::of_this_process(&context.variables);
    let workplace = Workplace::current(&context.directory, &caller.home);
    let script = script::named_by(&arguments.command, &context.directory);
    let readable = match &script {
        Some(script) => script.seen_from(&workplace, &caller.home),
        None => Vec::new(),
    };
    if workplace == Workplace::Nothing && script.is_none() {
        let place = context.directory.display();
        context.output.note(&format!(
            "note: nothing of {place} is seen inside; a directory of its own would be"
        ));
    }
    operations.require(&arguments.inside.require)?;
    let environment = {
        let progress = context.progress();
        operations.realise_once(&section, &progress)?
    };
    let exit = Entering {
        context,
        operations,
        inside: &arguments.inside,
        section: &section,
        environment: &environment,
        caller: &caller,
        project: None,
        workplace: &workplace,
        writable: &[],
        readable: &readable,
        directory: &context.directory,
        prompt: None,
    }
    .enter(|root| {
        script::command(
            root,
            &arguments.packages[0],
            &arguments.command,
            script.as_ref(),
        )
    })?;
    Ok(exit.into())
}
