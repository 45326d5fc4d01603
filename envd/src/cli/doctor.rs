//! `envd doctor`

use std::{io::Write, process::ExitCode};

use serde::{Deserialize, Serialize};

use super::{Context, Failure, Kind, operations::Operations, output::Style};

/// Say what this machine can do, and how to fix what it cannot
///
/// Lists every mechanism that envd uses, its state, and the exact change that would make it work. The names are those that
/// `envd run --require` takes.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd doctor\n  envd doctor --json | jq '.[] | select(.state != \"works\")'"
)]
pub struct Arguments {}

/// Something that envd uses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mechanism {
    /// Its name, for `--require`.
    pub name: String,
    /// How well it works here.
    pub state: State,
    /// Whether nothing runs without it.
    pub needed: bool,
    /// What was found.
    pub detail: String,
    /// What would make it work.
    pub fix: Option<String>,
}

/// How well a mechanism works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should.
    Works,
    /// In part.
    Limited,
    /// Not at all.
    Missing,
}

/// Runs the command.
pub fn run(
    _: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let mechanisms = operations.doctor()?;
    context
        .output
        .result(&mechanisms, |out, style| print(out, style, &mechanisms))?;
    let stopped = mechanisms
        .iter()
        .find(|m| m.needed && m.state == State::Missing);
    match stopped {
        None => Ok(ExitCode::SUCCESS),
        Some(mechanism) => Err(Failure::new(
            Kind::Host,
            format!("nothing can run here without {}", mechanism.name),
        )),
    }
}

fn print(out: &mut dyn Write, style: Style, mechanisms: &[Mechanism]) -> std::io::Result<()> {
    let width = mechanisms.iter().map(|m| m.name.len()).max().unwrap_or(0);
    for mechanism in mechanisms {
        let state = match mechanism.state {
            State::Works => style.good("works  "),
            State::Limited => style.warning("limited"),
            State::Missing => style.error("missing"),
        };
        writeln!(
            out,
            "{:width$}  {state}  {}",
            mechanism.name, mechanism.detail
        )?;
        if let Some(fix) = &mechanism.fix {
            for line in fix.lines() {
                writeln!(out, "{:width$}  {} {line}", "", style.strong("fix:"))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_its_fix() {
        let mechanisms = [
            Mechanism {
                name: "user-namespaces".into(),
                state: State::Missing,
                needed: true,
                detail: "restricted by AppArmor".into(),
                fix: Some("sysctl kernel.apparmor_restrict_unprivileged_userns=0".into()),
            },
            Mechanism {
                name: "landlock".into(),
                state: State::Works,
                needed: false,
                detail: "version 7".into(),
                fix: None,
            },
        ];
        let mut out = Vec::new();
        print(&mut out, Style::on(false), &mechanisms).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        user-namespaces  missing  restricted by AppArmor
                         fix: sysctl kernel.apparmor_restrict_unprivileged_userns=0
        landlock         works    version 7
        ");
    }
}
