//! One command in a lent environment: started by PID 1, its outputs read by us, its end told on a connection of its own.

use std::{
    ffi::OsString,
    io,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use envd_agents::{
    secret::{Keyring, Scrubber, Secret},
    service::{
        CommandId, EnvironmentId, Event, Failure, Listener, Owner, ResourceUri, Stream,
        command::{CommandSetup, Signal, State, Status, TerminalSize},
    },
};
use envd_init::protocol::{Order, Report};
use envd_shims::{LaunchError, Said, cgroup::Group, connection, plan};
use rustix::{io::Errno, net::SendFlags};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixDatagram, unix::pipe::Sender},
    sync::{oneshot, watch},
};

use super::{
    Shared,
    ends::{Ends, Pipes},
    failure,
    live::{Lent, Live},
    quota::Meter,
    secrets::Named,
    spool::Spool,
    terminal::{Inlet, Outlet, Terminal},
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
    input: Arc<tokio::sync::Mutex<Option<Inlet>>>,
    /// Its terminal, if it has one, until it ends.
    terminal: Mutex<Option<Terminal>>,
    /// Secrets, whose values are not kept and not passed on.
    keyring: Arc<Keyring>,
    status: watch::Sender<Status>,
    /// Changes whenever there is more output or the end.
    news: watch::Sender<()>,
    killers: Killers,
}

/// Who may kill it for what it takes of the machine.
#[derive(Debug)]
struct Killers {
    meter: Arc<Meter>,
    group: Weak<Group>,
    /// How often the kernel had killed somebody for want of memory.
    before: u64,
}

impl Killers {
    /// The status of what has ended, told by its cause where that is a limit.
    fn told(&self, status: Status, began: Instant) -> Status {
        // A shell tells by 128 and the number of the signal what its child has died of.
        let is_killed =
            status.signal.as_deref() == Some("SIGKILL") || status.exit_code == Some(137);
        if !is_killed {
            return status;
        }
        let is_out_of_memory = || {
            let group = self.group.upgrade();
            group.is_some_and(|group| group.killed_for_memory() > self.before)
        };
        match self.meter.verdict(began) {
            Some(state) => Status {
                state,
                ..Status::RUNNING
            },
            None if is_out_of_memory() => Status {
                state: State::OutOfMemory,
                ..Status::RUNNING
            },
            None => status,
        }
    }
}

/// What is to be done with a command beyond its setup.
#[derive(Default)]
pub(super) struct Manner {
    pub(super) keep_stdin_open: bool,
    pub(super) terminal: Option<TerminalSize>,
    pub(super) listener: Option<Arc<dyn Listener>>,
    pub(super) pipes: Option<Pipes>,
}

