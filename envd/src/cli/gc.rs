//! `envd gc`

use std::process::ExitCode;

use serde::Serialize;

use super::{
    Context, Failure,
    operations::Operations,
    output::size,
    store::{Root, print_roots},
};

/// Free what no project uses any more
///
/// Works on a full disk, may be interrupted at any moment, and never takes anything from a running environment.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd gc --dry-run\n  envd gc --caches\n  envd gc --generations 2"
)]
pub struct Arguments {
    /// Only say what would be freed, and what keeps the rest
    #[arg(long)]
    pub dry_run: bool,
    /// Free the tools' caches (cargo, pip, npm, …), too
    #[arg(long)]
    pub caches: bool,
    /// Keep only the latest N generations of each project, and the present one
    #[arg(long, value_name = "N")]
    pub generations: Option<usize>,
}

/// What to free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Nothing, but say what.
    pub dry_run: bool,
    /// Tool caches as well.
    pub caches: bool,
    /// All but so many generations of each project; `None` for none of them.
    pub generations: Option<usize>,
}

/// What was freed, or would be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Objects.
    pub objects: u64,
    /// Trees.
    pub trees: u64,
    /// Bytes on disk, tool caches included.
    pub bytes: u64,
    /// What keeps the rest. Only in a dry run.
    pub kept: Vec<Root>,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let request = Request {
        dry_run: arguments.dry_run,
        caches: arguments.caches,
        generations: arguments.generations,
    };
    let report = operations.gc(&request)?;
    context.output.result(&report, |out, style| {
        let verb = if request.dry_run {
            "would free"
        } else {
            "freed"
        };
        writeln!(
            out,
            "{verb} {}: {} objects, {} trees",
            size(report.bytes),
            report.objects,
            report.trees
        )?;
        if !report.kept.is_empty() {
            writeln!(out, "kept, with what only they need:")?;
        }
        print_roots(out, style, &report.kept)
    })?;
    Ok(ExitCode::SUCCESS)
}
