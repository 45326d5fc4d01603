//! A policy as lines for people: what holds, who said so, and what makes it hold.

use serde::Serialize;

use super::{Effective, Origin, Outside, Publishing, Quantity};

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// What it is about.
    pub what: String,
    /// What holds.
    pub value: String,
    /// Who said so.
    #[serde(serialize_with = "shown")]
    pub origin: Origin,
    /// What makes it hold.
    pub mechanism: Mechanism,
}

/// What makes a line hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mechanism {
    /// In a few words.
    pub name: String,
    /// Mechanisms of the machine that it takes, by the names of `envd doctor`.
    pub needs: Vec<String>,
    /// Why it does not hold whatever the machine can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

fn shown<S: serde::Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(origin)
}

impl Mechanism {
    fn new(name: &str, needs: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            needs: needs.iter().map(|&need| need.to_owned()).collect(),
            missing: None,
        }
    }

    fn without(name: &str, missing: &str) -> Self {
        Self {
            missing: Some(missing.to_owned()),
            ..Self::new(name, &[])
        }
    }
}

/// The walls that every environment has: what they keep, and what they are made of.
const WALLS: [(&str, &str, &str, &[&str]); 7] = [
    (
        "files of the machine",
        "not seen",
        "mount namespace",
        &["user-namespaces", "mount-namespaces"],
    ),
    (
        "files of the project",
        "changed only by changes_apply",
        "overlay; changes are judged when they are applied",
        &["overlay"],
    ),
    (
        "processes of the machine",
        "not seen; all inside end with the environment",
        "PID namespace",
        &["pid-namespaces"],
    ),
    (
        "shared memory, message queues and control groups of the machine",
        "not seen",
        "IPC and cgroup namespaces",
        &["ipc-namespaces", "cgroup-namespaces"],
    ),
    (
        "system calls",
        "strict: no namespaces, tracing of others, keyrings, BPF, io_uring",
        "seccomp filter; no capabilities; no_new_privs",
        &["seccomp"],
    ),
    (
        "writing",
        "only the project, /tmp, /var/tmp, /run, /dev and the home directory inside",
        "Landlock, beside the mount namespace",
        &["landlock"],
    ),
    (
        "signals and abstract sockets of the machine",
        "out of reach",
        "Landlock scopes, beside the namespaces",
        &["landlock"],
    ),
];

