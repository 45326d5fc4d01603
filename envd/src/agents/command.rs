//! One command in a lent environment: started by PID 1, its outputs read by us, its end told on a connection of its own.

use std::{
    ffi::OsString,
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use envd_agents::service::{
    CommandId, EnvironmentId, Event, Failure, Listener, Owner, ResourceUri, Stream,
    command::{CommandSetup, Signal, State, Status},
};
use envd_init::protocol::{Order, Report};
use envd_shims::{LaunchError, Said, connection, plan};
use rustix::{
    io::Errno,
    net::SendFlags,
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixDatagram,
        unix::pipe::{Receiver, Sender},
    },
    sync::{oneshot, watch},
};

use super::{
    Shared, failure,
    inside::Inside,
    live::{Lent, Live},
    spool::Spool,
};

/// How much a process that goes on writing may still add to what its parent wrote before it ended.
const MOST_LEFT: usize = 1 << 20;

/// A command with all that it wrote.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: CommandId,
    pub(super) owner: Owner,
    pub(super) environment: EnvironmentId,
    pub(super) title: String,
    pub(super) began: Instant,
    /// A socket of packets in order (SOCK_SEQPACKET), which is read as one of datagrams.
    connection: UnixDatagram,
    pub(super) stdout: Spool,
    pub(super) stderr: Spool,
    input: Arc<tokio::sync::Mutex<Option<Sender>>>,
    status: watch::Sender<Status>,
    /// Changes whenever there is more output or the end.
    news: watch::Sender<()>,
}

/// What is to be done with a command beyond its setup.
pub(super) struct Manner {
    pub(super) keep_stdin_open: bool,
    pub(super) listener: Option<Arc<dyn Listener>>,
}

