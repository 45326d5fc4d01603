//! The project's services, which share one environment: made at the first `up`, taken down with the last.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::DirBuilder,
    io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use envd_shims::plan::Mount;
use envd_supervision::{Name, Slow, State};
use serde::{Deserialize, Serialize};
use tokio::{io::Interest, time::timeout};

use super::{
    inhabitant::{Life, Processes},
    maker::{Blueprint, Environment},
    recipe::Recipe,
    server::Daemon,
    watched::watched,
};
use crate::{
    cli::{Failure, Kind},
    config::{ServiceSection, TaskSection},
    services::{Directories, Ports, ServiceStatus, Services, ServicesError, Spec, UpError},
};

/// How long services may take to end, all together.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long what is left of their environment may take.
const GONE: Duration = Duration::from_secs(5);

/// A service in the answers to `up` and `ps`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// Its state, a word in lower case.
    pub state: String,
    /// For how long, in seconds.
    pub seconds: f64,
    /// Why.
    pub reason: String,
    /// Its process, as it is numbered inside.
    pub pid: Option<u32>,
    /// What it last said of itself.
    pub text: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
}

/// The answer to `up`, `ps` and `ports`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ServicesState {
    /// All services, in the order in which they start.
    pub services: Vec<ServiceState>,
    /// Ports by name.
    pub ports: BTreeMap<String, u16>,
    /// The project's files have changed since the services were started.
    pub stale: bool,
}

impl ServicesState {
    /// From the daemon's answer.
    pub fn of(answer: serde_json::Value) -> Result<Self, Failure> {
        serde_json::from_value(answer)
            .map_err(|error| Failure::new(Kind::Host, format!("the daemon's answer: {error}")))
    }
}

/// Services that are there, up or not.
struct Running {
    services: Services,
    environment: Arc<dyn Environment>,
    life: Life,
    /// What the environment was made from; it keeps the root's view.
    recipe: Rc<Recipe>,
}

/// Where a project's services keep things.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// All of it: what `down --clean` removes.
    pub all: PathBuf,
    /// See [`Directories`].
    pub directories: Directories,
}

impl Places {
    /// In a store, with sockets in the runtime directory. `key` is the project's.
    pub fn of(store: &Path, runtime: &Path, key: &str) -> Self {
        let all = store.join("state").join(key);
        Self {
            directories: Directories {
                state: all.join("data"),
                sockets: runtime.join(format!("{key}.notify")),
                logs: all.join("logs"),
            },
            all,
        }
    }

    /// What is remembered of tasks that succeeded.
    pub fn tasks(&self) -> PathBuf {
        self.all.join("tasks")
    }

    /// Makes the directory for everything, for its owner only.
    pub fn make(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.all)
    }
}

/// The services of a daemon.
pub struct Household {
    places: Places,
    project: PathBuf,
    ports: RefCell<Ports>,
    running: RefCell<Option<Running>>,
}

impl Household {
    /// Of a project, none of whose services anybody wants yet.
    pub fn new(places: Places, project: &Path) -> Self {
        let ports = Ports::new(project.as_os_str().as_encoded_bytes());
        Self {
            places,
            project: project.to_owned(),
            ports: RefCell::new(ports),
            running: RefCell::default(),
        }
    }

    /// Whether a service runs, or is about to.
    pub fn is_alive(&self) -> bool {
        let running = self.running.borrow();
        running.as_ref().is_some_and(Running::is_alive)
    }

    /// The services, ready to be told what is wanted. Those that run stay what they are, whatever has changed since.
    pub fn services(&self, daemon: &Daemon, recipe: &Rc<Recipe>) -> Result<Services, Failure> {
        let mut running = self.running.borrow_mut();
        if let Some(known) = &*running
            && (known.is_current(recipe) || known.is_alive())
            && !known.has_ended()
        {
            return Ok(known.services.clone());
        }
        running.take();
        let made = self.make(daemon, recipe)?;
        Ok(running.insert(made).services.clone())
    }

