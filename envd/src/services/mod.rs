//! The services of an environment: `[service.NAME]`, supervised.
//!
//! [`envd_supervision`] decides what is started and stopped, and when; this module does it, on tokio, by whatever [`Executor`] the
//! environment offers. Who runs an environment does this:
//!
//! ```text
//! let mut ports = Ports::new(project path);                 // lives as long as the daemon
//! let specs = Spec::of_manifest(&manifest, &mut ports)?;
//! let services = Services::new(specs, executor, directories)?;
//! services.up(&names).await?;                               // returns when all are ready, or says which cannot be, and why
//! services.status();                                        // now
//! services.reports();                                       // every change of state, as it happens
//! services.logs(&name)?.next().await;                       // line by line, for ever; LogReader reads what there is
//! services.down(&names, Duration::from_secs(20)).await?;    // who was slow
//! services.shutdown(Duration::from_secs(20)).await;         // nothing starts any more
//! ```
//!
//! What it asks of the executor: that a process it starts has exactly the descriptors that it is given, leads a process group, and that
//! what is left of this group is killed when the process has ended. [`Directories::state`] and [`Directories::sockets`] must be visible to
//! the processes at the same paths as here. When the last [`Services`] is dropped, all that still runs is killed.

mod driver;
mod executor;
mod life;
mod log;
mod notification;
mod ports;
mod spec;

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use envd_supervision::{Name, Report, Slow, State, Status, Supervisor, SupervisorError};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::Instant,
};

pub use executor::{Boxed, Control, Executor, Launch, Started};
pub use log::{FILE_MAX, LINE_MAX, Line, LogReader, Origin};
pub use ports::{Ports, PortsError};
pub use spec::Spec;

use driver::{Driver, Means, Wish};
use log::Log;

/// Reports that a listener may be behind with.
const REPORTS: usize = 256;

/// Where services keep things. Made if they are not there, for their owner only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directories {
    /// What the services keep, told to them as `ENVD_STATE`.
    pub state: PathBuf,
    /// Notification sockets. The path has to be short: with a service's name it must fit into 107 bytes.
    pub sockets: PathBuf,
    /// Their output.
    pub logs: PathBuf,
}

/// The services of an environment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    wishes: mpsc::Sender<Wish>,
    status: watch::Receiver<Vec<Status>>,
    reports: broadcast::Sender<Report>,
    logs: Arc<BTreeMap<Name, Arc<Log>>>,
    began: Instant,
}

/// Services that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// They do not go together.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// A directory cannot be made.
    #[error("cannot make {} for services", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is none of this name.
    #[error("there is no service `{0}`{1}")]
    Unknown(Name, String),
}

/// Services that did not come up.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// There is none of this name.
    #[error(transparent)]
    Unknown(#[from] ServicesError),
    /// These are down, and why: what is needed comes first. Never empty.
    #[error("{}", describe(.0))]
    Down(Vec<Report>),
    /// They were told to end meanwhile.
    #[error("the services are being ended")]
    Ending,
}

/// A service, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceStatus {
    /// Which.
    pub name: Name,
    /// Its state.
    pub state: State,
    /// For how long it has been in it.
    pub age: Duration,
    /// Why.
    pub reason: String,
    /// Its process, as the executor numbers it, while there is one.
    pub pid: Option<u32>,
    /// What it last said of itself.
    pub text: Option<String>,
    /// How often it was started again since somebody asked for it.
    pub restarts: u32,
}

/// A service's output as it comes.
#[derive(Debug)]
pub struct Following {
    reader: LogReader,
    grown: watch::Receiver<()>,
}

