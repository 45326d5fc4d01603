//! Requests, judged. A request says what is wished and never loosens anything: what names things (hosts, directories,
//! secrets, packages) is refused where it is not allowed; a number beyond a limit is cut to it, and the answer says so.

use std::path::Path;

use super::{Effective, Origin, Outside, Quantity, Said};
use crate::{
    egress::Rule,
    secret::Kept,
    service::{
        Failure,
        environment::{Limits, Network, Source},
    },
};

impl Effective {
    /// What an environment may reach: what was asked for, if all of it is allowed. Who asks for nothing gets what the policy
    /// lists; the machine's own network has to be asked for by name.
    pub fn judge_network(&self, wished: Option<Network>) -> Result<Network, Failure> {
        let listed = match &self.network.value {
            Outside::Names(names) if !names.is_empty() => {
                Network::Allow(names.iter().map(|name| name.value.to_string()).collect())
            }
            _ => Network::None,
        };
        let network = wished.unwrap_or(listed);
        match &network {
            Network::None => {}
            Network::Allow(names) => {
                for name in names {
                    let rule: Rule = name.parse().map_err(|error| Failure::Invalid {
                        field: "network".to_owned(),
                        problem: format!("{error}"),
                        expected: "host names such as pypi.org or *.crates.io".to_owned(),
                    })?;
                    if !self.network.value.covers(&rule) {
                        let flag = format!("--allow-host {rule}");
                        let line = format!("network = [\"{rule}\"]");
                        return Err(self.no_network(format!("reaching {rule}"), &flag, &line));
                    }
                }
            }
            Network::Host if self.network.value == Outside::Host => {}
            Network::Host => {
                let what = "using the machine's network".to_owned();
                return Err(self.no_network(what, "--allow-host-network", "network = \"host\""));
            }
        }
        Ok(network)
    }

    fn no_network(&self, what: String, flag: &str, line: &str) -> Failure {
        Failure::Denied {
            what,
            rule: format!("network = {} ({})", self.network.value, self.network.origin),
            ask: ask(&self.network.origin, Some(flag), line),
        }
    }

    /// Whether a directory may be lent. `real` is its path without links.
    pub fn lends(&self, real: &Path) -> bool {
        self.lend.iter().any(|lent| real.starts_with(&lent.value))
    }

    /// Whether tools may come from there.
    pub fn judge_source(&self, source: &Source) -> Result<(), Failure> {
        match source {
            Source::Project | Source::Empty => Ok(()),
            Source::Packages(_) => self.judge_packages(),
        }
    }

    /// Whether packages beside those of the project's lock may be had.
    pub fn judge_packages(&self) -> Result<(), Failure> {
        if self.packages.value {
            return Ok(());
        }
        Err(Failure::Denied {
            what: "packages beside those of the project's lock".to_owned(),
            rule: format!("packages = false ({})", self.packages.origin),
            ask: ask(&self.packages.origin, None, "packages = true"),
        })
    }

    /// Limits that hold for what was asked for, and what to say of those that were cut.
    pub fn judge_limits(&self, wished: Option<Limits>) -> (Limits, Vec<String>) {
        let wished = wished.unwrap_or_default();
        let mut warnings = Vec::new();
        let mut cut = |quantity, wish: Option<u64>| {
            let (value, warning) = self.cut(quantity, wish);
            warnings.extend(warning);
            value
        };
        let processors = wished.processors.map(|processors| {
            // Out of range it is as good as a limit that cannot be reached; not a number is none at all.
            let thousandths = (processors * 1000.0).clamp(1.0, 1e9);
            thousandths as u64
        });
        let processors = cut(Quantity::Processors, processors);
        let limits = Limits {
            memory_bytes: cut(Quantity::Memory, wished.memory_bytes),
            processes: cut(Quantity::Processes, wished.processes),
            processors: processors.map(|thousandths| thousandths as f64 / 1000.0),
            disk_bytes: cut(Quantity::Disk, wished.disk_bytes),
        };
        (limits, warnings)
    }

    /// Seconds that an environment is lent, and what to say if they were cut.
    pub fn judge_time_to_live(&self, wished: Option<u64>) -> (Option<u64>, Option<String>) {
        self.cut(Quantity::TimeToLive, wished)
    }

    fn cut(&self, quantity: Quantity, wished: Option<u64>) -> (Option<u64>, Option<String>) {
        match (self.limits.get(&quantity), wished) {
            (None, wished) => (wished, None),
            (Some(limit), Some(wished)) if wished <= limit.value => (Some(wished), None),
            (Some(limit), None) => (Some(limit.value), None),
            (Some(limit), Some(wished)) => {
                let warning = format!(
                    "{quantity} is cut from {} to {} ({})",
                    quantity.shown(wished),
                    quantity.shown(limit.value),
                    limit.origin
                );
                (Some(limit.value), Some(warning))
            }
        }
    }

    /// A limit that is not a request's to lower.
    pub fn limit(&self, quantity: Quantity) -> Option<&Said<u64>> {
        self.limits.get(&quantity)
    }

    /// Names of the secrets that commands may have.
    pub fn secrets_for_commands(&self) -> Vec<String> {
        let all = self.secrets.iter();
        let commands = all.filter(|(_, said)| said.value.header.is_none());
        commands.map(|(name, _)| name.clone()).collect()
    }

    /// A secret for a command.
    pub fn judge_secret(&self, name: &str) -> Result<&Kept, Failure> {
        let denied = |rule: String, ask: String| Failure::Denied {
            what: format!("the secret {name:?}"),
            rule,
            ask,
        };
        match self.secrets.get(name) {
            None => {
                let names: Vec<&str> = self.secrets.keys().map(String::as_str).collect();
                let rule = match &names[..] {
                    [] => "no secrets may be used here".to_owned(),
                    names => format!("only {} may be used here", names.join(", ")),
                };
                let line = format!("secrets.{name} = {{ env = \"{name}\" }}");
                Err(denied(rule, ask(&Origin::BuiltIn, None, &line)))
            }
            Some(Said { value, origin }) if value.header.is_some() => Err(denied(
                format!("it is only put into requests by the proxy ({origin})"),
                "keep it under a second name, without `header`, for commands".to_owned(),
            )),
            Some(Said { value, .. }) => Ok(value),
        }
    }
}

/// What the owner would have to do.
pub(super) fn ask(by: &Origin, flag: Option<&str>, line: &str) -> String {
    let user = format!("write `{line}` under [agent] in the user's config.toml of envd");
    match (by, flag) {
        (Origin::Project(place), _) => {
            format!("change {place}; only what the user's own configuration allows can be there")
        }
        (_, Some(flag)) => format!("start the server with `envd agent mcp {flag}`, or {user}"),
        (_, None) => user,
    }
}