    fn make(&self, daemon: &Daemon, recipe: &Rc<Recipe>) -> Result<Running, Failure> {
        let manifest = recipe.manifest();
        let specs = Spec::of_manifest(&manifest, &mut self.ports.borrow_mut())
            .map_err(|error| Failure::of(Kind::Host, &error))?;
        let directories = &self.places.directories;
        let mut plan = recipe.blueprint.plan.clone();
        for path in [&directories.state, &directories.sockets] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|error| {
                Failure::of(Kind::Store, &error).help(format!("{} cannot be made", path.display()))
            })?;
            plan.mounts.push(Mount::Bind {
                source: path.clone(),
                target: path.clone(),
                read_only: false,
                optional: false,
            });
        }
        let environment: Arc<dyn Environment> = daemon.make(&Blueprint::new(plan))?.into();
        let life = Life::default();
        let processes = Processes {
            environment: environment.clone(),
            life: life.clone(),
            variables: recipe.variables(&daemon.variables, &[]),
            project: self.project.clone(),
        };
        let services = Services::new(specs, Arc::new(processes), directories.clone())?;
        Ok(Running {
            services,
            environment,
            life,
            recipe: recipe.clone(),
        })
    }

    /// Waits until nothing is left of an environment of services that somebody has killed: it may hold their ports still.
    pub async fn bury(&self) {
        let end = {
            let running = self.running.borrow();
            let dead = running.as_ref().filter(|running| running.has_ended());
            dead.and_then(|running| running.environment.pidfd().try_clone_to_owned().ok())
        };
        wait_for(end).await;
    }

    /// The services as they were started, if they were.
    pub fn started(&self) -> Option<Services> {
        let running = self.running.borrow();
        running.as_ref().map(|running| running.services.clone())
    }

    /// Stops services, all where none is named; then what they shared goes, too. Says who was slow.
    pub async fn down(&self, names: &[Name], within: Duration) -> Result<Vec<Slow>, Failure> {
        if !names.is_empty() {
            return match self.started() {
                Some(services) => Ok(services.down(names, within).await?),
                None => Ok(Vec::new()),
            };
        }
        let Some(running) = self.running.take() else {
            return Ok(Vec::new());
        };
        let slow = running.services.shutdown(within).await;
        let end = running.environment.pidfd().try_clone_to_owned();
        drop(running);
        wait_for(end.ok()).await;
        Ok(slow)
    }

    /// Removes what only a daemon that lives needs.
    pub fn clear(&self) {
        let _ = std::fs::remove_dir_all(&self.places.directories.sockets);
    }

    /// The PID 1 of the services' environment.
    pub fn pid(&self) -> Option<u32> {
        let running = self.running.borrow();
        running.as_ref().map(|running| running.environment.pid())
    }

    /// How the services are, and the ports of all that a manifest names. `now` is how the project's files are.
    pub fn state(&self, now: Option<&Rc<Recipe>>) -> Result<ServicesState, Failure> {
        let mut ports = self.ports.borrow_mut();
        if let Some(recipe) = now {
            let manifest = recipe.manifest();
            let services = manifest.services.values().flat_map(ServiceSection::ports);
            let tasks = manifest.tasks.values().flat_map(TaskSection::ports);
            ports
                .give(services.chain(tasks))
                .map_err(|error| Failure::of(Kind::Host, &error))?;
        }
        let running = self.running.borrow();
        let services = running.iter().flat_map(|running| running.services.status());
        Ok(ServicesState {
            services: services.map(ServiceState::from).collect(),
            ports: ports
                .iter()
                .map(|(name, port)| (name.as_str().to_owned(), port))
                .collect(),
            stale: match (&*running, now) {
                (Some(running), Some(recipe)) => !running.is_current(recipe),
                _ => false,
            },
        })
    }
}

/// Waits for the end that a pidfd tells, but not for ever.
async fn wait_for(end: Option<OwnedFd>) {
    let Some(end) = end else {
        return;
    };
    if let Ok(end) = watched(end, Interest::READABLE) {
        let _ = timeout(GONE, end.readable()).await;
    }
}

impl Running {
    fn has_ended(&self) -> bool {
        self.life.is_over() || self.environment.has_ended()
    }

    fn is_alive(&self) -> bool {
        let status = self.services.status();
        status.iter().any(|status| {
            !matches!(
                status.state,
                State::Stopped | State::Done | State::Ended | State::Failed
            )
        })
    }

    /// Whether they would be made the same now.
    fn is_current(&self, recipe: &Rc<Recipe>) -> bool {
        Rc::ptr_eq(&self.recipe, recipe) && !recipe.retired.get()
    }
}

impl From<ServiceStatus> for ServiceState {
    fn from(status: ServiceStatus) -> Self {
        Self {
            name: status.name.as_str().to_owned(),
            state: status.state.as_str().to_owned(),
            seconds: status.age.as_secs_f64(),
            reason: status.reason,
            pid: status.pid,
            text: status.text,
            restarts: status.restarts,
        }
    }
}

impl From<ServicesError> for Failure {
    fn from(error: ServicesError) -> Self {
        let kind = match &error {
            ServicesError::Directory { .. } => Kind::Store,
            _ => Kind::Usage,
        };
        Self::of(kind, &error)
    }
}

impl From<UpError> for Failure {
    fn from(error: UpError) -> Self {
        match error {
            UpError::Unknown(error) => error.into(),
            UpError::Down(reports) => {
                let each = reports.iter().map(|report| {
                    format!("{} is {}: {}", report.service, report.state, report.reason)
                });
                let message = each.collect::<Vec<_>>().join("\n");
                let failure = Self::new(Kind::Other, message);
                match reports.first() {
                    Some(first) => failure.help(format!("`envd logs {}`", first.service)),
                    None => failure,
                }
            }
            UpError::Ending => Self::new(Kind::Other, error.to_string()),
        }
    }
}
