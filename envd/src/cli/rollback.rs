//! `envd rollback`

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::{Context, Failure, generations::print_changes, lock::Change, operations::Operations};

/// Go back to what the environment was
///
/// Puts a generation's envd.lock back, the one before the present without N. It is there already, so this takes a moment and
/// no network. Where envd.toml asks for something else by now, the restored lock is used all the same until `envd lock` or
/// `envd update`; --manifest puts envd.toml back as well.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd rollback\n  envd rollback 3\n  envd rollback 3 --manifest"
)]
pub struct Arguments {
    /// The generation (see `envd generations`)
    #[arg(value_name = "N")]
    pub number: Option<u32>,
    /// Put envd.toml back, too, as it was when the generation was realised
    #[arg(long)]
    pub manifest: bool,
}

/// Where to go back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// This generation; else the one before the present.
    pub number: Option<u32>,
    /// With its envd.toml.
    pub manifest: bool,
}

/// What going back did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The generation that envd.lock was, if it was one.
    pub from: Option<u32>,
    /// The generation that envd.lock is now.
    pub to: u32,
    /// What is different from before, by name.
    pub changes: Vec<Change>,
    /// Whether envd.toml asks for what the lock is. If not, the next `envd lock` chooses anew.
    pub agrees: bool,
    /// Whether envd.toml was written.
    pub manifest: bool,
    /// Where the envd.toml that was there before is, if no generation has it.
    pub kept: Option<PathBuf>,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let request = Request {
        number: arguments.number,
        manifest: arguments.manifest,
    };
    let report = operations.rollback(&project, request)?;
    context.output.result(&report, |out, style| {
        print_changes(out, style, &report.changes, usize::MAX, "")?;
        let to = report.to;
        match report.from {
            Some(from) if from == to => writeln!(out, "generation {to} is what it was"),
            Some(from) => writeln!(out, "back from generation {from} to generation {to}"),
            None => writeln!(out, "back to generation {to}"),
        }
    })?;
    if let Some(kept) = &report.kept {
        let kept = kept.display();
        context
            .output
            .note(&format!("the envd.toml that was there is now {kept}"));
    }
    if !report.agrees {
        let to = report.to;
        context.output.warn(&format!(
            "envd.toml does not ask for what generation {to} is; it is used all the same until the next `envd lock` or `envd update`, \
             which choose anew. `envd rollback {to} --manifest` puts envd.toml back as well"
        ));
    }
    Ok(ExitCode::SUCCESS)
}
