//! One life of a service: its process, its output and its ways to say that it is ready.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use envd_supervision::{Event, ExitStatus, Readiness, Run};
use tokio::{io::AsyncReadExt as _, net::unix::pipe, sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    Executor, Launch, Spec,
    driver::Happening,
    executor::Started,
    log::{self, Log},
    notification::Notification,
};

/// How long the end of a service waits to be told for its last words, which a process that outlives it may keep from ending.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long the end of a readiness descriptor waits for the end of the whole process, which closes its descriptors, too.
const LAST_BREATH: Duration = Duration::from_millis(100);
/// How long a command may take to find out whether a service is ready.
const PROBE_MAX: Duration = Duration::from_secs(10);

/// What a life needs.
pub(super) struct Life {
    pub run: Run,
    pub spec: Arc<Spec>,
    pub executor: Arc<dyn Executor>,
    pub log: Arc<Log>,
    /// Where its notification socket goes.
    pub socket: PathBuf,
    /// Its data, as `ENVD_STATE`.
    pub state: PathBuf,
    pub happenings: mpsc::Sender<Happening>,
}

impl Life {
    /// Starts the process, and tells all that happens to it until its end.
    pub async fn live(self) {
        let (output, input) = match io::pipe() {
            Ok((output, input)) => (OwnedFd::from(output), OwnedFd::from(input)),
            Err(error) => return self.start_failed(&error).await,
        };
        let (launch, watched) = match self.prepare(input) {
            Ok(prepared) => prepared,
            Err(error) => return self.start_failed(&error).await,
        };
        let started = match self.executor.start(launch).await {
            Ok(started) => started,
            Err(error) => return self.start_failed(&error).await,
        };
        let Started {
            pid,
            control,
            ended,
        } = started;
        let run = self.run.clone();
        self.tell(Happening::Started { run, pid, control }).await;
        let mut output = tokio::spawn(log::pump(output, self.log.clone()));
        let watching = watched.map(|watched| self.watch(watched));
        let status = ended.await;
        if let Some(watching) = watching {
            watching.abort();
        }
        let _ = timeout(LAST_WORDS, &mut output).await;
        let run = self.run.clone();
        self.tell(Happening::Event(Event::Exited { run, status }))
            .await;
    }

    /// What to start, and what to watch once it has been.
    fn prepare(&self, output: OwnedFd) -> io::Result<(Launch, Option<Watched>)> {
        let mut launch = Launch {
            arguments: self.spec.arguments.clone(),
            variables: self.spec.variables.clone(),
            directory: self.spec.directory.clone(),
            descriptors: vec![
                (0, nothing()?.into()),
                (1, output.try_clone()?),
                (2, output),
            ],
        };
        let mut set = |name: &str, value: OsString| {
            launch.variables.insert(name.into(), value);
        };
        set("ENVD_STATE", self.state.clone().into());
        let service = &self.spec.service;
        if let Some(every) = service.watchdog {
            set("WATCHDOG_USEC", every.as_micros().to_string().into());
        }
        let watched = match service.readiness {
            Readiness::Descriptor(number) => {
                let (reader, writer) = io::pipe()?;
                launch.descriptors.push((number, writer.into()));
                Some(Watched::Descriptor(reader.into()))
            }
            readiness if readiness == Readiness::Notify || service.watchdog.is_some() => {
                let notification = Notification::bind(self.socket.clone())?;
                set("NOTIFY_SOCKET", notification.path().into());
                Some(Watched::Socket(notification))
            }
            _ => None,
        };
        Ok((launch, watched))
    }

    fn watch(&self, watched: Watched) -> JoinHandle<()> {
        let (run, happenings) = (self.run.clone(), self.happenings.clone());
        tokio::spawn(async move {
            match watched {
                Watched::Descriptor(descriptor) => {
                    if wait_for_descriptor(descriptor).await.is_ok() {
                        let event = Event::Ready { run };
                        let _ = happenings.send(Happening::Event(event)).await;
                    }
                }
                Watched::Socket(notification) => {
                    while let Ok(notices) = notification.next().await {
                        let run = run.clone();
                        let event = Event::Notified { run, notices };
                        let _ = happenings.send(Happening::Event(event)).await;
                    }
                }
            }
        })
    }

    async fn start_failed(&self, error: &io::Error) {
        let (run, why) = (self.run.clone(), error.to_string());
        self.tell(Happening::Event(Event::StartFailed { run, why }))
            .await;
    }

    async fn tell(&self, happening: Happening) {
        // When nobody listens any more, everything is being ended anyway.
        let _ = self.happenings.send(happening).await;
    }
}

/// How a service shows that it is ready, where that has to be watched.
enum Watched {
    Descriptor(OwnedFd),
    Socket(Notification),
}

/// Waits until something is written to the other end, or it is closed by a process that lives on.
async fn wait_for_descriptor(descriptor: OwnedFd) -> io::Result<()> {
    let mut pipe = pipe::Receiver::from_owned_fd(descriptor)?;
    if pipe.read(&mut [0]).await? == 0 {
        tokio::time::sleep(LAST_BREATH).await;
    }
    Ok(())
}

/// Finds out once whether a service is ready.
pub(super) async fn probe(
    executor: Arc<dyn Executor>,
    spec: Arc<Spec>,
    state: PathBuf,
) -> Result<(), String> {
    match spec.service.readiness {
        Readiness::Tcp(port) => executor
            .connect(port)
            .await
            .map_err(|error| format!("port {port}: {error}")),
        Readiness::Command => run_probe(executor, &spec, state).await,
        _ => Ok(()),
    }
}

async fn run_probe(executor: Arc<dyn Executor>, spec: &Spec, state: PathBuf) -> Result<(), String> {
    let said = |error: io::Error| format!("its probe cannot be started: {error}");
    let mut variables = spec.variables.clone();
    variables.insert("ENVD_STATE".into(), state.into());
    let launch = Launch {
        arguments: spec.probe.clone(),
        variables,
        directory: spec.directory.clone(),
        descriptors: vec![
            (0, nothing().map_err(said)?.into()),
            (1, nothing().map_err(said)?.into()),
            (2, nothing().map_err(said)?.into()),
        ],
    };
    let mut started = executor.start(launch).await.map_err(said)?;
    match timeout(PROBE_MAX, &mut started.ended).await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("its probe: {status}")),
        Err(_) => {
            let _ = started.control.kill();
            let _: ExitStatus = started.ended.await;
            Err(format!(
                "its probe takes longer than {} s",
                PROBE_MAX.as_secs()
            ))
        }
    }
}

fn nothing() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}
