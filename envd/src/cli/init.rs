//! `envd init`

use std::process::ExitCode;

use serde::Serialize;

use super::{Context, Failure, Kind};
use crate::{
    config::{NAME, WriteError, detect::detect, write_new},
    provider::Channel,
};

/// Write an envd.toml from what is here
///
/// Looks at the files of this directory (Cargo.toml, package.json, pyproject.toml, go.mod, Makefile, version files and
/// others), guesses packages and versions, and says what it guessed from what. Never overwrites a file.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd init\n  envd init --channel debian:bookworm\n  envd init --print > envd.toml.new"
)]
pub struct Arguments {
    /// Take packages from this channel
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<Channel>,
    /// Print the file instead of writing it
    #[arg(long)]
    pub print: bool,
}

#[derive(Serialize)]
struct Report {
    path: String,
    channel: String,
    packages: Vec<Guessed>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Guessed {
    package: String,
    why: String,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let root = context.new_project_root();
    let detection = detect(&root, arguments.channel.clone());
    let text = detection.manifest();
    if arguments.print {
        context.output.raw(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = root.join(NAME);
    write_new(&path, &text).map_err(|e| match e {
        WriteError::Exists { .. } => Failure::of(Kind::Usage, &e).help(
            "`envd add NAME` adds to it; `envd init --print` shows what would have been written",
        ),
        WriteError::Io { .. } => Failure::from(e),
    })?;
    let report = Report {
        path: path.display().to_string(),
        channel: detection.channel.to_string(),
        packages: detection
            .guesses
            .iter()
            .map(|guess| Guessed {
                package: guess.requirement(),
                why: guess.why.clone(),
            })
            .collect(),
        notes: detection.notes,
    };
    context.output.result(&report, |out, style| {
        writeln!(
            out,
            "wrote {} with packages of {}",
            report.path, report.channel
        )?;
        let width = report
            .packages
            .iter()
            .map(|g| g.package.len())
            .max()
            .unwrap_or(0);
        for guess in &report.packages {
            writeln!(
                out,
                "  {:width$}  {}",
                guess.package,
                style.faint(&super::output::plain(&guess.why))
            )?;
        }
        if report.packages.is_empty() {
            writeln!(
                out,
                "  nothing was recognised here; `envd add NAME` adds packages"
            )?;
        }
        for note in &report.notes {
            writeln!(out, "  note: {}", super::output::plain(note))?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
