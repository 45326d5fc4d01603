//! Environments that are lent to the command line (`envd agent create`): they outlive the command that made them, and end when
//! they are removed, when their time is over, and with the daemon.
//!
//! Whoever can ask a daemon is its user, so all of it has one owner.

use std::{cell::RefCell, collections::BTreeSet, os::fd::OwnedFd, sync::Arc};

use envd_agents::{
    audit::Audited,
    service::{
        self, Call, CommandId, Listener, Owner, Service as _, SnapshotId,
        command::CommandRun,
        environment::{
            EnvironmentCreate, EnvironmentFork, EnvironmentRestore, EnvironmentSnapshot,
        },
        remote,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::{OnceCell, mpsc},
    task::spawn_blocking,
};

use super::message::{Event, Lent, Refusal};
use crate::{
    agents::{ChangesReport, Lender, Pipes},
    cli::{Failure, Kind},
};

/// All changes of an environment with all their lines: [`ChangesReport`] to [`Reported`].
pub const CHANGES_REPORT: &str = "changes_report";
/// Lets go of a snapshot: [`SnapshotDestroy`] to nothing.
pub const SNAPSHOT_DESTROY: &str = "snapshot_destroy";
/// Ends everything that is lent.
pub const RELEASE: &str = "release";
/// With descriptors, a command on a client's own pipes: [`CommandRun`] to its end.
const COMMAND_RUN: &str = "command_run";

/// Things that may be said before somebody listens. What comes meanwhile is not said.
const WAITING: usize = 64;

/// See [`CHANGES_REPORT`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reported {
    /// File by file.
    pub report: Value,
    /// The same as a unified diff.
    pub unified: String,
}

/// See [`SNAPSHOT_DESTROY`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotDestroy {
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// What a client asks for.
#[derive(Debug)]
pub struct Asked {
    method: String,
    arguments: Value,
    pipes: Option<Pipes>,
}

impl Asked {
    /// With the client's pipes, where it has sent any.
    pub fn new(
        method: String,
        arguments: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, Refusal> {
        let pipes = match <[OwnedFd; 3]>::try_from(descriptors) {
            Ok([input, output, error]) if method == COMMAND_RUN => {
                let pipes = Pipes::new(input, output, error);
                Some(pipes.map_err(|error| Refusal::malformed(format!("no pipes: {error}")))?)
            }
            Err(descriptors) if descriptors.is_empty() => None,
            _ => {
                return Err(Refusal::malformed(
                    "descriptors that are not the three pipes of a command_run",
                ));
            }
        };
        Ok(Self {
            method,
            arguments,
            pipes,
        })
    }
}

/// Tells a client how far the work is.
#[derive(Debug)]
pub struct Told(mpsc::Sender<Event>);

impl Told {
    /// And where to take it from.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Arc::new(Self(sender)), receiver)
    }
}

impl Listener for Told {
    fn hear(&self, event: service::Event<'_>) {
        if let service::Event::Step {
            message,
            done,
            total,
        } = event
        {
            let message = message.to_owned();
            // Whoever listens slowly hears less.
            let _ = self.0.try_send(Event::Step {
                message,
                done,
                total,
            });
        }
    }
}

type Make = dyn Fn() -> Result<Lender, Failure> + Send + Sync;

/// Who lends, and the record of what is asked of it.
struct Recorded {
    lender: Arc<Lender>,
    audited: Audited<Lender>,
}

/// What is lent.
pub struct Lending {
    make: Arc<Make>,
    lender: OnceCell<Recorded>,
    owner: Owner,
    /// Names that are about to be given.
    names: RefCell<BTreeSet<String>>,
}

