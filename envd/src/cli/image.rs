//! `envd image`

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::{Context, Failure, operations::Operations};

/// Write the environment as an OCI image
///
/// Makes an image layout directory with one layer, the environment's root: the same lock gives the same bytes, as any user,
/// anywhere. Tools take it as `oci:DIR`.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd image --output web\n  envd image -o web -- python3 -m http.server\n  skopeo copy oci:web docker://registry.example/web"
)]
pub struct Arguments {
    /// The directory to make
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// What the image runs when nothing else is asked for
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The layout's directory.
    pub path: PathBuf,
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let manifest = context.manifest(&project)?;
    let output = context.directory.join(&arguments.output);
    let report = {
        let progress = context.progress();
        operations.image(&project, &manifest, &output, &arguments.command, &progress)?
    };
    context.output.result(&report, |out, _| {
        writeln!(out, "{} {}", report.path.display(), report.digest)
    })?;
    Ok(ExitCode::SUCCESS)
}
