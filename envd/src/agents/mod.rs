//! Environments lent to agents, in the process that serves them: [`envd_agents::service::Service`] on this machine's store.
//!
//! | file | is |
//! |---|---|
//! | `grants`, `mechanisms` | what requests may ask for, and what the machine has to be able to do |
//! | `blueprint` | from a realised root to a plan |
//! | `layers` | what is written inside: frozen, forked, put back |
//! | `live`, `berth` | one environment and its PID 1, and what it keeps when it is launched anew |
//! | `lending` | creating, forking, restoring and ending them |
//! | `command`, `spool`, `commands` | commands and all that they wrote |
//! | `inside`, `files` | files, through the environment's own root |
//! | `project`, `checkout` | what changed in a project, and bringing it back |
//! | `secrets` | values that one command or the proxy gets |
//! | `packages`, `resources` | the rest |
//! | `service` | the trait, method by method |
//!
//! Everything of an environment ends with this process, whatever ends it: the launcher's socket closes, and the kernel ends
//! what is inside; the directories are in a place of the store that the next command sweeps.

mod berth;
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
mod live;
mod mechanisms;
mod packages;
mod project;
mod resources;
mod secrets;
mod service;
mod spool;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use envd_agents::{
    audit::{Audited, Denials, Log, Refused, Whose},
    policy::Quantity,
    secret::Keyring,
    service::{CommandId, EnvironmentId, Failure, Owner, SnapshotId},
};
use envd_shims::Launcher;
use envd_store::{Place, Store};
use tokio::sync::Semaphore;

pub use grants::{Granted, Grants};
pub use mechanisms::mechanisms;

use self::{command::Running, layers::Frozen, live::Lent};
use crate::cli::{self, Context};

/// Lends environments.
#[derive(Clone, Debug)]
pub struct Lender(Arc<Shared>);

/// What all calls share. Fields go in this order: first every environment, last the place where their files are.
#[derive(Debug)]
struct Shared {
    lent: Mutex<All>,
    launcher: Mutex<Launcher>,
    place: Place,
    /// An empty directory.
    empty: PathBuf,
    counter: AtomicU64,
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
    /// Whose files these are, which may be gone.
    environment: Arc<Lent>,
    ground: Arc<live::Ground>,
    frozen: Frozen,
    beginning: live::Beginning,
}

impl Lender {
    /// A lender with a launcher of its own.
    pub fn new(context: &Context, grants: Grants) -> Result<Self, cli::Failure> {
        grants.require()?;
        let launcher = Launcher::start()?;
        let most = grants.policy().limit(Quantity::Environments);
        let most = most.and_then(|most| usize::try_from(most.value).ok());
        let store = Store::open(&context.settings.store)?;
        let place = store.place()?;
        let empty = place.path().join("empty");
        std::fs::create_dir(&empty).map_err(|error| cli::Failure::of(cli::Kind::Store, &error))?;
        Ok(Self(Arc::new(Shared {
            lent: Mutex::default(),
            launcher: Mutex::new(launcher),
            place,
            empty,
            counter: AtomicU64::new(0),
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
        self.0.place.remove();
    }
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