impl Lending {
    /// Nothing yet. `make` makes the lender when somebody asks for the first time: a daemon that lends nothing has no more to
    /// it than before.
    pub fn new(make: impl Fn() -> Result<Lender, Failure> + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            lender: OnceCell::new(),
            owner: Owner::random(),
            names: RefCell::default(),
        }
    }

    /// How much there is.
    pub fn count(&self) -> usize {
        self.lender.get().map_or(0, |made| made.lender.count())
    }

    /// Waits until there is more or less.
    pub async fn changed(&self) {
        match self.lender.get() {
            Some(made) => made.lender.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Ends all of it.
    pub async fn end(&self) {
        if let Some(made) = self.lender.get() {
            made.audited.release(&self.owner).await;
            made.lender.end();
        }
    }

    /// Carries out what is asked for.
    pub async fn carry_out(&self, asked: Asked, told: Arc<Told>) -> Result<Lent, Refusal> {
        let made = self.lender.get_or_try_init(|| async {
            let make = self.make.clone();
            let made = spawn_blocking(move || {
                let lender = Arc::new(make()?);
                let audited = lender.audited()?;
                Ok(Recorded { lender, audited })
            });
            let made = made.await;
            made.unwrap_or_else(|error| Err(Failure::of(Kind::Other, &error)))
        });
        let made = made.await?;
        Ok(match self.ask(made, asked, told).await {
            Ok(answer) => Lent::Answer(answer),
            Err(failure) => Lent::Failure(failure),
        })
    }

    async fn ask(
        &self,
        Recorded { lender, audited }: &Recorded,
        asked: Asked,
        told: Arc<Told>,
    ) -> Result<Value, service::Failure> {
        let call = Call {
            owner: self.owner.clone(),
            client: Some("command line".to_owned()),
            listener: told.clone(),
        };
        let Asked {
            method,
            arguments,
            pipes,
        } = asked;
        match (&*method, pipes) {
            (COMMAND_RUN, Some(pipes)) => {
                let request: CommandRun = read(arguments.clone())?;
                let mut started = |command: &CommandId| {
                    let command = command.clone();
                    let _ = told.0.try_send(Event::Started { command });
                };
                let run = lender.run_piped(&call, request, pipes, &mut started);
                let ended = audited.observe(&call, COMMAND_RUN, &arguments, true, run);
                written(&ended.await?)
            }
            (CHANGES_REPORT, _) => {
                let request: ChangesReport = read(arguments.clone())?;
                let report = async {
                    let report = lender.report(&self.owner, request).await?;
                    Ok(Reported {
                        unified: report.unified(),
                        report: written(&report)?,
                    })
                };
                let observed = audited.observe(&call, CHANGES_REPORT, &arguments, false, report);
                written(&observed.await?)
            }
            (SNAPSHOT_DESTROY, _) => {
                let request: SnapshotDestroy = read(arguments.clone())?;
                let forget = lender.forget(&self.owner, &request.snapshot);
                let observed = audited.observe(&call, SNAPSHOT_DESTROY, &arguments, false, forget);
                written(&observed.await?)
            }
            (RELEASE, _) => {
                audited.release(&self.owner).await;
                Ok(Value::Null)
            }
            (method, _) => {
                let names = wanted_names(method, &arguments)?;
                let _reserved = self.reserve(lender, &call, names).await?;
                remote::carry_out(audited, &call, method, arguments).await
            }
        }
    }

    /// Sees to it that a name stays one environment's or one snapshot's: on the command line it stands for the handle.
    async fn reserve<'a>(
        &'a self,
        lender: &Lender,
        call: &Call,
        names: Vec<(Named, String)>,
    ) -> Result<Reserved<'a>, service::Failure> {
        let mut reserved = Reserved {
            lending: self,
            names: Vec::new(),
        };
        if names.is_empty() {
            return Ok(reserved);
        }
        for (kind, name) in &names {
            let key = format!("{} {name}", kind.noun());
            if !self.names.borrow_mut().insert(key.clone()) {
                return Err(taken(*kind, name, None));
            }
            reserved.names.push(key);
        }
        let there = lender.environment_list(call, Default::default()).await?;
        for (kind, name) in &names {
            let handle = match kind {
                Named::Environment => {
                    let mut all = there.environments.iter();
                    all.find(|one| one.name.as_ref() == Some(name))
                        .map(|one| one.environment.to_string())
                }
                Named::Snapshot => {
                    let mut all = there.snapshots.iter();
                    all.find(|one| one.name.as_ref() == Some(name))
                        .map(|one| one.snapshot.to_string())
                }
            };
            if handle.is_some() {
                return Err(taken(*kind, name, handle));
            }
        }
        Ok(reserved)
    }
}

