//! `envd add`

use std::process::ExitCode;

use serde::Serialize;

use super::{Context, Failure};
use crate::config::{Source, edit, write_over};

/// Add packages to envd.toml
///
/// Edits the file in place; comments, order and layout stay. The next `envd run` or `envd lock` locks and fetches them.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Examples\n  envd add gcc make\n  envd add 'python3@>=3.11' git+recommends")]
pub struct Arguments {
    /// NAME, NAME@CONSTRAINT (3.11, >=3.11, <4) or NAME+recommends
    #[arg(required = true, value_name = "PACKAGE")]
    pub packages: Vec<String>,
}

/// What was edited.
#[derive(Serialize)]
pub(super) struct Report {
    pub path: String,
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let path = project.manifest();
    let edited = edit::add(&Source::load(&path)?, &arguments.packages)?;
    write_over(&path, &edited.text)?;
    let report = Report {
        path: path.display().to_string(),
        added: edited.packages,
        removed: Vec::new(),
    };
    context.output.result(&report, |out, _| {
        writeln!(out, "added {} to {}", report.added.join(", "), report.path)
    })?;
    Ok(ExitCode::SUCCESS)
}
