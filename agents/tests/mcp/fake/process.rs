//! Commands of the host that play commands of an environment.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use envd_agents::service::{
    Call, CommandId, EnvironmentId, Event, Failure, Owner, ResourceUri, Stream,
    command::{CommandSetup, Signal, State, Status, Stretch},
    excerpt::{Collector, Excerpt},
};
use rustix::process::{Pid, Signal as Number, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, Command},
    sync::watch,
};

/// A command with all that it wrote.
pub struct Process {
    pub owner: Owner,
    pub environment: EnvironmentId,
    pub id: CommandId,
    pub title: String,
    pub began: Instant,
    group: Pid,
    outputs: Mutex<[Vec<u8>; 2]>,
    input: tokio::sync::Mutex<Option<ChildStdin>>,
    status: watch::Sender<Status>,
    /// Changes whenever there is more output or the end.
    news: watch::Sender<u64>,
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Process {
    /// Starts a command in a directory.
    pub async fn start(
        call: &Call,
        setup: &CommandSetup,
        directory: &std::path::Path,
        keep_stdin_open: bool,
    ) -> Result<Arc<Self>, Failure> {
        let arguments = setup.command.arguments();
        let Some((program, rest)) = arguments.split_first() else {
            return Err(Failure::Invalid {
                field: "command".to_owned(),
                problem: "the list is empty".to_owned(),
                expected: "a program and its arguments".to_owned(),
            });
        };
        let mut child = Command::new(program)
            .args(rest)
            .envs(&setup.env)
            .current_dir(directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| Failure::CommandNotFound {
                program: program.clone(),
                packages: Vec::new(),
            })?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .expect("it has just been started");
        let mut input = child.stdin.take();
        if let (Some(pipe), Some(text)) = (&mut input, &setup.stdin) {
            let _ = pipe.write_all(text.as_bytes()).await;
        }
        let process = Arc::new(Self {
            owner: call.owner.clone(),
            environment: setup.environment.clone(),
            id: CommandId::random(),
            title: arguments.join(" "),
            began: Instant::now(),
            group,
            outputs: Mutex::default(),
            input: tokio::sync::Mutex::new(input.filter(|_| keep_stdin_open)),
            status: watch::Sender::new(Status::RUNNING),
            news: watch::Sender::new(0),
        });
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let listener = call.listener.clone();
        let (running, timeout) = (process.clone(), setup.timeout_seconds);
        tokio::spawn(async move {
            let hear = |stream, bytes: &[u8]| {
                running.outputs()[index(stream)].extend_from_slice(bytes);
                listener.hear(Event::Output { stream, bytes });
                running.news.send_modify(|news| *news += 1);
            };
            let reading = async {
                tokio::join!(
                    drain(stdout, |bytes| hear(Stream::Stdout, bytes)),
                    drain(stderr, |bytes| hear(Stream::Stderr, bytes)),
                )
            };
            let limit = async {
                match timeout {
                    Some(seconds) => {
                        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let ended = async { (reading.await, child.wait().await).1 };
            let mut ended = std::pin::pin!(ended);
            let status = tokio::select! {
                status = &mut ended => as_status(status.ok()),
                () = limit => {
                    running.kill();
                    let _ = ended.await;
                    Status { state: State::TimedOut, ..Status::RUNNING }
                }
            };
            running.status.send_replace(status);
            running.news.send_modify(|news| *news += 1);
        });
        Ok(process)
    }

    fn outputs(&self) -> MutexGuard<'_, [Vec<u8>; 2]> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Status {
        let mut status = self.status.subscribe();
        let ended = status
            .wait_for(|status| *status != Status::RUNNING)
            .await
            .expect("the sender is in self");
        ended.clone()
    }

    /// Waits until there is output behind the offsets, or the end.
    pub async fn news_behind(&self, stdout: u64, stderr: u64) {
        let mut news = self.news.subscribe();
        loop {
            let behind = {
                let outputs = self.outputs();
                outputs[0].len() as u64 > stdout || outputs[1].len() as u64 > stderr
            };
            if behind || self.status() != Status::RUNNING || news.changed().await.is_err() {
                return;
            }
        }
    }

    pub fn excerpt(&self, stream: Stream, limit: u64) -> Excerpt {
        let mut collector = Collector::new(usize::try_from(limit).unwrap_or(usize::MAX));
        collector.push(&self.outputs()[index(stream)]);
        collector.finish(Some(self.resource(stream)))
    }

    pub fn resource(&self, stream: Stream) -> ResourceUri {
        ResourceUri::Output {
            command: self.id.clone(),
            stream,
        }
    }

    pub fn output(&self, stream: Stream) -> Vec<u8> {
        self.outputs()[index(stream)].clone()
    }

    pub fn stretch(&self, stream: Stream, offset: u64, limit: u64) -> Stretch {
        let output = &self.outputs()[index(stream)];
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(output.len());
        let to = output
            .len()
            .min(from.saturating_add(usize::try_from(limit).unwrap_or(usize::MAX)));
        Stretch {
            text: String::from_utf8_lossy(&output[from..to]).into_owned(),
            offset: from as u64,
            next_offset: to as u64,
            total_bytes: output.len() as u64,
        }
    }

    pub async fn write(&self, text: &str) -> u64 {
        let mut input = self.input.lock().await;
        let Some(input) = &mut *input else { return 0 };
        match input.write_all(text.as_bytes()).await {
            Ok(()) => text.len() as u64,
            Err(_) => 0,
        }
    }

    pub async fn close_input(&self) {
        self.input.lock().await.take();
    }

    pub fn signal(&self, signal: Signal) {
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
        if self.status() == Status::RUNNING {
            let _ = kill_process_group(self.group, number);
        }
    }

    pub fn kill(&self) {
        self.signal(Signal::Kill);
    }
}

/// Kills the command when the call that waits for it is dropped.
pub struct KilledWithCall(pub Arc<Process>);

impl Drop for KilledWithCall {
    fn drop(&mut self) {
        self.0.kill();
    }
}

async fn drain(pipe: Option<impl AsyncRead + Unpin>, mut hear: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        hear(&buffer[..count]);
    }
}

fn as_status(status: Option<ExitStatus>) -> Status {
    use std::os::unix::process::ExitStatusExt;
    let Some(status) = status else {
        return Status::signalled("SIGKILL");
    };
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::exited(code),
        (None, Some(15)) => Status::signalled("SIGTERM"),
        (None, Some(9)) => Status::signalled("SIGKILL"),
        (None, signal) => Status::signalled(format!("{signal:?}")),
    }
}
