//! `envd agent ls`

use std::process::ExitCode;

use envd_agents::service::environment::{Environment, Environments, Network, Source};

use super::{
    super::{Context, Failure, output::plain},
    connection::Sessions,
};

/// List the environments and snapshots that are lent
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd agent ls\n  envd agent ls --json | jq -r '.environments[].environment'"
)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let lent = match Sessions::existing(context)? {
        Some(sessions) => sessions.list()?,
        None => Environments::default(),
    };
    print(context, &lent)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints environments.
pub(super) fn print(context: &Context, lent: &Environments) -> Result<(), Failure> {
    context.output.result(lent, |out, style| {
        if lent.environments.is_empty() && lent.snapshots.is_empty() {
            return writeln!(out, "nothing is lent");
        }
        for one in &lent.environments {
            let name = one.name.as_deref().map(plain).unwrap_or_default();
            writeln!(
                out,
                "{}  {}{}{}",
                style.strong(one.environment.as_str()),
                name,
                if name.is_empty() { "" } else { "  " },
                words(one)
            )?;
        }
        for one in &lent.snapshots {
            let name = one.name.as_deref().map(plain).unwrap_or_default();
            writeln!(
                out,
                "{}  {}{}snapshot of {}, {} changed",
                style.strong(one.snapshot.as_str()),
                name,
                if name.is_empty() { "" } else { "  " },
                one.environment,
                one.changes
            )?;
        }
        Ok(())
    })
}

fn words(one: &Environment) -> String {
    let from = match &one.from {
        Source::Project => "tools of the project".to_owned(),
        Source::Packages(packages) => format!("tools {}", plain(&packages.join(", "))),
        Source::Empty => "no tools".to_owned(),
    };
    let network = match &one.network {
        Network::None => "no network".to_owned(),
        Network::Allow(names) if names.is_empty() => "no network".to_owned(),
        Network::Allow(names) => format!("network {}", plain(&names.join(", "))),
        Network::Host => "this machine's network".to_owned(),
    };
    let ports: Vec<_> = one
        .ports
        .iter()
        .map(|port| format!(", port {} at {}", port.port, plain(&port.address)))
        .collect();
    let ports = ports.concat();
    let running = match one.running_commands {
        0 => String::new(),
        1 => ", 1 command runs".to_owned(),
        more => format!(", {more} commands run"),
    };
    let ends = match one.expires_in_seconds {
        Some(seconds) => format!(", ends in {}", span(seconds)),
        None => String::new(),
    };
    format!("{from}, {network}{ports}{running}{ends}")
}

/// A length of time in its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_two_units_at_most() {
        let spans = [5, 300, 28_740, 100_000].map(span);
        assert_eq!(spans, ["5 s", "5 min", "7 h 59 min", "1 d 3 h"]);
    }
}
