//! The layers put together.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Layer, Origin, Outside, Place, Publishing, Quantity, Said};
use crate::{changes::protected::Pattern, egress::Rule, secret::Kept};

/// All layers, the weakest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layers {
    /// What holds where nobody said anything.
    pub built_in: Layer,
    /// The user's configuration file.
    pub user: Layer,
    /// What whoever started the server said.
    pub flags: Layer,
    /// Files of projects: that in which the server runs, and the one that is lent where it is another.
    pub projects: Vec<Layer>,
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            built_in: Layer::built_in(),
            user: Layer::default(),
            flags: Layer::default(),
            projects: Vec::new(),
        }
    }
}

/// A project's file says more than the user allows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a project can only tighten the policy: {what} is more than {allowed} ({origin})")]
pub struct Widening {
    /// What the file says.
    pub what: String,
    /// What is allowed instead.
    pub allowed: String,
    /// Who says so.
    pub origin: Origin,
    /// Where the file says it.
    pub place: Place,
    /// What the user would write in the section `[agent]` of their own file to allow it.
    pub instead: String,
}

/// What holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    /// What may be reached outside.
    pub network: Said<Outside>,
    /// Directories that may be lent, and those below them.
    pub lend: Vec<Said<PathBuf>>,
    /// Whether environments may have packages beside those of the project's lock.
    pub packages: Said<bool>,
    /// Which ports of environments may be published.
    pub publish: Said<Publishing>,
    /// Limits; what is not here has none.
    pub limits: BTreeMap<Quantity, Said<u64>>,
    /// Secrets that may be used.
    pub secrets: BTreeMap<String, Said<Kept>>,
    /// Secrets that a project asks for and the user does not keep.
    pub unknown_secrets: Vec<Said<String>>,
    /// Paths that are protected beside those that always are.
    pub protect: Vec<Said<Pattern>>,
    /// Mechanisms without which nothing is lent.
    pub require: Vec<Said<String>>,
}

/// Puts the layers together. All that a project's file would widen is told, not the first alone.
pub fn effective(layers: &Layers) -> Result<Effective, Vec<Widening>> {
    let mut policy = Effective {
        network: Said::built_in(Outside::Nothing),
        lend: Vec::new(),
        packages: Said::built_in(false),
        publish: Said::built_in(Publishing::Nothing),
        limits: BTreeMap::new(),
        secrets: BTreeMap::new(),
        unknown_secrets: Vec::new(),
        protect: Vec::new(),
        require: Vec::new(),
    };
    for layer in [&layers.built_in, &layers.user] {
        policy.replace(layer);
    }
    policy.add(&layers.flags);
    let mut widenings = Vec::new();
    for layer in &layers.projects {
        policy.tighten(layer, &mut widenings);
    }
    if widenings.is_empty() {
        Ok(policy)
    } else {
        Err(widenings)
    }
}

impl Effective {
    /// What a layer says, instead of what was said before.
    fn replace(&mut self, layer: &Layer) {
        let Layer {
            network,
            lend,
            packages,
            publish,
            limits,
            kept,
            secrets: _,
            protect,
            require,
        } = layer.clone();
        self.network = network.unwrap_or_else(|| self.network.clone());
        self.packages = packages.unwrap_or_else(|| self.packages.clone());
        self.publish = publish.unwrap_or_else(|| self.publish.clone());
        self.lend.extend(lend);
        self.limits.extend(limits);
        self.secrets.extend(kept);
        self.protect.extend(protect);
        self.require.extend(require);
    }

    /// What a layer says, beside what was said before.
    fn add(&mut self, layer: &Layer) {
        let network = match (&mut self.network.value, &layer.network) {
            (
                Outside::Names(mine),
                Some(Said {
                    value: Outside::Names(more),
                    ..
                }),
            ) => {
                mine.extend(more.iter().cloned());
                None
            }
            (Outside::Host, _) => None,
            (_, more) => more.clone(),
        };
        let more = layer.publish.as_ref();
        let publish = more.filter(|more| !self.publish.value.covers(&more.value));
        let publish =
            publish.map(|more| Said::new(self.publish.value.or(&more.value), more.origin.clone()));
        self.replace(&Layer {
            network,
            publish,
            ..layer.clone()
        });
    }

