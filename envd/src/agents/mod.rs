//! Environments lent to agents, in the process that serves them: [`envd_agents::service::Service`] on this machine's store.
//!
//! | file | is |
//! |---|---|
//! | `grants` | what requests may ask for |
//! | `blueprint` | from a realised root to a plan |
//! | `layers` | what is written inside: frozen, forked, put back |
//! | `live` | one environment and its PID 1 |
//! | `limits`, `quota` | what it may take of the machine, and what it takes |
//! | `lending` | creating, forking, restoring and ending them |
//! | `command`, `spool`, `terminal`, `commands` | commands and all that they wrote |
//! | `inside`, `files` | files, through the environment's own root |
//! | `project`, `checkout` | what changed in a project, and bringing it back |
//! | `packages`, `resources` | the rest |
//! | `service` | the trait, method by method |
//!
//! Everything of an environment ends with this process, whatever ends it: the launcher's socket closes, and the kernel ends
//! what is inside; the directories are in a place of the store that the next command sweeps.

mod blueprint;
mod checkout;
mod command;
mod commands;
mod failure;
mod files;
mod grants;
mod inside;
mod layers;
mod lending;
mod limits;
mod live;
mod packages;
mod project;
mod quota;
mod resources;
mod service;
mod spool;
mod terminal;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use envd_agents::service::{CommandId, EnvironmentId, Failure, Owner, SnapshotId};
use envd_shims::{Launcher, cgroup::Groups};
use envd_store::{Place, Store};

pub use grants::Grants;

use self::{command::Running, live::Lent};
use crate::cli::{self, Context};

/// Lends environments.
#[derive(Clone, Debug)]
pub struct Lender(Arc<Shared>);

/// What all calls share. Fields go in this order: first every environment, last the place where their files are.
#[derive(Debug)]
struct Shared {
    lent: Mutex<All>,
    launcher: Mutex<Launcher>,
    /// Where control groups are made, if anywhere.
    groups: Option<Groups>,
    machine: limits::Machine,
    /// Whether somebody looks at what environments take.
    watched: AtomicBool,
    place: Place,
    /// An empty directory.
    empty: PathBuf,
    counter: AtomicU64,
    context: Context,
    grants: Grants,
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
    /// Whose files these are, which may be gone.
    environment: Arc<Lent>,
    taken: lending::Taken,
}

impl Lender {
    /// A lender with a launcher of its own.
    pub fn new(context: &Context, grants: Grants) -> Result<Self, cli::Failure> {
        let launcher = Launcher::start()?;
        let groups = Groups::find(&[launcher.pid()]).unwrap_or_else(|error| {
            tracing::warn!(%error, "no control groups");
            None
        });
        let store = Store::open(&context.settings.store)?;
        let place = store.place()?;
        let empty = place.path().join("empty");
        std::fs::create_dir(&empty).map_err(|error| cli::Failure::of(cli::Kind::Store, &error))?;
        Ok(Self(Arc::new(Shared {
            lent: Mutex::default(),
            launcher: Mutex::new(launcher),
            groups,
            machine: limits::Machine::current(),
            watched: AtomicBool::new(false),
            place,
            empty,
            counter: AtomicU64::new(0),
            context: context.clone(),
            grants,
        })))
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
        self.0.place.remove();
    }
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
