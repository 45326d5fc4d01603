//! Environments lent to agents, in the process that serves them: [`envd_agents::service::Service`] on this machine's store.
//!
//! | file | is |
//! |---|---|
//! | `grants`, `mechanisms` | what requests may ask for, and what the machine has to be able to do |
//! | `blueprint` | from a realised root to a plan |
//! | `layers`, `pairs` | what is written inside: frozen, forked, put back; the directories for it |
//! | `live`, `berth` | one environment and its PID 1, and what it keeps when it is launched anew |
//! | `spare`, `known` | those that are made ahead, and what the last one stands on |
//! | `limits`, `quota` | what it may take of the machine, and what it takes |
//! | `lending`, `taken` | creating, forking, restoring and ending them; files as they were at a moment |
//! | `command`, `ends`, `spool`, `terminal`, `commands` | commands and all that they wrote |
//! | `inside`, `files` | files, through the environment's own root |
//! | `project`, `checkout` | what changed in a project, and bringing it back |
//! | `programs` | what of a project its owner's git runs |
//! | `commits` | the same for commits |
//! | `ports` | what listens inside, reached from outside |
//! | `secrets` | values that one command or the proxy gets |
//! | `packages`, `missing` | tools that are added, and which would bring a command that is not there |
//! | `resources`, `told` | the rest |
//! | `service` | the trait, method by method |
//!
//! Everything of an environment ends with this process, whatever ends it: the launcher's socket closes, and the kernel ends
//! what is inside; the directories are in a place of the store that the next command sweeps.

mod berth;
mod blueprint;
mod checkout;
mod command;
mod commands;
mod commits;
mod ends;
mod failure;
mod files;
mod grants;
mod inside;
mod known;
mod layers;
mod lending;
mod limits;
mod live;
mod mechanisms;
mod missing;
mod packages;
mod pairs;
mod ports;
mod programs;
mod project;
mod quota;
mod resources;
mod secrets;
mod service;
mod spare;
mod spool;
mod taken;
mod terminal;
mod told;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use envd_agents::{
    audit::{Audited, Denials, Log, Refused, Whose},
    changes::Report,
    policy::Quantity,
    secret::Keyring,
    service::{
        Call, CommandId, EnvironmentId, Failure, Owner, SnapshotId,
        command::{CommandEnded, CommandRun},
        environment,
    },
};
use envd_shims::{Launcher, cgroup::Groups};
use envd_store::{Place, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

pub use ends::Pipes;
pub use grants::{Granted, Grants};
pub use mechanisms::mechanisms;

use self::{command::Running, known::Known, live::Lent, spare::Spare};
use crate::cli::{self, Context};

/// Lends environments.
#[derive(Clone, Debug)]
pub struct Lender(Arc<Shared>);

/// What all calls share. Fields go in this order: first every environment, last the place where their files are.
#[derive(Debug)]
struct Shared {
    lent: Mutex<All>,
    ports: ports::Ports,
    spare: Spare,
    known: Known,
    launcher: Mutex<Launcher>,
    /// Where control groups are made, if anywhere.
    groups: Option<Groups>,
    machine: limits::Machine,
    /// Whether somebody looks at what environments take.
    watched: AtomicBool,
    shelf: Arc<pairs::Shelf>,
    place: Place,
    /// An empty directory.
    empty: PathBuf,
    counter: AtomicU64,
    /// There is one environment or snapshot more, or less.
    changed: Notify,
    context: Context,
    grants: Grants,
    /// As many as environments may still be made.
    room: Arc<Semaphore>,
    keyring: Arc<Keyring>,
}

/// All there is.
#[derive(Debug, Default)]
struct All {
    environments: BTreeMap<EnvironmentId, Arc<Lent>>,
    commands: BTreeMap<CommandId, Arc<Running>>,
    snapshots: BTreeMap<SnapshotId, Arc<Snapshot>>,
}

/// Frozen files.
#[derive(Debug)]
struct Snapshot {
    id: SnapshotId,
    owner: Owner,
    /// Counts with environments, so that lists are in order.
    number: u64,
    name: Option<String>,
    /// Changed paths in it.
    changes: u64,
    /// Whose files these are, which may be gone.
    environment: Arc<Lent>,
    taken: taken::Taken,
}

impl Snapshot {
    /// As its owner is told of it.
    fn told(&self) -> environment::Snapshot {
        environment::Snapshot {
            snapshot: self.id.clone(),
            environment: self.environment.id.clone(),
            name: self.name.clone(),
            changes: self.changes,
        }
    }
}

impl Lender {
    /// A lender with a launcher of its own.
    pub fn new(context: &Context, grants: Grants) -> Result<Self, cli::Failure> {
        grants.require()?;
        let launcher = Launcher::start()?;
        let most = grants.policy().limit(Quantity::Environments);
        let most = most.and_then(|most| usize::try_from(most.value).ok());
        let groups = Groups::find(&[launcher.pid()]).unwrap_or_else(|error| {
            tracing::warn!(%error, "no control groups");
            None
        });
        let store = Store::open(&context.settings.store)?;
        let place = store.place()?;
        let empty = place.path().join("empty");
        let layers = place.path().join("layers");
        for directory in [&empty, &layers] {
            let made = std::fs::create_dir(directory);
            made.map_err(|error| cli::Failure::of(cli::Kind::Store, &error))?;
        }
        pairs::spread(&layers);
        Ok(Self(Arc::new(Shared {
            lent: Mutex::default(),
            ports: ports::Ports::default(),
            spare: Spare::default(),
            known: Known::default(),
            launcher: Mutex::new(launcher),
            groups,
            machine: limits::Machine::current(),
            watched: AtomicBool::new(false),
            shelf: Arc::default(),
            place,
            empty,
            counter: AtomicU64::new(0),
            changed: Notify::new(),
            context: context.clone(),
            grants,
            keyring: Arc::default(),
            room: Arc::new(Semaphore::new(most.unwrap_or(Semaphore::MAX_PERMITS))),
        })))
    }

    /// The same, with a line in the store's record for every call.
    pub fn audited(self: &Arc<Self>) -> Result<Audited<Self>, cli::Failure> {
        let directory = audit_directory(&self.0.context.settings.store);
        let log = Log::open(&directory).map_err(|error| {
            cli::Failure::of(cli::Kind::Store, &error).help(format!(
                "calls cannot be recorded in {}",
                directory.display()
            ))
        })?;
        Ok(Audited::new(
            self.clone(),
            Arc::new(log),
            self.clone(),
            self.0.keyring.clone(),
        ))
    }

    /// Ends everything that was lent to anybody. Tasks that a runtime was left with may still have a hand on this; they find
    /// nothing any more.
    pub fn end(&self) {
        let all = std::mem::take(&mut *self.0.all());
        for lent in all.environments.values() {
            // Whoever holds it is about to go, and cannot be waited for.
            if let Ok(mut live) = lent.live.try_write() {
                live.take();
            }
        }
        drop(all);
        self.0.spare.close();
        self.0.shelf.clear();
        self.0.place.remove();
    }
}

/// What the command line asks for beyond [`envd_agents::service::Service`], which is made for models: a command on pipes of its own, a whole
/// diff, an end to snapshots.
impl Lender {
    /// Runs a command whose input and outputs are a client's pipes. `started` hears its handle when it runs.
    pub async fn run_piped(
        &self,
        call: &Call,
        request: CommandRun,
        pipes: Pipes,
        started: &mut (dyn FnMut(&CommandId) + Send),
    ) -> Result<CommandEnded, Failure> {
        commands::run_piped(&self.0, call, request, pipes, started).await
    }

    /// All changes with all their lines.
    pub async fn report(&self, owner: &Owner, request: ChangesReport) -> Result<Report, Failure> {
        project::report(&self.0, owner, request).await
    }

    /// Lets go of a snapshot.
    pub async fn forget(&self, owner: &Owner, id: &SnapshotId) -> Result<(), Failure> {
        lending::forget(&self.0, Some(owner), id).await
    }

    /// How many environments and snapshots there are.
    pub fn count(&self) -> usize {
        let all = self.0.all();
        all.environments.len() + all.snapshots.len()
    }

    /// Waits until there is one more or less. One waits at a time.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The process that makes environments.
    pub fn launcher(&self) -> u32 {
        let launcher = &self.0.launcher;
        launcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pid()
    }
}

/// See [`Lender::report`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangesReport {
    /// The environment.
    pub environment: EnvironmentId,
    /// Only these paths and what is below them, relative to the project.
    #[serde(default)]
    pub paths: Vec<String>,
}

