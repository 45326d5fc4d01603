//! `envd lock`

use std::{io::Write, process::ExitCode};

use serde::Serialize;

use super::{
    Context, Failure, Kind,
    operations::Operations,
    output::{Style, size},
};

/// Choose versions and write envd.lock
///
/// A lock that still is what envd.toml asks for stays as it is, whatever has appeared since: `envd update` chooses newer
/// versions. `envd run` locks by itself when it has to.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd lock\n  envd lock --check   # in CI: fail if the lock does not fit envd.toml"
)]
pub struct Arguments {
    /// Write nothing; fail if the lock would have to change
    #[arg(long)]
    pub check: bool,
}

/// How to lock.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Request {
    /// What may move to newer versions.
    pub update: Update,
    /// Only say what would change.
    pub check: bool,
}

/// What may move to newer versions although it is locked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Update {
    /// Nothing.
    #[default]
    Nothing,
    /// These packages, and what they need moved.
    Names(Vec<String>),
    /// Everything.
    All,
}

/// What locking did, or would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The lock's path.
    pub path: String,
    /// Packages in it.
    pub packages: usize,
    /// Bytes of their archives.
    pub download: u64,
    /// What is different from before, by name. Empty if the lock stays as it is.
    pub changes: Vec<Change>,
}

/// A package that is different from before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// The version before, if it was locked.
    pub from: Option<String>,
    /// The version now, if it still is.
    pub to: Option<String>,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let request = Request {
        update: Update::Nothing,
        check: arguments.check,
    };
    let report = perform(&request, context, operations)?;
    if arguments.check && !report.changes.is_empty() {
        return Err(Failure::new(
            Kind::Other,
            format!("{} does not fit envd.toml", report.path),
        )
        .help("run `envd lock` and commit the result"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Locks and prints what changed.
pub(super) fn perform(
    request: &Request,
    context: &Context,
    operations: &dyn Operations,
) -> Result<Report, Failure> {
    let project = context.project()?;
    let manifest = context.manifest(&project)?;
    let report = {
        let progress = context.progress();
        operations.lock(&project, &manifest, request, &progress)?
    };
    context.output.result(&report, |out, style| {
        print(out, style, &report, request.check)
    })?;
    Ok(report)
}

fn print(out: &mut dyn Write, style: Style, report: &Report, check: bool) -> std::io::Result<()> {
    // The first lock's changes are all of its packages, which `envd list` prints.
    let first =
        report.changes.len() == report.packages && report.changes.iter().all(|c| c.from.is_none());
    for change in report.changes.iter().filter(|_| !first) {
        match (&change.from, &change.to) {
            (None, Some(to)) => writeln!(out, "{} {} {to}", style.good("+"), change.name)?,
            (Some(from), None) => writeln!(out, "{} {} {from}", style.error("-"), change.name)?,
            (Some(from), Some(to)) => {
                writeln!(out, "{} {} {from} → {to}", style.warning("~"), change.name)?
            }
            (None, None) => {}
        }
    }
    let Report {
        path,
        packages,
        download,
        ..
    } = report;
    let state = match (report.changes.is_empty(), check) {
        (true, _) => "is up to date",
        (false, true) => "would be written",
        (false, false) => "is written",
    };
    writeln!(
        out,
        "{path} {state}: {packages} packages, {}",
        size(*download)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_listed_with_what_they_were() {
        let change = |name: &str, from: Option<&str>, to: Option<&str>| Change {
            name: name.into(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let report = Report {
            path: "envd.lock".into(),
            packages: 3,
            download: 2048,
            changes: vec![
                change("gcc", None, Some("4:14.2.0-1")),
                change("libc6", Some("2.40-1"), Some("2.41-12")),
                change("make", Some("4.4.1-2"), None),
            ],
        };
        let mut out = Vec::new();
        print(&mut out, Style::on(false), &report, false).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        + gcc 4:14.2.0-1
        ~ libc6 2.40-1 → 2.41-12
        - make 4.4.1-2
        envd.lock is written: 3 packages, 2.0 KiB
        ");
    }

    #[test]
    fn a_first_lock_is_not_listed_package_by_package() {
        let added = |name: &str| Change {
            name: name.into(),
            from: None,
            to: Some("1".into()),
        };
        let report = Report {
            path: "envd.lock".into(),
            packages: 2,
            download: 2048,
            changes: vec![added("gcc"), added("libc6")],
        };
        let mut out = Vec::new();
        print(&mut out, Style::on(false), &report, false).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "envd.lock is written: 2 packages, 2.0 KiB\n"
        );
    }
}