impl Running {
    /// Starts a command. Answers when its program runs.
    pub(super) async fn start(
        shared: &Shared,
        (lent, live): (&Lent, &Live),
        setup: &CommandSetup,
        secrets: &[Named],
        manner: Manner,
    ) -> Result<Arc<Self>, Failure> {
        let words = setup.command.arguments();
        let mut command = command(live, setup, &words)?;
        let given = secrets.iter();
        let given = given.map(|(name, value)| (name.clone(), value.variable()));
        command.environment.extend(given);
        let spool = || Spool::new(shared.fresh("output"));
        let (ours, theirs) = connection().map_err(|error| internal(&error))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|error| internal(&error))?;
        live.meter.wake();
        let mut ends = Ends::default();
        let standard = match (manner.terminal, manner.pipes) {
            (Some(size), _) => {
                if !setup.env.contains_key("TERM") {
                    let kind = "xterm-256color".into();
                    command.environment.insert("TERM".to_owned(), kind);
                }
                command.terminal = true;
                ends.terminal(live, size)
            }
            (None, Some(pipes)) => ends.piped(live, pipes),
            (None, None) => ends.pipes(live, setup.stdin.is_some() || manner.keep_stdin_open),
        };
        let standard = standard.map_err(|error| match error.kind() {
            // Its devices are always there; the mounts go with the last process inside.
            io::ErrorKind::NotFound => Failure::no_such_environment(&setup.environment),
            _ => internal(&error),
        })?;
        let [stdin_end, stdout_end, stderr_end] = &standard;
        let given = [stdin_end.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()];
        let executed = live
            .body
            .resident()
            .ok_or_else(|| Failure::no_such_environment(&setup.environment))
            .and_then(|resident| {
                let executed =
                    resident.execute_tree(&command, &live.rlimits, given, theirs.as_fd());
                executed.map_err(|error| internal(&error))
            });
        for (name, _) in secrets {
            if let Some(value) = command.environment.remove(name) {
                Secret::forget(value);
            }
        }
        executed?;
        drop((standard, theirs));
        let running = Arc::new(Self {
            id: CommandId::random(),
            owner: lent.owner.clone(),
            environment: setup.environment.clone(),
            title: words.join(" "),
            began: Instant::now(),
            connection: UnixDatagram::from_std(ours.into()).map_err(|error| internal(&error))?,
            stdout: spool(),
            stderr: spool(),
            input: Arc::default(),
            terminal: Mutex::new(ends.terminal),
            keyring: shared.keyring.clone(),
            status: watch::Sender::new(Status::RUNNING),
            news: watch::Sender::new(()),
            killers: Killers {
                meter: live.meter.clone(),
                group: live.group.as_ref().map(Arc::downgrade).unwrap_or_default(),
                before: live
                    .group
                    .as_ref()
                    .map_or(0, |group| group.killed_for_memory()),
            },
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
        running
            .feed(ends.input, setup.stdin.clone(), manner.keep_stdin_open)
            .await;
        let reading = |(outlet, stream, copy)| {
            let (drain, ended) = oneshot::channel();
            let (drained, done) = oneshot::channel();
            let hearing = Hearing {
                listener: manner.listener.clone(),
                copy,
            };
            let reader = running
                .clone()
                .read(outlet, stream, hearing, ended, drained);
            tokio::spawn(reader);
            (drain, done)
        };
        let readers = ends.outlets.into_iter().map(reading).collect();
        let limit = setup.timeout_seconds.map(Duration::from_secs);
        tokio::spawn(running.clone().watch(command, limit, readers));
        Ok(running)
    }

    /// The next thing that PID 1 says of it.
    async fn said(&self, command: &plan::Command) -> Said {
        let mut packet = [0; 64];
        loop {
            match self.connection.recv(&mut packet).await {
                // It is told once, before what was said last, where an order has come too late to be read.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                received => return Said::of(&packet[..received.unwrap_or(0)], command),
            }
        }
    }

    /// Waits for its end.
    async fn watch(
        self: Arc<Self>,
        command: plan::Command,
        limit: Option<Duration>,
        readers: Vec<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
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
            status = &mut ended => self.killers.told(status, self.began),
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
        // And hangs up for whom it has left behind.
        self.terminal().take();
        self.status.send_replace(status);
        self.news.send_replace(());
    }

    /// Keeps what comes out of a pipe until all ends of it are closed.
    async fn read(
        self: Arc<Self>,
        mut outlet: Outlet,
        stream: Stream,
        mut hearing: Hearing,
        ended: oneshot::Receiver<()>,
        drained: oneshot::Sender<()>,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        let mut ending = Some((ended, drained));
        let mut scrubber = Scrubber::naming();
        loop {
            let has_ended = async {
                match &mut ending {
                    // A sender that is gone says the same.
                    Some((ended, _)) => drop(ended.await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = outlet.read(&mut buffer) => match read {
                    // With its pipe the command learns that its reader is gone.
                    Ok(count @ 1..) => {
                        let clean = scrubber.clean(&self.keyring.patterns(), &buffer[..count]);
                        if !self.heard(stream, &clean, &mut hearing).await {
                            return;
                        }
                    }
                    Ok(0) | Err(_) => {
                        let rest = scrubber.rest(&self.keyring.patterns());
                        self.heard(stream, &rest, &mut hearing).await;
                        return;
                    }
                },
                () = has_ended => {
                    let mut left = 0;
                    while left < MOST_LEFT {
                        match rustix::io::read(&outlet, &mut buffer[..]) {
                            Ok(count @ 1..) => {
                                left += count;
                                let clean =
                                    scrubber.clean(&self.keyring.patterns(), &buffer[..count]);
                                if !self.heard(stream, &clean, &mut hearing).await {
                                    return;
                                }
                            }
                            Err(Errno::INTR) => {}
                            Ok(0) | Err(_) => break,
                        }
                    }
                    let rest = scrubber.rest(&self.keyring.patterns());
                    self.heard(stream, &rest, &mut hearing).await;
                    // Whoever waits for the command has heard all of it.
                    hearing = Hearing::default();
                    if let Some((_, drained)) = ending.take() {
                        let _ = drained.send(());
                    }
                    if !outlet.outlasts() {
                        return;
                    }
                }
            }
        }
    }

    /// Keeps what was written, and passes it on. Whether somebody wants more.
    async fn heard(&self, stream: Stream, bytes: &[u8], hearing: &mut Hearing) -> bool {
        if bytes.is_empty() {
            return true;
        }
        self.spool(stream).push(bytes);
        if let Some(listener) = &hearing.listener {
            listener.hear(Event::Output { stream, bytes });
        }
        self.news.send_replace(());
        match &mut hearing.copy {
            Some(copy) => copy.write_all(bytes).await.is_ok(),
            None => true,
        }
    }

    fn terminal(&self) -> MutexGuard<'_, Option<Terminal>> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives its terminal another size. Whether it has one.
    pub(super) fn resize(&self, size: TerminalSize) -> io::Result<bool> {
        match &*self.terminal() {
            Some(terminal) => terminal.resize(size).map(|()| true),
            None => Ok(false),
        }
    }

    /// Writes to its standard input beside everything else: it may never read it.
    async fn feed(&self, input: Option<Inlet>, text: Option<String>, keep: bool) {
        let Some(mut input) = input else { return };
        if text.is_none() && keep {
            *self.input.lock().await = Some(input);
            return;
        }
        // Whoever writes more waits for this to be done.
        let mut place = self.input.clone().lock_owned().await;
        tokio::spawn(async move {
            let written = input.write(text.unwrap_or_default().as_bytes()).await;
            match (keep, written) {
                (true, Ok(())) => *place = Some(input),
                _ => input.close().await,
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
        let inlet = input.as_mut()?;
        match inlet.write(text.as_bytes()).await {
            Ok(()) => Some(text.len() as u64),
            Err(_) => None,
        }
    }

    /// Closes its standard input.
    pub(super) async fn close_input(&self) {
        let input = self.input.lock().await.take();
        if let Some(input) = input {
            input.close().await;
        }
    }
}

/// Who hears what a command writes, while somebody waits for it.
#[derive(Default)]
struct Hearing {
    listener: Option<Arc<dyn Listener>>,
    copy: Option<Sender>,
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