impl Services {
    /// Services that nobody wants yet. Must be called within a tokio runtime, which drives them.
    pub fn new(
        specs: Vec<Spec>,
        executor: Arc<dyn Executor>,
        directories: Directories,
    ) -> Result<Self, ServicesError> {
        let supervised = specs.iter().map(|spec| spec.service.clone());
        let supervisor = Supervisor::new(supervised.collect())?;
        for path in [&directories.state, &directories.sockets, &directories.logs] {
            make_directory(path).map_err(|source| ServicesError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let specs: BTreeMap<Name, Arc<Spec>> = specs
            .into_iter()
            .map(|spec| (spec.service.name.clone(), Arc::new(spec)))
            .collect();
        let logs: BTreeMap<Name, Arc<Log>> = specs
            .keys()
            .map(|name| (name.clone(), Arc::new(Log::new(&directories.logs, name))))
            .collect();
        let began = Instant::now();
        let (wishes, receiver) = mpsc::channel(16);
        let (status, watched) = watch::channel(supervisor.status());
        let (reports, _) = broadcast::channel(REPORTS);
        let logs = Arc::new(logs);
        let means = Means {
            specs,
            executor,
            directories,
            logs: logs.clone(),
        };
        let driver = Driver::new(supervisor, means, began, status, reports.clone());
        tokio::spawn(driver.drive(receiver));
        Ok(Self {
            wishes,
            status: watched,
            reports,
            logs,
            began,
        })
    }

    /// Starts these services and all that they need, and returns when all of them are up, or one of them cannot be. All services, when
    /// none is named. Those that are on their way stay so when the future is dropped.
    pub async fn up(&self, names: &[Name]) -> Result<(), UpError> {
        let names = self.these_or_all(names)?;
        let (reply, answer) = oneshot::channel();
        if self.wishes.send(Wish::Up(names, reply)).await.is_err() {
            return Err(UpError::Ending);
        }
        answer.await.unwrap_or(Err(UpError::Ending))
    }

    /// Stops these services and all that need them, and returns who was slow when all have ended, or `within` is over. All services,
    /// when none is named.
    pub async fn down(&self, names: &[Name], within: Duration) -> Result<Vec<Slow>, ServicesError> {
        let names = self.these_or_all(names)?;
        let (reply, answer) = oneshot::channel();
        // Where there is no driver, there are no services.
        let _ = self.wishes.send(Wish::Down(names, within, reply)).await;
        Ok(answer.await.unwrap_or_default())
    }

    /// Stops all services for good, and returns who was slow when all have ended, or `within` is over.
    pub async fn shutdown(&self, within: Duration) -> Vec<Slow> {
        let (reply, answer) = oneshot::channel();
        let _ = self.wishes.send(Wish::Shutdown(within, reply)).await;
        answer.await.unwrap_or_default()
    }

    /// How all services are, in the order in which they start.
    pub fn status(&self) -> Vec<ServiceStatus> {
        let now = self.began.elapsed();
        let status = self.status.borrow();
        let shown = status.iter().map(|status| ServiceStatus {
            name: status.service.clone(),
            state: status.state,
            age: now.saturating_sub(status.since),
            reason: status.reason.clone(),
            pid: status.pid,
            text: status.text.clone(),
            restarts: status.restarts,
        });
        shown.collect()
    }

    /// Every change of state from now on.
    pub fn reports(&self) -> broadcast::Receiver<Report> {
        self.reports.subscribe()
    }

    /// A service's output, from the oldest line that is kept, and on as it comes.
    pub fn logs(&self, name: &Name) -> Result<Following, ServicesError> {
        let log = self.logs.get(name).ok_or_else(|| self.unknown(name))?;
        let (reader, grown) = log.reader();
        Ok(Following { reader, grown })
    }

    fn these_or_all(&self, names: &[Name]) -> Result<Vec<Name>, ServicesError> {
        if names.is_empty() {
            return Ok(self.logs.keys().cloned().collect());
        }
        match names.iter().find(|name| !self.logs.contains_key(*name)) {
            Some(name) => Err(self.unknown(name)),
            None => Ok(names.to_vec()),
        }
    }

    fn unknown(&self, name: &Name) -> ServicesError {
        let known: Vec<&str> = self.logs.keys().map(Name::as_str).collect();
        let help = match crate::config::nearest(name.as_str(), &known) {
            Some(near) => format!("; did you mean `{near}`?"),
            None if known.is_empty() => "; envd.toml has no [service.NAME]".to_owned(),
            None => format!("; there are {}", known.join(", ")),
        };
        ServicesError::Unknown(name.clone(), help)
    }
}

impl Following {
    /// The next line; waits for it. `None` when the services are no more.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            // Seen before looking, so that what comes after the look is not missed.
            self.grown.borrow_and_update();
            if let Some(line) = self.reader.next_line()? {
                return Ok(Some(line));
            }
            if self.grown.changed().await.is_err() {
                return self.reader.next_line();
            }
        }
    }

    /// All but the last `count` of the lines that there are now are passed over; these are returned.
    pub fn skip_to_last(&mut self, count: usize) -> io::Result<Vec<Line>> {
        self.reader.skip_to_last(count)
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn describe(reports: &[Report]) -> String {
    let each = reports
        .iter()
        .map(|report| format!("{} {}: {}", report.service, report.state, report.reason));
    each.collect::<Vec<_>>().join("; ")
}
