//! Tasks: `[task.NAME]`, each run after those that it needs, and skipped while nothing that it depends on has changed.
//!
//! [`Plan`] says which tasks there are to a run and in what order, from `envd.toml` alone. [`run`] goes through it: what a task depends on is
//! looked at only when it is its turn, since the tasks before it may make its inputs. It starts nothing itself: its caller is told
//! which task to run, and why ([`Why`]), and says how it ended.
//!
//! A task is skipped when it has `inputs`, none of these, its definition, the lock or a task that it needs has changed since it
//! last succeeded, and all its `outputs` are there. What is remembered for that is specified in `STATE.md`.

mod inputs;
mod key;
mod plan;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use envd_store::Digest;
use envd_supervision::{ExitStatus, Name};

pub use inputs::InputsError;
pub use plan::{Plan, PlanError, Task};

use key::Record;
use state::State;

/// Where a run takes place.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The project's directory.
    pub project: &'a Path,
    /// The digest of its lock.
    pub lock: Digest,
    /// The file in which is remembered what succeeded. One a project, in a directory that is there, and not in the project.
    pub memory: &'a Path,
    /// Run the tasks that were asked for, changed or not. Those that they need may be skipped.
    pub force: bool,
}

/// Who runs tasks.
pub trait Runner {
    /// Runs a task to its end.
    fn run(&mut self, task: &Task<'_>, why: &Why) -> Result<ExitStatus, BoxError>;

    /// A task is skipped.
    fn skip(&mut self, _task: &Task<'_>) {}
}

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<F: FnMut(&Task<'_>, &Why) -> Result<ExitStatus, BoxError>> Runner for F {
    fn run(&mut self, task: &Task<'_>, why: &Why) -> Result<ExitStatus, BoxError> {
        self(task, why)
    }
}

/// Why a task is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// It has no `inputs`, so nobody knows what it depends on.
    NoInputs,
    /// A task that it needs has no `inputs`, so nobody knows what that one has changed.
    Needs(Name),
    /// Somebody insists.
    Forced,
    /// It has not succeeded yet.
    First,
    /// What `envd.toml` says of it has changed.
    Definition,
    /// The environment has changed.
    Lock,
    /// A task that it needs has changed.
    Need,
    /// An input has changed.
    Inputs,
    /// An output is not there.
    Output(String),
}

/// What came of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It ran and succeeded.
    Ran(Why),
    /// It was up to date.
    Skipped,
}

/// A run that did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task failed.
    #[error("the task `{task}` failed: {status}")]
    Failed {
        /// Which.
        task: Name,
        /// How.
        status: ExitStatus,
    },
    /// A task could not be run.
    #[error("cannot run the task `{task}`")]
    Run {
        /// Which.
        task: Name,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// What a task depends on cannot be found out.
    #[error("cannot see whether the task `{task}` is up to date")]
    Inputs {
        /// Which.
        task: Name,
        /// Why.
        #[source]
        source: InputsError,
    },
    /// What has succeeded cannot be remembered.
    #[error("cannot keep what is known of tasks in {}", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Runs a plan's tasks, or skips them, up to the first that fails. Says what came of each.
pub fn run<'m>(
    plan: &Plan<'m>,
    wanted: &[Name],
    place: &Place<'_>,
    runner: &mut dyn Runner,
) -> Result<Vec<(&'m Name, Outcome)>, TaskError> {
    let memory = |source| TaskError::Memory {
        path: place.memory.to_owned(),
        source,
    };
    let mut state = State::load(place.memory).map_err(memory)?;
    state.records.retain(|name, _| plan.all.contains_key(name));
    let mut seen: BTreeMap<&Name, Seen> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for task in plan.tasks() {
        let now = look(task, place, &seen).map_err(|source| TaskError::Inputs {
            task: task.name.clone(),
            source,
        })?;
        let forced = place.force && wanted.contains(task.name);
        let why = match forced {
            true => Some(Why::Forced),
            false => reason(task, place, &now, state.records.get(task.name)),
        };
        let outcome = match why {
            None => {
                runner.skip(task);
                Outcome::Skipped
            }
            Some(why) => {
                // Forgotten first: killed half-way, it has to run again.
                if state.records.remove(task.name).is_some() {
                    state.save(place.memory).map_err(memory)?;
                }
                execute(task, &why, runner)?;
                if now.always.is_none() {
                    state.records.insert(task.name.clone(), now.record);
                    state.save(place.memory).map_err(memory)?;
                }
                Outcome::Ran(why)
            }
        };
        seen.insert(task.name, now);
        outcomes.push((task.name, outcome));
    }
    Ok(outcomes)
}

