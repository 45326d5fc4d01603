//! What one layer says: a value for what it speaks of, nothing for the rest.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{Origin, Publishing, Said};
use crate::{changes::protected::Pattern, egress::Rule, secret::Kept};

/// The most environments that are lent at a time, unless the user says otherwise: a few times what a parallel agent uses, and
/// less than what fills a machine's tables.
const MOST_ENVIRONMENTS: u64 = 256;

/// What may be reached outside, at most.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Outside {
    /// Nothing.
    #[default]
    Nothing,
    /// These names.
    Names(Vec<Said<Rule>>),
    /// Whatever the machine reaches.
    Host,
}

/// Something that is counted, in a unit of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Quantity {
    /// Memory of all processes of an environment together, in bytes.
    Memory,
    /// Processes and threads of an environment.
    Processes,
    /// Processor time of an environment, in thousandths of a processor.
    Processors,
    /// What an environment writes, in bytes.
    Disk,
    /// How long an environment is lent, in seconds.
    TimeToLive,
    /// Environments at a time.
    Environments,
}

impl Quantity {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 6] = [
        Self::Memory,
        Self::Processes,
        Self::Processors,
        Self::Disk,
        Self::TimeToLive,
        Self::Environments,
    ];

    /// The key in `[agent]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Processors => "processors",
            Self::Disk => "disk",
            Self::TimeToLive => "time-to-live",
            Self::Environments => "environments",
        }
    }

    /// A value with its unit, as it is written in a file.
    pub fn shown(self, value: u64) -> String {
        match self {
            Self::Memory | Self::Disk => bytes(value),
            Self::Processes | Self::Environments => value.to_string(),
            Self::Processors => match (value / 1000, value % 1000) {
                (whole, 0) => whole.to_string(),
                (whole, part) => format!("{whole}.{part:03}")
                    .trim_end_matches('0')
                    .to_owned(),
            },
            Self::TimeToLive if value.is_multiple_of(3600) => format!("{}h", value / 3600),
            Self::TimeToLive if value.is_multiple_of(60) => format!("{}m", value / 60),
            Self::TimeToLive => format!("{value}s"),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

fn bytes(value: u64) -> String {
    let mut whole = value;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole == 0 || !whole.is_multiple_of(1024) {
            break;
        }
        (whole, unit) = (whole / 1024, next);
    }
    format!("{whole} {unit}")
}

/// One layer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layer {
    /// What may be reached outside.
    pub network: Option<Said<Outside>>,
    /// Directories that may be lent beside the project in which the server runs. Absolute. Never a project's to say.
    pub lend: Vec<Said<PathBuf>>,
    /// Whether environments may have packages beside those of the project's lock.
    pub packages: Option<Said<bool>>,
    /// Which ports may be published.
    pub publish: Option<Said<Publishing>>,
    /// Limits.
    pub limits: BTreeMap<Quantity, Said<u64>>,
    /// Secrets by name, and where their values come from. Never a project's to say.
    pub kept: BTreeMap<String, Said<Kept>>,
    /// The only secrets that may be used.
    pub secrets: Option<Said<Vec<Said<String>>>>,
    /// Paths that are protected beside those that always are.
    pub protect: Vec<Said<Pattern>>,
    /// Mechanisms without which nothing is lent.
    pub require: Vec<Said<String>>,
}

impl Layer {
    /// What holds where nobody said anything.
    pub fn built_in() -> Self {
        Self {
            network: Some(Said::built_in(Outside::Nothing)),
            packages: Some(Said::built_in(true)),
            publish: Some(Said::built_in(Publishing::Nothing)),
            limits: BTreeMap::from([(Quantity::Environments, Said::built_in(MOST_ENVIRONMENTS))]),
            ..Self::default()
        }
    }

    /// What whoever starts a server says beside files.
    pub fn of_flags(
        projects: impl IntoIterator<Item = PathBuf>,
        hosts: impl IntoIterator<Item = Rule>,
        host_network: bool,
    ) -> Self {
        let said = |rule: Rule| {
            let flag = format!("--allow-host {rule}");
            Said::new(rule, Origin::Flag(flag))
        };
        let names: Vec<_> = hosts.into_iter().map(said).collect();
        let network = if host_network {
            let origin = Origin::Flag("--allow-host-network".to_owned());
            Some(Said::new(Outside::Host, origin))
        } else {
            let first = names.first().map(|name| name.origin.clone());
            first.map(|origin| Said::new(Outside::Names(names), origin))
        };
        let lent = |path: PathBuf| {
            let flag = format!("--lend {}", path.display());
            Said::new(path, Origin::Flag(flag))
        };
        Self {
            network,
            lend: projects.into_iter().map(lent).collect(),
            ..Self::default()
        }
    }
}
