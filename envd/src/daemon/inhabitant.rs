//! Processes of services, in the environment that they share.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use envd_init::{
    protocol::{Order, Report},
    request::{Draft, GROUP, Limit, SESSION},
    sys::SignalSet,
};
use envd_shims::{LaunchError, Said, connection, plan::Command};
use envd_supervision::{ExitStatus, Signal};
use tokio::io::{Interest, unix::AsyncFd};

use super::{maker::Environment, packet, watched::watched};
use crate::services::{Boxed, Control, Executor, Launch, Started};

/// Processes of one user in an environment of services. The kernel counts them apart from those outside.
const PROCESSES: u64 = 4096;
/// `RLIMIT_NPROC`.
const PROCESSES_RESOURCE: u32 = 6;

/// Whether the services' environment has been seen to be gone. A command's connection that ends without a word is closed by the
/// kernel with PID 1's other descriptors, in no certain order: it may be the first that tells.
#[derive(Clone, Default)]
pub struct Life(Arc<AtomicBool>);

impl Life {
    /// Whether it has.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts services.
pub struct Processes {
    /// Where they run.
    pub environment: Arc<dyn Environment>,
    /// What is noticed of its end.
    pub life: Life,
    /// The variables of the environment.
    pub variables: BTreeMap<String, OsString>,
    /// The project.
    pub project: PathBuf,
}

impl Executor for Processes {
    fn start(&self, launch: Launch) -> Boxed<'_, io::Result<Started>> {
        let begun = self.begin(launch);
        Box::pin(async move {
            let (reins, command) = begun?;
            let pid = loop {
                match reins.next(&command).await? {
                    Said::Report(Report::Started(pid)) => break pid.unsigned_abs(),
                    Said::Report(_) => {}
                    Said::Failed(error) => return Err(io::Error::other(error)),
                    Said::Gone => {
                        self.life.end();
                        return Err(io::Error::other(LaunchError::Vanished));
                    }
                }
            };
            let ended = end(reins.clone(), command, self.life.clone());
            Ok(Started {
                pid,
                control: Box::new(reins),
                ended: Box::pin(ended),
            })
        })
    }
}

impl Processes {
    fn begin(&self, launch: Launch) -> io::Result<(Reins, Command)> {
        let mut environment = self.variables.clone();
        for (name, value) in launch.variables {
            let name = name
                .into_string()
                .map_err(|_| io::ErrorKind::InvalidInput)?;
            environment.insert(name, value);
        }
        let mut words = launch.arguments.into_iter();
        let command = Command {
            program: words.next().unwrap_or_default(),
            arguments: words.collect(),
            environment,
            directory: self.project.join(&launch.directory),
            umask: None,
            new_session: true,
            terminal: false,
        };
        let request = encode(&command)?;
        let descriptors = in_order(launch.descriptors)?;
        let [input, output, error, more @ ..] = &descriptors[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let standard = [input.as_fd(), output.as_fd(), error.as_fd()];
        let more: Vec<BorrowedFd<'_>> = more.iter().map(|more| more.as_fd()).collect();
        let (ours, theirs) = connection().map_err(io::Error::other)?;
        self.environment
            .execute(&request, standard, theirs.as_fd(), &more)
            .map_err(io::Error::other)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let connection = watched(ours, Interest::READABLE)?;
        Ok((Reins(Arc::new(connection)), command))
    }
}

/// The connection of a process. When nobody has it any more, the process is killed.
#[derive(Clone)]
struct Reins(Arc<AsyncFd<OwnedFd>>);

impl Reins {
    async fn next(&self, command: &Command) -> io::Result<Said> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|connection| {
                let mut packet = [0; 64];
                let flags = rustix::net::RecvFlags::empty();
                loop {
                    match rustix::net::recv(connection, &mut packet[..], flags) {
                        Ok((length, _)) => break Ok(Said::of(&packet[..length], command)),
                        // It is told once, before what was said last, where an order has come too late to be read.
                        Err(rustix::io::Errno::CONNRESET) => {}
                        Err(error) => break Err(error.into()),
                    }
                }
            });
            if let Ok(said) = read {
                return said;
            }
        }
    }

    fn order(&self, signal: i32) -> io::Result<()> {
        match packet::send(self.0.as_fd(), &Order::Signal(signal).encode(), &[]) {
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

impl Control for Reins {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.order(signal.number())
    }

    fn kill(&self) -> io::Result<()> {
        self.order(Signal::KILL.number())
    }
}

async fn end(reins: Reins, command: Command, life: Life) -> ExitStatus {
    loop {
        match reins.next(&command).await {
            Ok(Said::Report(Report::Ended(status))) => {
                return ExitStatus::from_wait(status).unwrap_or(KILLED);
            }
            Ok(Said::Report(_)) => {}
            // PID 1 is gone, and everything in its environment with it.
            _ => {
                life.end();
                return KILLED;
            }
        }
    }
}

/// As a process ends that is lost track of.
const KILLED: ExitStatus = ExitStatus::Signal(Signal::KILL);

fn encode(command: &Command) -> io::Result<Vec<u8>> {
    let string = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let program = string(command.program.as_bytes())?;
    let directory = string(command.directory.as_os_str().as_bytes())?;
    let arguments = std::iter::once(&command.program).chain(&command.arguments);
    let arguments: Vec<CString> = arguments
        .map(|argument| string(argument.as_bytes()))
        .collect::<io::Result<_>>()?;
    let environment: Vec<CString> = command
        .environment
        .iter()
        .map(|(name, value)| string(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<io::Result<_>>()?;
    let draft = Draft {
        flags: SESSION | GROUP,
        umask: command.umask,
        niceness: None,
        ignored: SignalSet(0),
        limits: std::iter::once(Limit::both(PROCESSES_RESOURCE, PROCESSES)),
        arguments: arguments.iter().map(CString::as_c_str),
        environment: environment.iter().map(CString::as_c_str),
    };
    let mut bytes = Vec::new();
    draft.write(&directory, &program, &mut |more: &[u8]| {
        bytes.extend_from_slice(more)
    });
    Ok(bytes)
}

/// The descriptors from 0 on. A number that is left out leads nowhere.
fn in_order(mut descriptors: Vec<(u32, OwnedFd)>) -> io::Result<Vec<OwnedFd>> {
    descriptors.sort_by_key(|(number, _)| *number);
    let mut ordered: Vec<OwnedFd> = Vec::new();
    for (number, descriptor) in descriptors {
        if number > 15 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a descriptor with the number {number}: 15 is the highest"),
            ));
        }
        while ordered.len() < number as usize {
            ordered.push(File::open("/dev/null")?.into());
        }
        ordered.push(descriptor);
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_the_numbers_that_were_asked_for() {
        let file = || OwnedFd::from(File::open("/dev/null").unwrap());
        let ordered = in_order(vec![(5, file()), (1, file()), (0, file()), (2, file())]).unwrap();
        assert_eq!(ordered.len(), 6);
        assert!(in_order(vec![(16, file())]).is_err());
    }
}
