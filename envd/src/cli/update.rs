//! `envd update`

use std::process::ExitCode;

use super::{
    Context, Failure,
    lock::{self, Request, Update},
    operations::Operations,
};

/// Choose newer versions, of all packages or of some
///
/// With names only these move, and what they need moved; everything else stays as it is locked.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd update\n  envd update openssl libssl3t64\n  envd update --dry-run"
)]
pub struct Arguments {
    /// Packages to update instead of all
    #[arg(value_name = "PACKAGE")]
    pub packages: Vec<String>,
    /// Only say what would change
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let request = Request {
        update: match &arguments.packages[..] {
            [] => Update::All,
            names => Update::Names(names.to_vec()),
        },
        check: arguments.dry_run,
    };
    lock::perform(&request, context, operations)?;
    Ok(ExitCode::SUCCESS)
}
