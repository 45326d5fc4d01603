//! Which tasks a run consists of, and in what order. Pure: nothing is looked at but `envd.toml`.

use std::collections::{BTreeMap, BTreeSet};

use envd_supervision::{
    Name,
    graph::{self, GraphError},
};

use crate::config::{TaskSection, nearest};

/// A task.
#[derive(Clone, Copy, Debug)]
pub struct Task<'m> {
    /// Its name.
    pub name: &'m Name,
    /// What `envd.toml` says of it.
    pub section: &'m TaskSection,
}

/// The tasks of a run, each after those that it needs.
#[derive(Clone, Debug)]
pub struct Plan<'m> {
    pub(super) tasks: Vec<Task<'m>>,
    pub(super) all: &'m BTreeMap<Name, TaskSection>,
}

/// Tasks that cannot be run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// There is none of this name.
    #[error("there is no task `{name}`{help}")]
    Unknown {
        /// The name.
        name: Name,
        /// What is near it, or what there is.
        help: String,
    },
    /// They need each other.
    #[error(transparent)]
    Order(#[from] GraphError),
}

impl<'m> Plan<'m> {
    /// A run of these tasks and all that they need.
    pub fn new(all: &'m BTreeMap<Name, TaskSection>, wanted: &[Name]) -> Result<Self, PlanError> {
        if let Some(name) = wanted.iter().find(|name| !all.contains_key(*name)) {
            return Err(unknown(name, all));
        }
        let needs = |section: &'m TaskSection| -> Vec<&'m str> {
            let needs = section.needs.iter();
            needs.map(|need| need.get_ref().as_str()).collect()
        };
        let edges = all
            .iter()
            .map(|(name, section)| (name.as_str(), needs(section)))
            .collect();
        let order = graph::order(&edges)?;
        let mut open: Vec<&str> = wanted.iter().map(Name::as_str).collect();
        let mut chosen = BTreeSet::new();
        while let Some(name) = open.pop() {
            if chosen.insert(name) {
                open.extend(&edges[name]);
            }
        }
        let tasks = order
            .into_iter()
            .filter(|name| chosen.contains(name))
            .filter_map(|name| all.get_key_value(name))
            .map(|(name, section)| Task { name, section })
            .collect();
        Ok(Self { tasks, all })
    }

    /// The tasks, in the order in which they are run.
    pub fn tasks(&self) -> &[Task<'m>] {
        &self.tasks
    }

    /// The services that some of them want, whether they are run in the end or not.
    pub fn services(&self) -> BTreeSet<&'m Name> {
        let wanted = self.tasks.iter().flat_map(|task| &task.section.services);
        wanted.map(|service| service.get_ref()).collect()
    }
}

fn unknown(name: &Name, all: &BTreeMap<Name, TaskSection>) -> PlanError {
    let known: Vec<&str> = all.keys().map(Name::as_str).collect();
    let help = match nearest(name.as_str(), &known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if known.is_empty() => "; envd.toml has no [task.NAME]".to_owned(),
        None => format!("; there are {}", known.join(", ")),
    };
    PlanError::Unknown {
        name: name.clone(),
        help,
    }
}
