//! The daemon of one project: what it owns, and how long it lives.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    rc::{Rc, Weak},
    time::Duration,
};

use envd_shims::LaunchError;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
    task::spawn_local,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    channel::Channel,
    conversation::converse,
    household::{self, Household},
    lending::Lending,
    maker::{Blueprint, Environment, Maker},
    recipe::{Recipe, Recipes},
    watched::watched,
};
use crate::{
    cli::{Failure, operations::Ready},
    services::Services,
    settings::HostVariables,
};

/// Environments that wait for a command, of each kind that is asked for.
const SPARES: usize = 2;
/// How long making another one waits where there is one.
const MOMENT: Duration = Duration::from_millis(3);
/// How long they wait for it.
const SPARE_TIME: Duration = Duration::from_secs(300);
/// How long everything may take to end when the daemon is stopped.
const STOP_TIME: Duration = Duration::from_secs(10);
/// How long nobody is let in when there are no descriptors left.
const BREATH: Duration = Duration::from_millis(50);

/// Who the daemon is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Its version, for people.
    pub version: String,
    /// Its build; clients of another are refused.
    #[serde(with = "hexadecimal")]
    pub build: u64,
    /// Its process.
    pub pid: u32,
    /// Whose daemon it is. Clients of other users are refused, but for root.
    pub uid: u32,
    /// Its project.
    pub project: String,
    /// Its store.
    pub store: String,
}

mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// What an environment is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// One command.
    Run,
    /// Commands of one client.
    Open,
    /// It waits for a command.
    Spare,
    /// The services.
    Services,
}

/// An environment in the answer to `status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Occupied {
    /// Its PID 1.
    pub pid: u32,
    /// What it is there for.
    pub r#use: Use,
    /// For how long.
    pub seconds: u64,
}

/// The answer to `status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Who it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// How long it has been there.
    pub seconds: u64,
    /// Clients that are connected, the one that asks among them.
    pub clients: usize,
    /// Its environments.
    pub environments: Vec<Occupied>,
    /// Environments and snapshots that are lent to the command line (`envd agent`).
    #[serde(default)]
    pub lent: usize,
}

/// An environment that somebody uses.
struct Tenant {
    environment: Box<dyn Environment>,
    r#use: Use,
    since: Instant,
    /// Keeps the root's view.
    _ready: Rc<Ready>,
}

/// The daemon.
pub struct Daemon {
    /// Who it is.
    pub identity: Identity,
    /// How what is asked for is made.
    pub recipes: Recipes,
    /// The services.
    pub household: Household,
    /// What is lent to the command line.
    pub lending: Lending,
    /// The variables that it was started with: those of whoever asks for something without saying more.
    pub variables: HostVariables,
    maker: Box<dyn Maker>,
    tenants: RefCell<BTreeMap<u64, Tenant>>,
    next: Cell<u64>,
    clients: Cell<usize>,
    /// Something listens to what becomes of services.
    watches: Cell<bool>,
    started: Instant,
    idle: Duration,
    changed: Notify,
    stopping: Cell<bool>,
    stop_begun: Notify,
    stop: Notify,
}

impl Daemon {
    /// A daemon that ends when nobody has used it for `idle`.
    pub fn new(
        identity: Identity,
        recipes: Recipes,
        household: Household,
        lending: Lending,
        variables: HostVariables,
        maker: Box<dyn Maker>,
        idle: Duration,
    ) -> Rc<Self> {
        Rc::new(Self {
            identity,
            recipes,
            household,
            lending,
            variables,
            maker,
            tenants: RefCell::default(),
            next: Cell::new(1),
            clients: Cell::new(0),
            watches: Cell::new(false),
            started: Instant::now(),
            idle,
            changed: Notify::new(),
            stopping: Cell::new(false),
            stop_begun: Notify::new(),
            stop: Notify::new(),
        })
    }

    /// Serves until it has been idle for long enough, was asked to stop, or `signal` came; then ends everything it owns.
    pub async fn serve(
        self: &Rc<Self>,
        listener: OwnedFd,
        signal: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let listener = watched(listener, Interest::READABLE)?;
        let mut signal = std::pin::pin!(signal);
        loop {
            tokio::select! {
                accepted = accept(&listener) => match accepted {
                    Ok(socket) => self.welcome(socket),
                    Err(error) => {
                        tracing::warn!("cannot let a client in: {error}");
                        sleep(BREATH).await;
                    }
                },
                () = self.unused() => {
                    tracing::info!("nobody has used it for {} s", self.idle.as_secs());
                    break;
                }
                () = self.stop.notified() => break,
                () = &mut signal => break,
            }
        }
        drop(listener);
        self.begin_stop();
        self.end_all().await;
        Ok(())
    }

