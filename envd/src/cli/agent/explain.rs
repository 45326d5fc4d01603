//! `envd agent explain`

use std::{io::Write, path::PathBuf, process::ExitCode};

use envd_agents::{egress::Rule, policy::Line};
use serde::Serialize;

use super::super::{
    Context, Failure, Kind,
    doctor::{Mechanism, State},
    output::Style,
};
use crate::agents::{Granted, Grants, mechanisms};

/// Show what agents may do here, who said so, and what makes it hold
///
/// The policy of environments lent from here: what is built in, what the section [agent] of your config.toml says, and what the
/// section [agent] of the project's envd.toml tightens; with the mechanism behind each line, and whether this machine has it.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(
    after_help = "Examples\n  envd agent explain\n  envd agent explain --json | jq '.[] | select(.enforced | not)'"
)]
pub struct Arguments {
    /// As if the server lent the project in DIR, too
    #[arg(long = "lend", value_name = "DIR")]
    pub projects: Vec<PathBuf>,
    /// As if the server were started with this
    #[arg(long = "allow-host", value_name = "NAME", value_parser = super::mcp::parse_rule)]
    pub hosts: Vec<Rule>,
    /// As if the server were started with this
    #[arg(long)]
    pub allow_host_network: bool,
    /// As if the server were started with this
    #[arg(
        long = "publish",
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0"
    )]
    pub publish: Vec<u16>,
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
    let granted = Granted {
        projects: real_paths(&arguments.projects, context)?,
        hosts: arguments.hosts.clone(),
        host_network: arguments.allow_host_network,
        publish: super::mcp::publishing(&arguments.publish),
    };
    let grants = Grants::read(context, granted)?;
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

/// `--lend`: directories without links.
pub(super) fn real_paths(paths: &[PathBuf], context: &Context) -> Result<Vec<PathBuf>, Failure> {
    let real = |directory: &PathBuf| {
        let path = context.directory.join(directory);
        std::fs::canonicalize(&path).map_err(|error| {
            Failure::of(Kind::Usage, &error).help(format!("--lend {}", path.display()))
        })
    };
    paths.iter().map(real).collect()
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