/// Names that nobody else is given as long as this lives.
struct Reserved<'a> {
    lending: &'a Lending,
    names: Vec<String>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut names = self.lending.names.borrow_mut();
        for name in &self.names {
            names.remove(name);
        }
    }
}

/// What a name is given to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    Environment,
    Snapshot,
}

impl Named {
    fn noun(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Snapshot => "snapshot",
        }
    }
}

fn taken(kind: Named, name: &str, handle: Option<String>) -> service::Failure {
    let noun = kind.noun();
    service::Failure::Invalid {
        field: "name".to_owned(),
        problem: match handle {
            Some(handle) => format!("{name} is the {noun} {handle}"),
            None => format!("another {noun} is being given the name {name}"),
        },
        expected: format!("another name, or end that one with `envd agent rm {name}`"),
    }
}

/// The names that a request would give.
fn wanted_names(method: &str, arguments: &Value) -> Result<Vec<(Named, String)>, service::Failure> {
    let environment = |name: Option<String>| name.map(|name| (Named::Environment, name));
    Ok(match method {
        "environment_create" => {
            let request: EnvironmentCreate = read(arguments.clone())?;
            environment(request.name).into_iter().collect()
        }
        "environment_restore" => {
            let request: EnvironmentRestore = read(arguments.clone())?;
            environment(request.name).into_iter().collect()
        }
        "environment_snapshot" => {
            let request: EnvironmentSnapshot = read(arguments.clone())?;
            let name = request.name.map(|name| (Named::Snapshot, name));
            name.into_iter().collect()
        }
        "environment_fork" => {
            let request: EnvironmentFork = read(arguments.clone())?;
            match (request.name, request.count) {
                (None, _) => Vec::new(),
                (name, 0..=1) => environment(name).into_iter().collect(),
                (Some(name), count) => (1..=count.min(1000))
                    .map(|number| (Named::Environment, format!("{name}-{number}")))
                    .collect(),
            }
        }
        _ => Vec::new(),
    })
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, service::Failure> {
    serde_json::from_value(value).map_err(|error| service::Failure::Internal {
        step: "reading a request".to_owned(),
        reason: error.to_string(),
    })
}

fn written(value: &impl Serialize) -> Result<Value, service::Failure> {
    serde_json::to_value(value).map_err(|error| service::Failure::Internal {
        step: "writing an answer".to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fork_is_given_as_many_names_as_there_will_be_environments() {
        let environment = service::EnvironmentId::random();
        let fork = |count| json!({"environment": environment, "name": "try", "count": count});
        let names = |count| {
            let names = wanted_names("environment_fork", &fork(count)).unwrap();
            names.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(1), ["try"]);
        assert_eq!(names(2), ["try-1", "try-2"]);
        assert!(wanted_names("command_poll", &json!({})).unwrap().is_empty());
    }

    #[test]
    fn only_a_command_takes_descriptors_and_only_pipes() {
        let pipe = || rustix::pipe::pipe().unwrap();
        let ((input, _a), (_b, output), (_c, error)) = (pipe(), pipe(), pipe());
        let asked = |method: &str, descriptors| {
            Asked::new(method.to_owned(), Value::Null, descriptors).is_ok()
        };
        assert!(asked("environment_list", Vec::new()));
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        assert!(!asked(
            "command_poll",
            vec![copy(&input), copy(&output), copy(&error)]
        ));
        assert!(!asked(COMMAND_RUN, vec![copy(&input)]));
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(!asked(
            COMMAND_RUN,
            vec![file(), copy(&output), copy(&error)]
        ));
        assert!(!asked(
            COMMAND_RUN,
            vec![copy(&output), copy(&output), copy(&error)]
        ));
    }
}