impl Running {
    /// Starts a command. Answers when its program runs.
    pub(super) async fn start(
        shared: &Shared,
        (lent, live): (&Lent, &Live),
        setup: &CommandSetup,
        manner: Manner,
    ) -> Result<Arc<Self>, Failure> {
        let words = setup.command.arguments();
        let command = command(live, setup, &words)?;
        let spool = || {
            Spool::make(&shared.fresh("output"))
                .map_err(|error| failure::internal("making a file for the output", &error))
        };
        let (ours, theirs) = connection().map_err(|error| internal(&error))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|error| internal(&error))?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| internal(&error));
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let fed = setup.stdin.is_some() || manner.keep_stdin_open;
        let (input, stdin_end) = if fed {
            let (read, write) = pipe()?;
            let sender = Sender::from_owned_fd(write).map_err(|error| internal(&error))?;
            (Some(sender), read)
        } else {
            let null = Inside::new(&live.root).null();
            // It is always there; the mounts go with the last process inside.
            let gone = |_| Failure::no_such_environment(&setup.environment);
            (None, null.map_err(gone)?)
        };
        let standard = [stdin_end.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()];
        let limits = &live.parts.ground.blueprint.plan().limits;
        live.body
            .resident()
            .ok_or_else(|| Failure::no_such_environment(&setup.environment))?
            .execute(&command, limits, standard, theirs.as_fd(), &[])
            .map_err(|error| internal(&error))?;
        drop((stdin_end, stdout_end, stderr_end, theirs));
        let running = Arc::new(Self {
            id: CommandId::random(),
            owner: lent.owner.clone(),
            environment: setup.environment.clone(),
            title: words.join(" "),
            began: Instant::now(),
            connection: UnixDatagram::from_std(ours.into()).map_err(|error| internal(&error))?,
            stdout: spool()?,
            stderr: spool()?,
            input: Arc::default(),
            status: watch::Sender::new(Status::RUNNING),
            news: watch::Sender::new(()),
        });
        // Somebody inside can stop a child of PID 1 before it is the command, and PID 1 with it.
        let said = tokio::select! {
            said = running.said(&command) => said,
            () = lent.ending.cancelled() => Said::Gone,
        };
        match said {
            Said::Report(Report::Started(_)) => {}
            Said::Failed(error) => return Err(refused(&words, &error)),
            Said::Report(_) | Said::Gone => {
                return Err(Failure::no_such_environment(&setup.environment));
            }
        }
        let receiver = |pipe| Receiver::from_owned_fd(pipe).map_err(|error| internal(&error));
        let (stdout, stderr) = (receiver(stdout)?, receiver(stderr)?);
        running
            .feed(input, setup.stdin.clone(), manner.keep_stdin_open)
            .await;
        let reading = |pipe, stream| {
            let (drain, ended) = oneshot::channel();
            let (drained, done) = oneshot::channel();
            let reader =
                running
                    .clone()
                    .read(pipe, stream, manner.listener.clone(), ended, drained);
            tokio::spawn(reader);
            (drain, done)
        };
        let readers = [
            reading(stdout, Stream::Stdout),
            reading(stderr, Stream::Stderr),
        ];
        let limit = setup.timeout_seconds.map(Duration::from_secs);
        tokio::spawn(running.clone().watch(command, limit, readers));
        Ok(running)
    }

    /// The next thing that PID 1 says of it.
    async fn said(&self, command: &plan::Command) -> Said {
        let mut packet = [0; 64];
        let received = self.connection.recv(&mut packet).await;
        Said::of(&packet[..received.unwrap_or(0)], command)
    }

    /// Waits for its end.
    async fn watch(
        self: Arc<Self>,
        command: plan::Command,
        limit: Option<Duration>,
        readers: [(oneshot::Sender<()>, oneshot::Receiver<()>); 2],
    ) {
        let ended = async {
            loop {
                match self.said(&command).await {
                    Said::Report(Report::Ended(status)) => return ending(status),
                    Said::Report(_) => {}
                    Said::Failed(_) | Said::Gone => return Status::signalled("SIGKILL"),
                }
            }
        };
        let mut ended = std::pin::pin!(ended);
        let over = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let status = tokio::select! {
            status = &mut ended => status,
            () = over => {
                self.send(Signal::Kill);
                ended.await;
                Status { state: State::TimedOut, ..Status::RUNNING }
            }
        };
        for (drain, done) in readers {
            // What it wrote before its end is in the pipes by now. Others may hold them open for long.
            let _ = drain.send(());
            let _ = done.await;
        }
        // Where somebody still writes to it, it closes after that.
        if let Ok(mut input) = self.input.try_lock() {
            input.take();
        }
        self.status.send_replace(status);
        self.news.send_replace(());
    }

    /// Keeps what comes out of a pipe until all ends of it are closed.
    async fn read(
        self: Arc<Self>,
        mut pipe: Receiver,
        stream: Stream,
        listener: Option<Arc<dyn Listener>>,
        ended: oneshot::Receiver<()>,
        drained: oneshot::Sender<()>,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        let mut ending = Some((ended, drained));
        let hear = |bytes: &[u8]| {
            self.spool(stream).push(bytes);
            if let Some(listener) = &listener {
                listener.hear(Event::Output { stream, bytes });
            }
            self.news.send_replace(());
        };
        loop {
            let has_ended = async {
                match &mut ending {
                    // A sender that is gone says the same.
                    Some((ended, _)) => drop(ended.await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = pipe.read(&mut buffer) => match read {
                    Ok(count @ 1..) => hear(&buffer[..count]),
                    Ok(0) | Err(_) => return,
                },
                () = has_ended => {
                    let mut left = 0;
                    while left < MOST_LEFT {
                        match rustix::io::read(pipe.as_fd(), &mut buffer[..]) {
                            Ok(count @ 1..) => {
                                hear(&buffer[..count]);
                                left += count;
                            }
                            Err(Errno::INTR) => {}
                            Ok(0) | Err(_) => break,
                        }
                    }
                    if let Some((_, drained)) = ending.take() {
                        let _ = drained.send(());
                    }
                }
            }
        }
    }

    /// Writes to its standard input beside everything else: it may never read it.
    async fn feed(&self, input: Option<Sender>, text: Option<String>, keep: bool) {
        let Some(mut input) = input else { return };
        let Some(text) = text else {
            *self.input.lock().await = Some(input);
            return;
        };
        // Whoever writes more waits for this to be done.
        let mut place = self.input.clone().lock_owned().await;
        tokio::spawn(async move {
            let written = input.write_all(text.as_bytes()).await;
            if keep && written.is_ok() {
                *place = Some(input);
            }
        });
    }

    /// Which output.
    pub(super) fn spool(&self, stream: Stream) -> &Spool {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// The address of an output.
    pub(super) fn resource(&self, stream: Stream) -> ResourceUri {
        ResourceUri::Output {
            command: self.id.clone(),
            stream,
        }
    }

    /// How it stands.
    pub(super) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Whether it has not ended.
    pub(super) fn is_running(&self) -> bool {
        self.status().state == State::Running
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> Status {
        let mut status = self.status.subscribe();
        match status
            .wait_for(|status| status.state != State::Running)
            .await
        {
            Ok(status) => status.clone(),
            // The sender is in `self`.
            Err(_) => self.status(),
        }
    }

    /// Waits until there is output behind the offsets, or the end.
    pub(super) async fn news_behind(&self, stdout: u64, stderr: u64) {
        let mut news = self.news.subscribe();
        loop {
            let behind = self.stdout.total() > stdout || self.stderr.total() > stderr;
            if behind || !self.is_running() || news.changed().await.is_err() {
                return;
            }
        }
    }

    /// Signals its process group.
    pub(super) fn send(&self, signal: Signal) {
        use rustix::process::Signal as Number;
        let number = match signal {
            Signal::Hup => Number::HUP,
            Signal::Int => Number::INT,
            Signal::Quit => Number::QUIT,
            Signal::Kill => Number::KILL,
            Signal::Usr1 => Number::USR1,
            Signal::Usr2 => Number::USR2,
            Signal::Term => Number::TERM,
            Signal::Stop => Number::STOP,
            Signal::Cont => Number::CONT,
        };
        let order = Order::Signal(number.as_raw()).encode();
        // One that is gone needs no signal.
        let _ = rustix::net::send(&self.connection, &order, SendFlags::NOSIGNAL);
    }

    /// Writes to its standard input. How much was taken.
    pub(super) async fn write(&self, text: &str) -> Option<u64> {
        let mut input = self.input.lock().await;
        let pipe = input.as_mut()?;
        match pipe.write_all(text.as_bytes()).await {
            Ok(()) => Some(text.len() as u64),
            Err(_) => None,
        }
    }

    /// Closes its standard input.
    pub(super) async fn close_input(&self) {
        self.input.lock().await.take();
    }
}

/// Kills the command when the call that waits for it is dropped.
pub(super) struct KilledWithCall(pub(super) Arc<Running>);

impl Drop for KilledWithCall {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.send(Signal::Kill);
        }
    }
}

/// As PID 1 is to execute it.
fn command(live: &Live, setup: &CommandSetup, words: &[String]) -> Result<plan::Command, Failure> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::Invalid {
            field: "command".to_owned(),
            problem: "the list is empty".to_owned(),
            expected: "a program and its arguments".to_owned(),
        });
    };
    if !setup.secrets.is_empty() {
        return Err(failure::not_yet(
            "keep secrets",
            "Leave `secrets` out; tell the user if the command needs one.",
        ));
    }
    let common = &live.parts.ground.blueprint.plan().command;
    let mut environment = common.environment.clone();
    let own = setup.env.iter();
    environment.extend(own.map(|(name, value)| (name.clone(), OsString::from(value))));
    Ok(plan::Command {
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
        environment,
        directory: match &setup.cwd {
            Some(directory) => common.directory.join(directory),
            None => common.directory.clone(),
        },
        umask: None,
        new_session: true,
        terminal: false,
    })
}