    fn tighten(&mut self, layer: &Layer, widenings: &mut Vec<Widening>) {
        let mut widens = |said: &Origin, what: String, allowed: String, by: &Origin, instead| {
            widenings.push(Widening {
                what,
                allowed,
                origin: by.clone(),
                // A layer that is no file's has no place; it cannot widen all the same.
                place: said.place().cloned().unwrap_or(Place {
                    file: PathBuf::new(),
                    line: 1,
                    column: 1,
                    bytes: (0, 0),
                }),
                instead,
            });
        };
        if let Some(said) = &layer.network {
            let allowed = self.network.value.to_string();
            match (&said.value, &self.network.value) {
                (Outside::Nothing, _) | (Outside::Host, Outside::Host) => {
                    self.network = said.clone();
                }
                (Outside::Host, _) => widens(
                    &said.origin,
                    "the machine's network".to_owned(),
                    allowed,
                    &self.network.origin,
                    "network = \"host\"".to_owned(),
                ),
                (Outside::Names(names), mine) => {
                    let (within, beyond): (Vec<_>, Vec<_>) = names
                        .iter()
                        .cloned()
                        .partition(|name| mine.covers(&name.value));
                    for name in beyond {
                        widens(
                            &name.origin,
                            format!("reaching {}", name.value),
                            allowed.clone(),
                            &self.network.origin,
                            format!("network = [\"{}\"]", name.value),
                        );
                    }
                    self.network = Said::new(Outside::Names(within), said.origin.clone());
                }
            }
        }
        for lent in &layer.lend {
            widens(
                &lent.origin,
                format!("lending {}", lent.value.display()),
                "what the user lends".to_owned(),
                &Origin::BuiltIn,
                format!("lend = [\"{}\"]", lent.value.display()),
            );
        }
        if let Some(said) = &layer.packages {
            if said.value && !self.packages.value {
                widens(
                    &said.origin,
                    "packages beside the project's own".to_owned(),
                    "none".to_owned(),
                    &self.packages.origin,
                    "packages = true".to_owned(),
                );
            } else if said.value != self.packages.value {
                self.packages = said.clone();
            }
        }
        if let Some(said) = &layer.publish {
            if !self.publish.value.covers(&said.value) {
                widens(
                    &said.origin,
                    format!("publish = {}", said.value),
                    self.publish.value.to_string(),
                    &self.publish.origin,
                    format!("publish = {}", said.value),
                );
            } else if said.value != self.publish.value {
                self.publish = said.clone();
            }
        }
        for (&quantity, said) in &layer.limits {
            match self.limits.get(&quantity) {
                Some(mine) if mine.value < said.value => widens(
                    &said.origin,
                    format!("{quantity} = {}", quantity.shown(said.value)),
                    quantity.shown(mine.value),
                    &mine.origin,
                    quantity.line(said.value),
                ),
                Some(mine) if mine.value == said.value => {}
                _ => {
                    self.limits.insert(quantity, said.clone());
                }
            }
        }
        for (name, said) in &layer.kept {
            widens(
                &said.origin,
                format!("saying where the secret {name} comes from"),
                "what the user keeps".to_owned(),
                &Origin::BuiltIn,
                format!("secrets.{name} = {{ ... }}"),
            );
        }
        if let Some(wanted) = &layer.secrets {
            let wanted = &wanted.value;
            self.secrets
                .retain(|name, _| wanted.iter().any(|wanted| wanted.value == *name));
            self.unknown_secrets = wanted
                .iter()
                .filter(|wanted| !self.secrets.contains_key(&wanted.value))
                .cloned()
                .collect();
        }
        self.protect.extend(layer.protect.iter().cloned());
        self.require.extend(layer.require.iter().cloned());
    }
}

impl Outside {
    /// Whether everything that a rule allows is allowed.
    pub fn covers(&self, rule: &Rule) -> bool {
        match self {
            Self::Nothing => false,
            Self::Names(names) => names.iter().any(|name| name.value.covers(rule)),
            Self::Host => true,
        }
    }
}

impl std::fmt::Display for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Names(names) => {
                let quoted = names.iter().map(|name| format!("\"{}\"", name.value));
                write!(f, "[{}]", quoted.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Quantity {
    /// The line of a file that says it.
    fn line(self, value: u64) -> String {
        let shown = self.shown(value);
        match self {
            Self::Processes | Self::Processors | Self::Environments => format!("{self} = {shown}"),
            Self::Memory | Self::Disk | Self::TimeToLive => format!("{self} = \"{shown}\""),
        }
    }
}