    fn welcome(self: &Rc<Self>, socket: OwnedFd) {
        match Channel::new(socket) {
            Ok(channel) => {
                let guest = Guest::new(self);
                spawn_local(async move { converse(guest, channel).await });
            }
            Err(error) => tracing::warn!("cannot listen to a client: {error}"),
        }
    }

    /// Waits until nobody has been there for long enough.
    async fn unused(&self) {
        let mut since = Instant::now();
        loop {
            if self.clients.get() > 0 || self.household.is_alive() || self.lending.count() > 0 {
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = self.lending.changed() => {}
                }
                since = Instant::now();
                continue;
            }
            tokio::select! {
                () = sleep_until(since + self.idle) => return,
                () = self.changed.notified() => since = Instant::now(),
            }
        }
    }

    /// Has nothing new started.
    pub fn begin_stop(&self) {
        self.stopping.set(true);
        self.stop_begun.notify_waiters();
    }

    /// Waits until nothing new is started.
    pub async fn stop_begins(&self) {
        let begins = self.stop_begun.notified();
        if !self.stopping.get() {
            begins.await;
        }
    }

    /// Has the daemon end.
    pub fn stop(&self) {
        self.begin_stop();
        self.stop.notify_one();
    }

    /// Whether it is about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether something runs.
    pub fn is_busy(&self) -> bool {
        !self.tenants.borrow().is_empty() || self.household.is_alive() || self.lending.count() > 0
    }

    /// An environment of nobody's yet.
    pub fn make(&self, blueprint: &Blueprint) -> Result<Box<dyn Environment>, LaunchError> {
        self.maker.make(blueprint)
    }

    /// Notices whenever a service has come to its end, after which nobody may be there.
    pub fn watch(self: &Rc<Self>, services: &Services) {
        if self.watches.replace(true) {
            return;
        }
        let (daemon, mut reports) = (self.clone(), services.reports());
        spawn_local(async move {
            use tokio::sync::broadcast::error::RecvError::Closed;
            while !matches!(reports.recv().await, Err(Closed)) {
                daemon.changed.notify_one();
            }
            daemon.watches.set(false);
            daemon.changed.notify_one();
        });
    }

    /// Ends every environment and waits until nothing is left of them.
    pub async fn end_all(&self) {
        match self.household.down(&[], household::PATIENCE).await {
            Ok(slow) => {
                for slow in slow {
                    tracing::warn!("{} {}", slow.service, slow.reason);
                }
            }
            Err(failure) => tracing::warn!("services: {}", failure.message),
        }
        self.household.clear();
        if timeout(STOP_TIME, self.lending.end()).await.is_err() {
            tracing::warn!(
                "lent environments have not ended after {} s",
                STOP_TIME.as_secs()
            );
        }
        let tenants = self.tenants.take();
        let used = tenants.into_values().map(|tenant| tenant.environment);
        let environments: Vec<_> = used.chain(self.recipes.clear()).collect();
        let ends: Vec<_> = environments
            .iter()
            .filter_map(|environment| environment.pidfd().try_clone_to_owned().ok())
            .collect();
        drop(environments);
        let gone = async {
            for end in ends {
                if let Ok(end) = watched(end, Interest::READABLE) {
                    let _ = end.readable().await;
                }
            }
        };
        if timeout(STOP_TIME, gone).await.is_err() {
            tracing::warn!(
                "environments have not ended after {} s",
                STOP_TIME.as_secs()
            );
        }
    }

    /// Lets somebody use an environment made from a recipe: one that waits, else a new one. The next is made ready.
    pub fn lend(self: &Rc<Self>, recipe: &Rc<Recipe>, r#use: Use) -> Result<Tenancy, Failure> {
        let environment = loop {
            let spare = recipe.spares.borrow_mut().pop();
            match spare {
                Some(spare) if spare.has_ended() => {}
                Some(spare) => break spare,
                None => break self.maker.make(&recipe.blueprint)?,
            }
        };
        let id = self.next.get();
        self.next.set(id + 1);
        let tenant = Tenant {
            environment,
            r#use,
            since: Instant::now(),
            _ready: recipe.ready(),
        };
        self.tenants.borrow_mut().insert(id, tenant);
        Ok(Tenancy {
            daemon: Rc::downgrade(self),
            id,
        })
    }

    /// Makes what is missing of the spares, when everything else that waits has been done.
    pub fn refill(self: &Rc<Self>, recipe: &Rc<Recipe>) {
        let (daemon, recipe) = (self.clone(), recipe.clone());
        spawn_local(async move {
            if recipe.spares.borrow().is_empty() {
                tokio::task::yield_now().await;
            } else {
                // The command that was just handed over goes first.
                sleep(MOMENT).await;
            }
            while recipe.spares.borrow().len() < SPARES
                && !recipe.retired.get()
                && !daemon.stopping.get()
            {
                match daemon.maker.make(&recipe.blueprint) {
                    Ok(spare) => recipe.spares.borrow_mut().push(spare),
                    // Whoever asks next is told.
                    Err(error) => {
                        tracing::warn!("no environment can be made ready: {error}");
                        return;
                    }
                }
                tokio::task::yield_now().await;
            }
            if !recipe.watched.replace(true) {
                let recipe = Rc::downgrade(&recipe);
                spawn_local(drop_unused(recipe));
            }
        });
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let tenants = self.tenants.borrow();
        let used = tenants.values().map(|tenant| Occupied {
            pid: tenant.environment.pid(),
            r#use: tenant.r#use,
            seconds: tenant.since.elapsed().as_secs(),
        });
        let spares = self.recipes.spares().into_iter().map(|pid| Occupied {
            pid,
            r#use: Use::Spare,
            seconds: 0,
        });
        let services = self.household.pid().map(|pid| Occupied {
            pid,
            r#use: Use::Services,
            seconds: 0,
        });
        Status {
            identity: self.identity.clone(),
            seconds: self.started.elapsed().as_secs(),
            clients: self.clients.get(),
            environments: used.chain(spares).chain(services).collect(),
            lent: self.lending.count(),
        }
    }
}