impl Effective {
    /// All that holds.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut line = |what: String, value: String, origin: &Origin, mechanism| {
            lines.push(Line {
                what,
                value,
                origin: origin.clone(),
                mechanism,
            });
        };
        for (what, value, name, needs) in WALLS {
            let mechanism = Mechanism::new(name, needs);
            line(
                what.to_owned(),
                value.to_owned(),
                &Origin::BuiltIn,
                mechanism,
            );
        }
        let network = "network".to_owned();
        match &self.network.value {
            Outside::Nothing => {
                let mechanism = Mechanism::new("network namespace", &["network-namespaces"]);
                line(network, "none".to_owned(), &self.network.origin, mechanism);
            }
            Outside::Host => {
                let mechanism = Mechanism::without("no wall", "the machine's network is shared");
                line(network, "host".to_owned(), &self.network.origin, mechanism);
            }
            Outside::Names(names) => {
                let wall = || {
                    let name = "network namespace; envd's proxy is the only way out";
                    Mechanism::new(name, &["network-namespaces"])
                };
                if names.is_empty() {
                    let origin = &self.network.origin;
                    line(network.clone(), "none".to_owned(), origin, wall());
                }
                for name in names {
                    line(
                        network.clone(),
                        name.value.to_string(),
                        &name.origin,
                        wall(),
                    );
                }
            }
        }
        for lent in &self.lend {
            let path = lent.value.display().to_string();
            let mechanism = Mechanism::new("judged by the server, links resolved", &[]);
            line("may be lent".to_owned(), path, &lent.origin, mechanism);
        }
        let packages = match self.packages.value {
            true => "any",
            false => "the project's lock only",
        };
        let mechanism = Mechanism::new("judged by the server", &[]);
        let origin = &self.packages.origin;
        line(
            "packages".to_owned(),
            packages.to_owned(),
            origin,
            mechanism,
        );
        let publish = match &self.publish.value {
            Publishing::Nothing => "none".to_owned(),
            Publishing::At(ports) if ports.is_empty() => "at free ports".to_owned(),
            Publishing::At(_) => format!("at free ports and {}", self.publish.value),
            Publishing::Anywhere => "at any port".to_owned(),
        };
        let mechanism = Mechanism::new(
            "listens on 127.0.0.1 alone; connects through sockets of the environment's network namespace",
            &["network-namespaces"],
        );
        let origin = &self.publish.origin;
        line("published ports".to_owned(), publish, origin, mechanism);
        for quantity in Quantity::ALL {
            let (value, origin) = match self.limits.get(&quantity) {
                Some(said) => (quantity.shown(said.value), &said.origin),
                None => (unlimited(quantity).to_owned(), &Origin::BuiltIn),
            };
            let mechanism = of_limit(quantity, self.limits.contains_key(&quantity));
            line(quantity.key().to_owned(), value, origin, mechanism);
        }
        for (name, said) in &self.secrets {
            let mechanism = match &said.value.header {
                None => {
                    "put into the environment of the commands that name it; taken out of outputs"
                }
                Some(_) => "put into requests by envd's proxy, outside",
            };
            let needs: &[&str] = match &said.value.header {
                None => &[],
                Some(_) => &["network-namespaces"],
            };
            let value = said.value.to_string();
            line(
                format!("secret {name}"),
                value,
                &said.origin,
                Mechanism::new(mechanism, needs),
            );
        }
        for wanted in &self.unknown_secrets {
            let mechanism = Mechanism::without("no value", "the user keeps no secret of this name");
            let what = format!("secret {}", wanted.value);
            line(what, "not there".to_owned(), &wanted.origin, mechanism);
        }
        let judged = || Mechanism::new("judged when changes are applied", &[]);
        let rules = crate::changes::protected::Protected::default().rules;
        let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let what = || "protected".to_owned();
        line(what(), names.join(", "), &Origin::BuiltIn, judged());
        for pattern in &self.protect {
            let text = String::from(pattern.value.clone());
            line(what(), text, &pattern.origin, judged());
        }
        for name in &self.require {
            let mechanism = Mechanism::new(&name.value, &[&name.value]);
            line(
                "required".to_owned(),
                name.value.clone(),
                &name.origin,
                mechanism,
            );
        }
        lines
    }
}

/// What holds where no layer says anything (`envd/src/agents/limits.rs`).
fn unlimited(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Memory => "three quarters of the machine's",
        Quantity::Processes => "512, or 64 for each processor",
        Quantity::Disk => "10 GiB for all environments of a project",
        Quantity::Processors | Quantity::TimeToLive | Quantity::Environments => "no limit",
    }
}

/// What makes a limit hold.
fn of_limit(quantity: Quantity, limited: bool) -> Mechanism {
    match quantity {
        Quantity::TimeToLive => Mechanism::new("the server's clock ends the environment", &[]),
        Quantity::Environments => Mechanism::new("counted by the server", &[]),
        Quantity::Memory => Mechanism::new(
            "control group (memory.max); without one, RLIMIT_DATA for each process and a look four times a second",
            &[],
        ),
        Quantity::Processes => Mechanism::new(
            "control group (pids.max); without one, RLIMIT_NPROC in the user namespace, and for root the PID namespace",
            &[],
        ),
        Quantity::Disk => Mechanism::new(
            "a look four times a second, and RLIMIT_FSIZE for each file",
            &[],
        ),
        Quantity::Processors if limited => Mechanism::new("control group (cpu.max)", &["cgroups"]),
        Quantity::Processors => Mechanism::new("nothing to enforce", &[]),
    }
}
