//! The launching process's side: everything that can be made ready before there is a second process, then clone3(2).

use std::os::{fd::BorrowedFd, unix::fs::MetadataExt};

use nix::sys::signal::{SigSet, Signal};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::{
    command::Ready,
    error::LaunchError,
    explain,
    ids::{Caller, Existing, Maps},
    plan::{Mount, Plan, Seccomp},
    privileges::{capabilities::Kept, landlock::Domain},
    running::{Downgrade, Running},
    seccomp,
    setup::{self, Prepared},
    sys, target,
    terminal::Terminal,
};

/// Relayed to the command while it runs.
const RELAYED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
];

/// System calls that succeed without effect while ownership is recorded. The bare `setgroups` of programs that give up
/// privileges fails in a map of one group, and has nothing to give up. Nothing waits for the disk, since what is on it is
/// read back at once and kept elsewhere: dpkg would wait some sixty times.
const PRETENDED: &[libc::c_long] = &[
    libc::SYS_setgroups,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
];

/// System calls the recorder answers.
#[cfg(target_arch = "x86_64")]
const RECORDED: &[libc::c_long] = &[
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
];
#[cfg(target_arch = "aarch64")]
const RECORDED: &[libc::c_long] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_mknodat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
];

/// Since Linux 6.13; the numbers of new calls are the same everywhere.
pub(crate) const SETXATTRAT: libc::c_long = 463;

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
    check(plan)?;
    let mut downgrades = Vec::new();
    let caller = Caller::current();
    let (maps, maps_from_outside) = maps(plan, caller, &mut downgrades);
    let domain = plan.privileges.landlock.as_ref().and_then(|landlock| {
        let (domain, missing) = Domain::new(landlock);
        downgrades.extend(missing);
        domain
    });
    let (recorded, pretended): (&[_], &[_]) = if plan.privileges.record_ownership {
        (RECORDED, PRETENDED)
    } else {
        (&[], &[])
    };
    let filter = seccomp::compile(plan.privileges.seccomp, recorded, pretended)
        .map_err(|error| LaunchError::Plan(error.to_string()))?;
    let ready = Ready::new(&plan.command)?;
    let kept = Kept::parse(&plan.privileges.capabilities)?;

    let terminal = if plan.command.new_session {
        None
    } else {
        Terminal::held()
    };
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| LaunchError::Connection(error.into()))?;
    let signals = RelayedSignals::block(terminal.is_some())?;
    let prepared = Prepared {
        plan,
        ready,
        kept,
        filter,
        domain,
        caller,
        maps,
        maps_from_outside,
        terminal: terminal.is_some(),
        announced,
        mask: signals.before,
    };
    // Each process holds its own end only: held by both, an end that closes would never show, and each would wait for the
    // other where something goes wrong between them.
    let (mut ours, mut control) = (Some(ours), Some(theirs));
    let cloned = sys::clone_process(namespaces(plan), || {
        drop(ours.take());
        match control.take() {
            Some(control) => setup::run(&prepared, control),
            None => sys::exit(125),
        }
    });
    drop(control);
    // Only the new process, whose memory is a copy, has taken it.
    let ours = ours.ok_or(LaunchError::Vanished)?;
    let (pid, pidfd) = cloned.map_err(|error| {
        let source = error.into();
        LaunchError::Namespaces {
            hint: explain::restricted(source),
            source,
        }
    })?;
    let mut running = Running::new(
        pid,
        pidfd,
        ours,
        signals,
        terminal,
        plan.command.new_session,
        downgrades,
    );
    if maps_from_outside {
        write_maps(&prepared, pid, running.control())?;
    }
    if announced {
        running.await_start()?;
    }
    Ok(running)
}

fn write_maps(
    prepared: &Prepared<'_>,
    pid: rustix::process::Pid,
    control: BorrowedFd<'_>,
) -> Result<(), LaunchError> {
    prepared
        .maps
        .write(&setup::process_directory(pid))
        .map_err(|(file, source)| LaunchError::Maps { file, source })?;
    rustix::net::send(control, b"!", SendFlags::NOSIGNAL)
        .map(drop)
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
        if terminal {
            read.add(Signal::SIGCONT);
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

fn namespaces(plan: &Plan) -> libc::c_int {
    let wanted = plan.namespaces;
    let mut flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    for (wanted, flag) in [
        (wanted.ipc, libc::CLONE_NEWIPC),
        (wanted.uts, libc::CLONE_NEWUTS),
        (wanted.net, libc::CLONE_NEWNET),
        (wanted.cgroup, libc::CLONE_NEWCGROUP),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    flags
}

/// The recorder's runs have one id whoever runs them, so that their results are the same.
fn maps(plan: &Plan, caller: Caller, downgrades: &mut Vec<Downgrade>) -> (Maps, bool) {
    let all = plan.ids.all && !plan.privileges.record_ownership;
    if all && caller.uid == 0 {
        let all = Maps::all(&plan.ids, caller, &Existing::current());
        return match all {
            Some(maps) => (maps, true),
            // Root of a user namespace with this one id: its own are all there are.
            None => (Maps::own(&plan.ids, caller), false),
        };
    }
    if all {
        downgrades.push(Downgrade::Ids);
    }
    (Maps::own(&plan.ids, caller), false)
}

/// What can be known to be wrong before anything happens.
fn check(plan: &Plan) -> Result<(), LaunchError> {
    let wrong = |message: String| Err(LaunchError::Plan(message));
    for mount in &plan.mounts {
        let target = mount.target();
        if !target::is_target(target) {
            return wrong(format!(
                "{} cannot be mounted on: a target is an absolute path below / without ..",
                target.display()
            ));
        }
        if let Mount::Bind { source, .. } | Mount::Scratch { source, .. } = mount
            && !source.is_absolute()
        {
            return wrong(format!("the source {} is not absolute", source.display()));
        }
    }
    if !plan.command.directory.is_absolute() {
        let directory = plan.command.directory.display();
        return wrong(format!("the working directory {directory} is not absolute"));
    }
    let mut lowers = match &plan.root {
        crate::plan::Root::Overlay { lowers, .. } => lowers.iter(),
        crate::plan::Root::ReadOnly { .. } => [].iter(),
    };
    if let Some(lower) = lowers.find(|lower| !lower.is_absolute()) {
        return wrong(format!("the lower {} is not absolute", lower.display()));
    }
    if plan.privileges.record_ownership && plan.privileges.seccomp == Seccomp::Strict {
        return wrong(
            "ownership is recorded for trusted maintainer scripts, which Strict would break"
                .to_owned(),
        );
    }
    Ok(())
}
