//! `envd remove`

use std::process::ExitCode;

use super::{Context, Failure, add::Report};
use crate::config::{Source, edit, write_over};

/// Remove packages from envd.toml
///
/// Edits the file in place; comments, order and layout stay. A package goes whatever its constraint is.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Examples\n  envd remove make")]
pub struct Arguments {
    /// Names
    #[arg(required = true, value_name = "PACKAGE")]
    pub packages: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let path = project.manifest();
    let edited = edit::remove(&Source::load(&path)?, &arguments.packages)?;
    write_over(&path, &edited.text)?;
    let report = Report {
        path: path.display().to_string(),
        added: Vec::new(),
        removed: edited.packages,
    };
    context.output.result(&report, |out, _| {
        writeln!(
            out,
            "removed {} from {}",
            report.removed.join(", "),
            report.path
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