/// What a task depends on at this moment.
struct Seen {
    record: Record,
    /// The task, itself or one before it, that has no `inputs`: it and all after it run always.
    always: Option<Name>,
}

fn look(
    task: &Task<'_>,
    place: &Place<'_>,
    seen: &BTreeMap<&Name, Seen>,
) -> Result<Seen, InputsError> {
    let section = task.section;
    let mut needed: Vec<(&str, &Seen)> = section
        .needs
        .iter()
        .filter_map(|need| Some((need.get_ref().as_str(), seen.get(need.get_ref())?)))
        .collect();
    needed.sort_by_key(|(name, _)| *name);
    let before = needed.iter().find_map(|(_, seen)| seen.always.clone());
    let inputs = match &section.inputs {
        // Not looked at when it runs in any case.
        Some(patterns) if before.is_none() => {
            let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.get_ref()).collect();
            inputs::digest(place.project, &patterns, &section.outputs)?
        }
        _ => Digest::of(b""),
    };
    let always = match section.inputs {
        None => Some(task.name.clone()),
        Some(_) => before,
    };
    Ok(Seen {
        record: Record {
            definition: key::definition(task),
            lock: place.lock,
            needs: key::needs(needed.iter().map(|(name, seen)| (*name, seen.record.key()))),
            inputs,
        },
        always,
    })
}

/// Why a task has to run, if it has to.
fn reason(task: &Task<'_>, place: &Place<'_>, now: &Seen, last: Option<&Record>) -> Option<Why> {
    match &now.always {
        Some(name) if name == task.name => return Some(Why::NoInputs),
        Some(name) => return Some(Why::Needs(name.clone())),
        None => {}
    }
    let Some(last) = last else {
        return Some(Why::First);
    };
    let record = &now.record;
    if last.definition != record.definition {
        return Some(Why::Definition);
    }
    if last.lock != record.lock {
        return Some(Why::Lock);
    }
    if last.needs != record.needs {
        return Some(Why::Need);
    }
    if last.inputs != record.inputs {
        return Some(Why::Inputs);
    }
    let outputs = task.section.outputs.iter();
    let missing = outputs
        .into_iter()
        .find(|output| !inputs::is_there(place.project, output));
    missing.cloned().map(Why::Output)
}

fn execute(task: &Task<'_>, why: &Why, runner: &mut dyn Runner) -> Result<(), TaskError> {
    match runner.run(task, why) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(TaskError::Failed {
            task: task.name.clone(),
            status,
        }),
        Err(source) => Err(TaskError::Run {
            task: task.name.clone(),
            source,
        }),
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInputs => f.write_str("it has no `inputs`, so it always runs"),
            Self::Needs(name) => write!(f, "it needs `{name}`, which always runs"),
            Self::Forced => f.write_str("it was asked for in any case"),
            Self::First => f.write_str("it has not succeeded yet"),
            Self::Definition => f.write_str("its section of envd.toml has changed"),
            Self::Lock => f.write_str("envd.lock has changed"),
            Self::Need => f.write_str("a task that it needs has changed"),
            Self::Inputs => f.write_str("its inputs have changed"),
            Self::Output(path) => write!(f, "its output `{path}` is not there"),
        }
    }
}
