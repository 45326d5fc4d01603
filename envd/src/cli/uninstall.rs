//! `envd uninstall`

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use serde::Serialize;

use super::{Context, Failure, Kind, operations::Operations, output::size};

/// Remove everything envd ever made
///
/// The store, tool caches, indexes and sockets; projects keep their envd.toml and envd.lock, and the program itself is
/// yours to remove. With --verify nothing is removed: it fails if anything is left.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd uninstall\n  envd uninstall --yes && envd uninstall --verify"
)]
pub struct Arguments {
    /// Only prove that nothing is left
    #[arg(long)]
    pub verify: bool,
    /// Do not ask
    #[arg(long, short = 'y', conflicts_with = "verify")]
    pub yes: bool,
}

/// Something that envd made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub what: String,
    /// Bytes on disk.
    pub bytes: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    removed: &'a [Leftover],
    left: &'a [Leftover],
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let found = operations.leftovers()?;
    if arguments.verify {
        let report = Report {
            removed: &[],
            left: &found,
        };
        context.output.result(&report, |out, _| match &found[..] {
            [] => writeln!(out, "nothing is left"),
            found => list(out, found),
        })?;
        return verdict(&found);
    }
    if found.is_empty() {
        context.output.result(
            &Report {
                removed: &[],
                left: &[],
            },
            |out, _| writeln!(out, "there is nothing to remove"),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes && !confirmed(&found)? {
        return Err(Failure::new(Kind::Other, "nothing was removed"));
    }
    operations.uninstall()?;
    let left = operations.leftovers()?;
    let report = Report {
        removed: &found,
        left: &left,
    };
    context.output.result(&report, |out, _| {
        let bytes: u64 = found.iter().map(|l| l.bytes).sum();
        writeln!(out, "removed {}", size(bytes))?;
        list(out, &left)
    })?;
    verdict(&left)
}

fn list(out: &mut dyn Write, leftovers: &[Leftover]) -> io::Result<()> {
    for leftover in leftovers {
        writeln!(
            out,
            "{:>10}  {}  {}",
            size(leftover.bytes),
            leftover.path.display(),
            leftover.what
        )?;
    }
    Ok(())
}

fn verdict(left: &[Leftover]) -> Result<ExitCode, Failure> {
    match left {
        [] => Ok(ExitCode::SUCCESS),
        [first, ..] => Err(Failure::new(
            Kind::Other,
            format!("{} is left", first.path.display()),
        )),
    }
}

/// Asks, where there is somebody to answer.
fn confirmed(found: &[Leftover]) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::new(Kind::Usage, "nobody is there to confirm")
            .help("`envd uninstall --yes` does not ask"));
    }
    let mut error = io::stderr().lock();
    let asked = list(&mut error, found)
        .and_then(|()| write!(error, "Remove all this? [y/N] "))
        .and_then(|()| error.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
    read.map_err(|e| Failure::of(Kind::Other, &e))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
