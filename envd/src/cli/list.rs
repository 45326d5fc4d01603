//! `envd list`

use std::{io::Write, process::ExitCode};

use serde::Serialize;

use super::{
    Context, Failure,
    operations::Operations,
    output::{Style, size},
};

/// List the packages of the environment
///
/// Prints what is locked, with versions, channels and sizes of the archives.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd list\n  envd list --requested\n  envd list --json | jq '.[].name'"
)]
pub struct Arguments {
    /// Only what envd.toml asks for
    #[arg(long)]
    pub requested: bool,
}

/// A package of the environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The channel it is from.
    pub channel: String,
    /// Bytes of its archive.
    pub size: u64,
    /// Whether envd.toml asks for it.
    pub requested: bool,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let manifest = context.manifest(&project)?;
    let mut packages = {
        let progress = context.progress();
        operations.list(&project, &manifest, &progress)?
    };
    packages.retain(|package| package.requested || !arguments.requested);
    context
        .output
        .result(&packages, |out, style| print(out, style, &packages))?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut dyn Write, style: Style, packages: &[Package]) -> std::io::Result<()> {
    let width = |of: fn(&Package) -> &str| packages.iter().map(|p| of(p).len()).max().unwrap_or(0);
    let (names, versions, channels) = (
        width(|p| &p.name),
        width(|p| &p.version),
        width(|p| &p.channel),
    );
    for package in packages {
        let name = format!("{:names$}", package.name);
        let name = if package.requested {
            style.strong(&name)
        } else {
            name
        };
        writeln!(
            out,
            "{name}  {:versions$}  {:channels$}  {:>10}",
            package.version,
            package.channel,
            size(package.size)
        )?;
    }
    Ok(())
}