/// Drops the environments that waited for too long.
async fn drop_unused(recipe: Weak<Recipe>) {
    loop {
        let Some(used) = recipe.upgrade().map(|recipe| recipe.used.get()) else {
            return;
        };
        if used.elapsed() >= SPARE_TIME {
            break;
        }
        sleep_until(used + SPARE_TIME).await;
    }
    if let Some(recipe) = recipe.upgrade() {
        recipe.spares.borrow_mut().clear();
        recipe.watched.set(false);
    }
}

async fn accept(listener: &AsyncFd<OwnedFd>) -> io::Result<OwnedFd> {
    use rustix::net::{SocketFlags, accept_with};
    loop {
        let mut ready = listener.readable().await?;
        let accepted = ready.try_io(|listener| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            Ok(accept_with(listener.as_fd(), flags)?)
        });
        match accepted {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Ok(accepted) => return accepted,
            Err(_) => {}
        }
    }
}

/// A client that is counted as long as this lives.
pub struct Guest {
    /// Where it is.
    pub daemon: Rc<Daemon>,
}

impl Guest {
    fn new(daemon: &Rc<Daemon>) -> Self {
        daemon.clients.set(daemon.clients.get() + 1);
        daemon.changed.notify_one();
        Self {
            daemon: daemon.clone(),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let clients = &self.daemon.clients;
        clients.set(clients.get() - 1);
        self.daemon.changed.notify_one();
    }
}

/// The use of an environment, which ends with this.
pub struct Tenancy {
    daemon: Weak<Daemon>,
    id: u64,
}

impl Tenancy {
    /// What names it to the client.
    pub fn handle(&self) -> u64 {
        self.id
    }

    /// Something with the environment; `None` if it was ended meanwhile.
    pub fn with<T>(&self, of: impl FnOnce(&dyn Environment) -> T) -> Option<T> {
        let daemon = self.daemon.upgrade()?;
        let tenants = daemon.tenants.borrow();
        tenants.get(&self.id).map(|tenant| of(&*tenant.environment))
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.upgrade() {
            let tenant = daemon.tenants.borrow_mut().remove(&self.id);
            drop(tenant);
        }
    }
}

#[cfg(test)]
mod tests;
