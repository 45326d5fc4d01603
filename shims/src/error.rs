//! What can go wrong on the way into an environment, a variant a step.
//!
//! [`SetupError`]s happen in the new process, which sends the number of the step; [`LaunchError`] is what callers
//! see. Messages name the step and its operands and, where the error number alone misleads, what it means here.

use std::{io, path::PathBuf};

use crate::{errno::Errno, explain};

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The plan cannot be carried out anywhere.
    #[error("the plan is wrong: {0}")]
    Plan(String),
    /// The launching process must have one thread.
    #[error(
        "cannot launch from a process with {0} threads: a copy of it would inherit their locks; launch before starting threads"
    )]
    Threads(u64),
    /// No connection to the new process could be made.
    #[error("cannot make the connection to the new process")]
    Connection(#[source] Errno),
    /// The resident launcher could not be started.
    #[error("cannot start the launcher")]
    Launcher(#[source] io::Error),
    /// Signals could not be redirected.
    #[error("cannot redirect signals")]
    Signals(#[source] Errno),
    /// The namespaces were refused.
    #[error("cannot make the namespaces{hint}")]
    Namespaces {
        /// What to do about it.
        hint: String,
        /// From clone3(2).
        source: Errno,
    },
    /// The id maps were refused.
    #[error("cannot write {file} of the new process")]
    Maps {
        /// Which map.
        file: PathBuf,
        /// From write(2).
        source: Errno,
    },
    /// A step inside the new process failed.
    #[error("cannot set the environment up{hint}")]
    Setup {
        /// The step.
        #[source]
        error: Box<SetupError>,
        /// What to do about it.
        hint: String,
    },
    /// The namespaces of an environment cannot be entered.
    #[error("cannot join the environment")]
    Join(#[source] Errno),
    /// The new process ended without a word (it was killed, or out of memory).
    #[error("the environment's PID 1 ended unexpectedly")]
    Vanished,
    /// Its end could not be awaited.
    #[error("cannot wait for the environment")]
    Wait(#[source] Errno),
    /// The recorder of ownership failed.
    #[error("the recorder of ownership failed to {step}")]
    Recorder {
        /// At this.
        step: &'static str,
        /// Because.
        source: io::Error,
    },
    /// The caller's inspection of the environment's root failed.
    #[error("cannot inspect what the command left")]
    Inspect(#[source] io::Error),
}

impl LaunchError {
    /// The exit code that shells give it: 127 for a program that is not there, 126 for one that cannot be executed.
    pub fn exec_code(&self) -> Option<u8> {
        match self {
            LaunchError::Setup { error, .. } => match **error {
                SetupError::ProgramMissing { .. } => Some(127),
                SetupError::Program { .. } => Some(126),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A step in the new process that failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetupError {
    /// Writing the id maps.
    #[error("cannot write {file}")]
    Maps {
        /// Which.
        file: String,
        /// From write(2).
        source: Errno,
    },
    /// Cutting the new mount namespace off from the host's.
    #[error("cannot make the mounts of the new namespace private")]
    Propagation {
        /// From mount(2).
        source: Errno,
    },
    /// Opening what is to be mounted.
    #[error("cannot open {} to mount it on {}", path.display(), target.display())]
    Source {
        /// On the host.
        path: PathBuf,
        /// Inside.
        target: PathBuf,
        /// From open_tree(2).
        source: Errno,
    },
    /// Preparing the place where the root is assembled.
    #[error("cannot prepare {what} to assemble the root in")]
    Staging {
        /// What of it.
        what: String,
        /// From the system call.
        source: Errno,
    },
    /// Mounting the overlay of the root, or of a scratch directory.
    #[error("cannot mount the overlay on {} (over {})", target.display(), explain::lowers(lowers, *source))]
    Overlay {
        /// Inside.
        target: PathBuf,
        /// Topmost first.
        lowers: Vec<PathBuf>,
        /// From mount(2).
        source: Errno,
    },
    /// Mounting a directory as the root.
    #[error("cannot mount {} as the root", directory.display())]
    ReadOnlyRoot {
        /// On the host.
        directory: PathBuf,
        /// From the system call.
        source: Errno,
    },
    /// Making the place where something is mounted.
    #[error("cannot make {} inside{}", target.display(), explain::target(*source))]
    Target {
        /// Inside.
        target: PathBuf,
        /// From openat2(2), mkdirat(2) or mknodat(2).
        source: Errno,
    },
    /// Mounting something over the root.
    #[error("cannot mount {what} on {}{}", target.display(), explain::mount(what, *source))]
    Mount {
        /// A path, or a kind of file system.
        what: String,
        /// Inside.
        target: PathBuf,
        /// From the system call.
        source: Errno,
    },
    /// Writing a file, directory or link of the plan.
    #[error("cannot write {}{}", target.display(), explain::target(*source))]
    Write {
        /// Inside.
        target: PathBuf,
        /// From the system call.
        source: Errno,
    },
    /// Changing to the new root.
    #[error("cannot change to the new root ({call})")]
    Pivot {
        /// pivot_root, umount2 or chdir.
        call: String,
        /// From it.
        source: Errno,
    },
    /// Setting the host name.
    #[error("cannot set the host name to {name:?}")]
    HostName {
        /// To this.
        name: String,
        /// From sethostname(2).
        source: Errno,
    },
    /// Bringing the loopback device up.
    #[error("cannot bring the loopback device up")]
    Loopback {
        /// From ioctl(2).
        source: Errno,
    },
    /// Giving the owner the root.
    #[error("cannot hand the root to the owner")]
    HandRoot {
        /// From sendmsg(2).
        source: Errno,
    },
    /// Listening for the owner.
    #[error("cannot listen on port {port} of the loopback device")]
    Listen {
        /// The port.
        port: u16,
        /// From socket(2), bind(2), listen(2) or sendmsg(2).
        source: Errno,
    },
    /// Hiding PID 1 from the environment.
    #[error("cannot protect the environment's PID 1 ({call})")]
    Protect {
        /// prctl or signalfd.
        call: String,
        /// From it.
        source: Errno,
    },
    /// Giving capabilities up.
    #[error("cannot give up capabilities ({what})")]
    Capabilities {
        /// Which sets.
        what: String,
        /// From prctl(2) or capset(2).
        source: Errno,
    },
    /// Building or entering the Landlock domain.
    #[error("cannot enter the Landlock domain ({what})")]
    Landlock {
        /// A path of a rule, or the step.
        what: String,
        /// From the system call.
        source: Errno,
    },
    /// Setting a resource limit.
    #[error("cannot limit {limit:?} to {value}{}", explain::limit(*source))]
    Limit {
        /// Which.
        limit: crate::plan::Limit,
        /// To this.
        value: u64,
        /// From setrlimit(2).
        source: Errno,
    },
    /// Making a session or process group.
    #[error("cannot give the command {what}")]
    JobControl {
        /// A session, a process group, or the terminal.
        what: String,
        /// From the system call.
        source: Errno,
    },
    /// Entering the working directory.
    #[error("cannot enter the working directory {} inside", path.display())]
    WorkingDirectory {
        /// Inside.
        path: PathBuf,
        /// From chdir(2).
        source: Errno,
    },
    /// Installing the system call filter. Nothing runs without it.
    #[error("cannot install the system call filter, and refusing to run without it")]
    Filter {
        /// From seccomp(2).
        source: Errno,
    },
    /// Handing descriptors to the launching process.
    #[error("cannot hand the listener to the recorder")]
    Listener {
        /// From sendmsg(2).
        source: Errno,
    },
    /// Starting the command's process.
    #[error("cannot start a process inside")]
    Spawn {
        /// From clone(2).
        source: Errno,
    },
    /// The program does not exist.
    #[error("{}: {}", program.display(), explain::missing(searched.as_deref(), *interpreter))]
    ProgramMissing {
        /// As given.
        program: PathBuf,
        /// The PATH it was searched in, when it was.
        searched: Option<String>,
        /// The file exists, but not what it names to run it (`#!` or the dynamic loader).
        interpreter: bool,
    },
    /// The program cannot be executed.
    #[error("{}: cannot be executed{}", program.display(), explain::exec(*source))]
    Program {
        /// As given or found.
        program: PathBuf,
        /// From execve(2).
        source: Errno,
    },
}

impl SetupError {
    /// The same step, failed with this.
    pub(crate) fn with_source(mut self, errno: Errno) -> Self {
        use SetupError as E;
        match &mut self {
            E::Maps { source, .. }
            | E::Propagation { source }
            | E::Source { source, .. }
            | E::Staging { source, .. }
            | E::Overlay { source, .. }
            | E::ReadOnlyRoot { source, .. }
            | E::Target { source, .. }
            | E::Mount { source, .. }
            | E::Write { source, .. }
            | E::Pivot { source, .. }
            | E::HostName { source, .. }
            | E::Loopback { source }
            | E::HandRoot { source }
            | E::Listen { source, .. }
            | E::Protect { source, .. }
            | E::Capabilities { source, .. }
            | E::Landlock { source, .. }
            | E::Limit { source, .. }
            | E::JobControl { source, .. }
            | E::WorkingDirectory { source, .. }
            | E::Filter { source }
            | E::Listener { source }
            | E::Spawn { source }
            | E::Program { source, .. } => *source = errno,
            E::ProgramMissing { .. } => {}
        }
        self
    }
}
