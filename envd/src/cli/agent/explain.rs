//! `envd agent explain`

use std::{io::Write, process::ExitCode};

use envd_agents::policy::Line;
use serde::Serialize;

use super::{
    super::{
        Context, Failure,
        doctor::{Mechanism, State},
        output::Style,
    },
    grants,
};
use crate::agents::mechanisms;

/// Show what agents may do here, who said so, and what makes it hold
///
/// The policy of environments lent from here: what is built in, what the section [agent] of your config.toml says, and what the
/// section [agent] of the project's envd.toml tightens; with the mechanism behind each line, and whether this machine has it.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(
    after_help = "Examples\n  envd agent explain\n  envd agent explain --json | jq '.[] | select(.enforced | not)'"
)]
pub struct Arguments {
    /// What the server would be given
    #[command(flatten, next_help_heading = "As if the server were started with")]
    pub grants: grants::Options,
}

/// A line, and how it stands on this machine.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    line: Line,
    /// Whether it holds.
    enforced: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What would make it hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Explained {
    fn new(line: Line, mechanisms: &[Mechanism]) -> Self {
        let mut reasons: Vec<String> = line.mechanism.missing.iter().cloned().collect();
        let mut fixes: Vec<String> = Vec::new();
        for need in &line.mechanism.needs {
            match mechanisms.iter().find(|mechanism| mechanism.name == *need) {
                Some(mechanism) if mechanism.state == State::Works => {}
                Some(mechanism) => {
                    reasons.push(format!("{need}: {}", mechanism.detail));
                    fixes.extend(mechanism.fix.clone());
                }
                None => {
                    reasons.push(format!("there is no mechanism `{need}`"));
                    fixes.push("`envd doctor` lists them".to_owned());
                }
            }
        }
        fixes.dedup();
        Self {
            line,
            enforced: reasons.is_empty(),
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            fix: (!fixes.is_empty()).then(|| fixes.join("\n")),
        }
    }
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let grants = arguments.grants.read(context)?;
    let mechanisms = mechanisms()?;
    let lines = grants.policy().lines().into_iter();
    let explained: Vec<_> = lines
        .map(|line| Explained::new(line, &mechanisms))
        .collect();
    context
        .output
        .result(&explained, |out, style| print(out, style, &explained))?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut dyn Write, style: Style, explained: &[Explained]) -> std::io::Result<()> {
    for Explained {
        line, reason, fix, ..
    } in explained
    {
        writeln!(
            out,
            "{}: {}  ({})",
            style.strong(&line.what),
            line.value,
            line.origin
        )?;
        let mechanism = &line.mechanism.name;
        match reason {
            None => writeln!(out, "    {}: {mechanism}", style.good("enforced"))?,
            Some(reason) => {
                let state = style.warning("not enforced");
                writeln!(out, "    {state}: {reason} ({mechanism})")?;
            }
        }
        for line in fix.iter().flat_map(|fix| fix.lines()) {
            writeln!(out, "    {} {line}", style.strong("fix:"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use envd_agents::policy::{Layers, effective};

    use super::*;

    #[test]
    fn a_line_without_its_mechanism_says_so_with_the_fix() {
        let layers = Layers::default();
        let lines = effective(&layers).unwrap().lines();
        let mechanism = |name: &str, state| Mechanism {
            name: name.into(),
            state,
            needed: false,
            detail: "not enabled".into(),
            fix: Some("use another kernel".into()),
        };
        let machine = [
            mechanism("landlock", State::Missing),
            mechanism("network-namespaces", State::Works),
        ];
        let find = |what: &str| {
            let line = lines.iter().find(|line| line.what == what).unwrap().clone();
            Explained::new(line, &machine)
        };
        assert!(find("network").enforced);
        let writing = find("writing");
        let mut out = Vec::new();
        print(&mut out, Style::on(false), &[writing]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        writing: only the project, /tmp, /var/tmp, /run, /dev and the home directory inside  (built-in)
            not enforced: landlock: not enabled (Landlock, beside the mount namespace)
            fix: use another kernel
        ");
    }
}