impl Denials for Lender {
    fn take(&self, whose: Whose<'_>) -> Vec<Refused> {
        let all = self.0.all();
        let ours = all.environments.values().filter(|lent| match whose {
            Whose::Environment(id) => lent.id == *id,
            Whose::Owner(owner) => lent.owner == *owner,
        });
        ours.flat_map(|lent| lent.tally.take()).collect()
    }
}

/// Where the record of calls is.
pub fn audit_directory(store: &Path) -> PathBuf {
    store.join("audit")
}

impl Shared {
    fn all(&self) -> MutexGuard<'_, All> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Controllers that hold limits here.
    fn controllers(&self) -> &[envd_shims::cgroup::Controller] {
        self.groups.as_ref().map_or(&[], Groups::controllers)
    }

    fn count(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// A path in the place that nothing else has.
    fn fresh(&self, kind: &str) -> PathBuf {
        self.place.path().join(format!("{kind}-{}", self.count()))
    }

    /// What an overlay writes to.
    fn pair(&self) -> io::Result<pairs::Pair> {
        self.shelf.take(|| self.fresh("layers/layer"))
    }

    /// An environment of this owner.
    fn environment(&self, owner: &Owner, id: &EnvironmentId) -> Result<Arc<Lent>, Failure> {
        let found = self.all().environments.get(id).cloned();
        found
            .filter(|lent| lent.owner == *owner)
            .ok_or_else(|| Failure::no_such_environment(id))
    }

    /// A command of this owner.
    fn command(&self, owner: &Owner, id: &CommandId) -> Result<Arc<Running>, Failure> {
        let found = self.all().commands.get(id).cloned();
        found
            .filter(|running| running.owner == *owner)
            .ok_or_else(|| Failure::no_such_command(id))
    }

    /// A snapshot of this owner.
    fn snapshot(&self, owner: &Owner, id: &SnapshotId) -> Result<Arc<Snapshot>, Failure> {
        let found = self.all().snapshots.get(id).cloned();
        found
            .filter(|snapshot| snapshot.owner == *owner)
            .ok_or_else(|| Failure::no_such_snapshot(id))
    }
}

/// Does blocking work beside the runtime. Dropping the future lets it finish, and drops what it made.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(failure::internal("carrying out the call", &error)),
    }
}
