//! `envd agent create`

use std::process::ExitCode;

use envd_agents::{
    egress::Rule,
    service::{
        environment::{EnvironmentCreate, EnvironmentDestroy, Limits, Network, Source},
        port::PublishedPort,
    },
};

use super::{
    super::{Context, Failure, lease::Time, operations::Operations},
    connection::Sessions,
    grants::parse_rule,
    name::Name,
    publish::{Ports, publish},
};
use crate::config::EnvironmentSection;

/// Lend an environment, and print its handle
///
/// It has the tools of envd.toml and sees the project's files at their own path; what is written there is kept apart until
/// `envd agent apply`. It is held by the project's daemon.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples\n  envd agent create --name try\n  envd agent create --package 'rustc@>=1.85' --package gcc\n  envd agent create --allow-host pypi.org --ttl 30m"
)]
pub struct Arguments {
    /// A name that stands for the handle
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Have this package instead of those of envd.toml (may be given several times)
    #[arg(long = "package", value_name = "PACKAGE", conflicts_with = "empty")]
    pub packages: Vec<String>,
    /// Have no tools at all
    #[arg(long)]
    pub empty: bool,
    /// End it after this time: 30m, 8h, 2d
    #[arg(long, value_name = "TIME", default_value = DEFAULT_TIME)]
    pub ttl: Time,
    /// Let it reach this host name and no other, such as pypi.org or '*.crates.io' (may be given several times)
    #[arg(long = "allow-host", value_name = "NAME", value_parser = parse_rule)]
    pub hosts: Vec<Rule>,
    /// What else it reaches: none, or host for all that this machine does
    #[arg(long, value_name = "WHAT", conflicts_with = "hosts")]
    pub network: Option<Reach>,
    /// Let this machine reach this port inside, at a free port of 127.0.0.1 or at OUTSIDE (may be given several times)
    #[arg(long = "publish", value_name = "[OUTSIDE:]PORT")]
    pub ports: Vec<Ports>,
    /// Most memory of all its processes, in bytes or with a unit: 512M, 2G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Most processes and threads at a time
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub processes: Option<u64>,
    /// Most processors at a time: 2, or 0.5 for half of one
    #[arg(long, value_name = "NUMBER", value_parser = parse_processors)]
    pub processors: Option<f64>,
    /// Most that it and the project's other environments write to disk, in bytes or with a unit
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub disk: Option<u64>,
}

/// How long an environment is lent unless something else is said: a day's work.
pub(super) const DEFAULT_TIME: &str = "8h";

/// What an environment reaches other than by a list of names.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nothing.
    None,
    /// All that this machine does.
    Host,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        _ => return Err("write a number and a unit: 512M, 2G".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "write a number and a unit: 512M, 2G".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "no machine has that much".to_owned())
}

fn parse_processors(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "write how many processors: 2, or 0.5 for half of one".to_owned())
}

/// Seconds of a time, at least one.
pub(super) fn seconds(time: Time) -> u64 {
    time.0
        .as_millis()
        .div_ceil(1000)
        .try_into()
        .unwrap_or(u64::MAX)
}

impl Arguments {
    fn source(&self) -> Source {
        match (&self.packages[..], self.empty) {
            ([], true) => Source::Empty,
            ([], false) => Source::Project,
            (packages, _) => Source::Packages(packages.to_vec()),
        }
    }

    fn limits(&self) -> Option<Limits> {
        let limits = Limits {
            memory_bytes: self.memory,
            processes: self.processes,
            processors: self.processors,
            disk_bytes: self.disk,
        };
        (limits != Limits::default()).then_some(limits)
    }

    fn wish(&self) -> EnvironmentCreate {
        let names = self.hosts.iter().map(ToString::to_string);
        EnvironmentCreate {
            from: self.source(),
            project: None,
            name: self.name.as_ref().map(Name::text),
            ttl_seconds: Some(seconds(self.ttl)),
            network: match (self.network, &self.hosts[..]) {
                (Some(Reach::None), _) => Some(Network::None),
                (Some(Reach::Host), _) => Some(Network::Host),
                (None, []) => None,
                (None, _) => Some(Network::Allow(names.collect())),
            },
            limits: self.limits(),
        }
    }
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let wish = arguments.wish();
    // Here, where there may be a terminal to show how far it is; the daemon then finds everything in place.
    realise(&wish.from, context, operations)?;
    let sessions = Sessions::started(context, operations)?;
    let mut environment = sessions.ask(|service, call| service.environment_create(call, wish))?;
    environment.ports = publish(&sessions, &environment.environment, &arguments.ports)
        .inspect_err(|_| {
            let environment = environment.environment.clone();
            let wish = EnvironmentDestroy { environment };
            // Not what was asked for, so it goes; what is said is why.
            let _ = sessions.ask(|service, call| service.environment_destroy(call, wish));
        })?;
    if !context.output.json {
        for warning in &environment.warnings {
            context.output.warn(warning);
        }
        for port in &environment.ports {
            let PublishedPort { port, address } = port;
            context.output.note(&format!("port {port} is at {address}"));
        }
    }
    context.output.result(&environment, |out, _| {
        writeln!(out, "{}", environment.environment)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn realise(from: &Source, context: &Context, operations: &dyn Operations) -> Result<(), Failure> {
    let project = context.project()?;
    let progress = context.progress();
    match from {
        Source::Empty => Ok(()),
        Source::Project => {
            let manifest = context.manifest(&project)?;
            operations.realise(&project, &manifest, &progress).map(drop)
        }
        Source::Packages(packages) => {
            let section = EnvironmentSection::one_off(packages.clone());
            operations.realise_once(&section, &progress).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers_are_what_people_write() {
        assert_eq!(parse_size("512M"), Ok(512 << 20));
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        assert_eq!(parse_size("4096"), Ok(4096));
        for wrong in ["", "M", "1.5G", "-1", "0", "99999999T", "1 G"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_processors("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "NaN", "inf", "x"] {
            assert!(parse_processors(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_never_shorter_than_asked_for() {
        let time = |text: &str| seconds(text.parse().unwrap());
        assert_eq!((time("8h"), time("500ms"), time("1500ms")), (28_800, 1, 2));
    }
}
