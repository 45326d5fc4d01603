//! The launching process's side of an environment made for one command.

use std::os::{
    fd::{AsRawFd, OwnedFd},
    unix::fs::MetadataExt,
};

use envd_init::{
    launch::{First, Launched},
    program,
    protocol::Failure,
    request::Request,
    sys::SignalSet,
};
use nix::sys::signal::{SigSet, Signal};
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType},
    process::Pid,
};

use crate::{
    compile::{Program, compile},
    error::LaunchError,
    failure,
    plan::{Command, Plan},
    request,
    running::Running,
    sys,
    terminal::Terminal,
};

/// Relayed to the command while it runs.
const RELAYED: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// Makes the environment and starts the command in it.
///
/// The calling process must have one thread. Until the [`Running`] is waited for or dropped, signals that end a process
/// by default are held back to be relayed. Dropping it ends the environment.
pub fn launch(plan: &Plan) -> Result<Running, LaunchError> {
    unrecorded(plan)?;
    launch_any(plan, true)
}

/// The same, but whether the command has started is only to be known from [`Running::wait`]: that saves a change of
/// processes while it starts.
pub(crate) fn launch_unheard(plan: &Plan) -> Result<Running, LaunchError> {
    unrecorded(plan)?;
    launch_any(plan, false)
}

fn unrecorded(plan: &Plan) -> Result<(), LaunchError> {
    if plan.privileges.record_ownership {
        let message = "a plan that records ownership is for run_recorded, which answers the calls";
        return Err(LaunchError::Plan(message.to_owned()));
    }
    Ok(())
}

/// The same, with or without a recorder to come. With `announced` it waits until the command has started.
pub(crate) fn launch_any(plan: &Plan, announced: bool) -> Result<Running, LaunchError> {
    single_threaded()?;
    let program = compile(plan)?;
    let terminal = if plan.command.new_session || plan.command.terminal {
        None
    } else {
        Terminal::held()
    };
    let request = request::encode(&plan.command, &plan.limits, terminal.is_some())?;
    let (ours, theirs) = connection()?;
    let signals = RelayedSignals::block(terminal.is_some())?;
    let launched = copy(&program, &request, &ours, &theirs, &signals, announced);
    drop(theirs);
    let launched = launched
        .map_err(|failure| failure::launch_error(&failure, Some(&program), Some(&plan.command)))?;
    let mut running = Running::new(
        Pid::from_raw(launched.pid).ok_or(LaunchError::Vanished)?,
        sys::adopt(launched.pidfd),
        ours,
        signals,
        terminal,
        plan.command.clone(),
        program,
    );
    if announced {
        running.await_start()?;
    }
    Ok(running)
}

fn copy(
    program: &Program,
    request: &[u8],
    ours: &OwnedFd,
    theirs: &OwnedFd,
    signals: &RelayedSignals,
    announced: bool,
) -> Result<Launched, Failure> {
    let malformed = |_| Failure::at(envd_init::protocol::Stage::Malformed, 0, 0);
    let parsed = program::Program::parse(program.bytes()).map_err(malformed)?;
    let first = First {
        request: Request::parse(request).map_err(malformed)?,
        mask: signals.before_as_set(),
        announced,
    };
    // The new process never comes back; should it panic, it must not run on in this one's name.
    let _guard = Copied(envd_init::sys::own_pid());
    envd_init::launch::launch(
        &parsed,
        Some(&first),
        theirs.as_raw_fd(),
        Some(ours.as_raw_fd()),
        None,
    )
}

/// An environment that somebody else owns, and what is to run in it.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'j> {
    /// What is given up on the way: the bytes of [`crate::compile_joining`].
    pub program: &'j [u8],
    /// The command (see [`envd_init::request`]).
    pub request: &'j [u8],
    /// Its namespaces, as its PID 1 gave them.
    pub namespaces: &'j [OwnedFd],
    /// The command again, for messages.
    pub command: &'j Command,
}

