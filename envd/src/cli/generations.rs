//! `envd generations`

use std::{io::Write, process::ExitCode};

use serde::Serialize;

use super::{
    Context, Failure,
    lock::Change,
    operations::Operations,
    output::{Style, size},
};

/// Changes that are shown of a generation, unless all are asked for.
const SHOWN: usize = 5;

/// List what the environment has been, to roll back to
///
/// Each lock that was realised is a generation, and the latest ten are kept with all that they need. The one that envd.lock is
/// now has a star.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Examples\n  envd generations\n  envd generations --all\n  envd rollback 3")]
pub struct Arguments {
    /// Show every change, not the first five of each
    #[arg(long)]
    pub all: bool,
}

/// What the environment was at some time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Generation {
    /// Its number, from 1.
    pub number: u32,
    /// When it was realised first, in UTC: `2026-09-01T08:12:34Z`.
    pub date: String,
    /// Bytes of the files of its root.
    pub size: u64,
    /// Packages in it.
    pub packages: usize,
    /// Whether envd.lock is this one now.
    pub current: bool,
    /// What was different from the one before; nothing where that one is not kept.
    pub changes: Option<Vec<Change>>,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let generations = operations.generations(&project)?;
    let shown = match arguments.all {
        true => usize::MAX,
        false => SHOWN,
    };
    context.output.result(&generations, |out, style| {
        if generations.is_empty() {
            writeln!(out, "there is none yet; `envd run` makes the first")?;
        }
        print(out, style, &generations, shown)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print(
    out: &mut dyn Write,
    style: Style,
    generations: &[Generation],
    shown: usize,
) -> std::io::Result<()> {
    for generation in generations {
        let number = generation.number.to_string();
        let star = if generation.current { "*" } else { " " };
        writeln!(
            out,
            "{star} {}  {}  {:>10}  {} packages",
            style.strong(&format!("{number:>3}")),
            generation.date,
            size(generation.size),
            generation.packages
        )?;
        let changes = generation.changes.as_deref().unwrap_or_default();
        print_changes(out, style, changes, shown, "       ")?;
    }
    Ok(())
}

/// Changes, a line each, so many at most.
pub(super) fn print_changes(
    out: &mut dyn Write,
    style: Style,
    changes: &[Change],
    shown: usize,
    indent: &str,
) -> std::io::Result<()> {
    for Change { name, from, to } in changes.iter().take(shown) {
        match (from, to) {
            (None, Some(to)) => writeln!(out, "{indent}{} {name} {to}", style.good("+"))?,
            (Some(from), None) => writeln!(out, "{indent}{} {name} {from}", style.error("-"))?,
            (Some(from), Some(to)) => {
                writeln!(out, "{indent}{} {name} {from} → {to}", style.warning("~"))?
            }
            (None, None) => {}
        }
    }
    match changes.len().saturating_sub(shown) {
        0 => Ok(()),
        more => writeln!(out, "{indent}and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_one_has_a_star_and_long_lists_are_cut() {
        let change = |name: &str, from: Option<&str>, to: Option<&str>| Change {
            name: name.into(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let generation = |number, current, changes| Generation {
            number,
            date: "2026-09-01T08:12:34Z".into(),
            size: 1_500_000,
            packages: 3,
            current,
            changes,
        };
        let generations = [
            generation(9, false, None),
            generation(
                10,
                true,
                Some(vec![
                    change("gcc", None, Some("14")),
                    change("libc6", Some("2.40"), Some("2.41")),
                    change("make", Some("4.4"), None),
                ]),
            ),
        ];
        let mut out = Vec::new();
        print(&mut out, Style::on(false), &generations, 2).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
            9  2026-09-01T08:12:34Z     1.4 MiB  3 packages
        *  10  2026-09-01T08:12:34Z     1.4 MiB  3 packages
               + gcc 14
               ~ libc6 2.40 → 2.41
               and 1 more
        ");
    }
}