fn internal(error: &dyn std::error::Error) -> Failure {
    failure::internal("starting the command", error)
}

/// What PID 1 says of a command that it could not start.
fn refused(words: &[String], error: &LaunchError) -> Failure {
    let program = words.first().cloned().unwrap_or_default();
    match error.exec_code() {
        Some(127) => Failure::CommandNotFound {
            program,
            packages: Vec::new(),
        },
        _ => {
            let told = crate::cli::Failure::of(crate::cli::Kind::Other, error);
            let causes = told.causes.iter().map(|cause| format!(": {cause}"));
            Failure::Invalid {
                field: "command".to_owned(),
                problem: std::iter::once(told.message.clone())
                    .chain(causes)
                    .collect(),
                expected: "a program and a directory that are there and can be used".to_owned(),
            }
        }
    }
}

/// From a status as waitpid(2) gives it.
fn ending(status: i32) -> Status {
    match status & 0x7f {
        0 => Status::exited(status >> 8 & 0xff),
        signal => Status::signalled(signal_name(signal)),
    }
}

fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let place = usize::try_from(number - 1).ok();
    match place.and_then(|place| NAMES.get(place)) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_as_a_shell_would_see_it() {
        assert_eq!(ending(3 << 8), Status::exited(3));
        assert_eq!(ending(9), Status::signalled("SIGKILL"));
        assert_eq!(ending(11 | 0x80), Status::signalled("SIGSEGV"));
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(40), "signal 40");
    }
}