/// Starts a command of this process's session, and with its terminal, in an environment that somebody else owns.
///
/// As [`launch`], but that the [`Running`] is not the environment: it ends with the command, and what that left stays until the
/// owner ends it. [`LaunchError::Join`] says that nothing was done.
pub fn join(joining: &Joining<'_>) -> Result<Running, LaunchError> {
    single_threaded()?;
    let terminal = Terminal::held();
    let mut request = joining.request.to_vec();
    if terminal.is_some() {
        request::take_foreground(&mut request);
    }
    let (ours, theirs) = connection()?;
    let signals = RelayedSignals::block(terminal.is_some())?;
    let launched = copy_into(joining, &request, &ours, &theirs, &signals);
    drop(theirs);
    let launched =
        launched.map_err(|failure| failure::launch_error(&failure, None, Some(joining.command)))?;
    let mut running = Running::new(
        Pid::from_raw(launched.pid).ok_or(LaunchError::Vanished)?,
        sys::adopt(launched.pidfd),
        ours,
        signals,
        terminal,
        joining.command.clone(),
        Program::of_others(),
    );
    running.await_start()?;
    Ok(running)
}

fn copy_into(
    joining: &Joining<'_>,
    request: &[u8],
    ours: &OwnedFd,
    theirs: &OwnedFd,
    signals: &RelayedSignals,
) -> Result<Launched, Failure> {
    let malformed = |_| Failure::at(envd_init::protocol::Stage::Malformed, 0, 0);
    let parsed = program::Program::parse(joining.program).map_err(malformed)?;
    let first = First {
        request: Request::parse(request).map_err(malformed)?,
        mask: signals.before_as_set(),
        announced: true,
    };
    let namespaces: Vec<_> = joining.namespaces.iter().map(AsRawFd::as_raw_fd).collect();
    let _guard = Copied(envd_init::sys::own_pid());
    envd_init::launch::join(
        &parsed,
        &first,
        theirs.as_raw_fd(),
        Some(ours.as_raw_fd()),
        &namespaces,
    )
}

/// Ends the process if it is another one than the one that made this.
struct Copied(envd_init::Pid);

impl Drop for Copied {
    fn drop(&mut self) {
        if envd_init::sys::own_pid() != self.0 {
            sys::exit(125);
        }
    }
}

/// A pair of connected sockets, the owner's end and PID 1's.
pub fn connection() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| LaunchError::Connection(error.into()))
}

/// Signals held back for the command, until dropped.
#[derive(Debug)]
pub(crate) struct RelayedSignals {
    pub(crate) descriptor: nix::sys::signalfd::SignalFd,
    before: SigSet,
}

impl RelayedSignals {
    fn block(terminal: bool) -> Result<Self, LaunchError> {
        let failed = |error: nix::errno::Errno| LaunchError::Signals(error.into());
        let mut read: SigSet = RELAYED.into_iter().collect();
        // Whoever has this process not stop by it has the command not stop either; on a terminal the command itself has the say.
        if terminal || !envd_init::sys::is_ignored(libc::SIGTSTP) {
            read.add(Signal::SIGTSTP);
        }
        let flags =
            nix::sys::signalfd::SfdFlags::SFD_CLOEXEC | nix::sys::signalfd::SfdFlags::SFD_NONBLOCK;
        let descriptor = nix::sys::signalfd::SignalFd::with_flags(&read, flags).map_err(failed)?;
        read.add(Signal::SIGTTOU);
        let how = nix::sys::signal::SigmaskHow::SIG_BLOCK;
        let before = read.thread_swap_mask(how).map_err(failed)?;
        Ok(RelayedSignals { descriptor, before })
    }

    /// The caller's mask, as PID 1 takes it.
    fn before_as_set(&self) -> SignalSet {
        self.before
            .iter()
            .fold(SignalSet(0), |set, signal| set.with(signal as i32))
    }
}

impl Drop for RelayedSignals {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// Threads are subdirectories of this directory, each of which counts as a link to it; two links are its own.
pub(crate) fn single_threaded() -> Result<(), LaunchError> {
    match std::fs::metadata("/proc/self/task").map(|directory| directory.nlink()) {
        Ok(links) if links > 3 => Err(LaunchError::Threads(links - 2)),
        _ => Ok(()),
    }
}
