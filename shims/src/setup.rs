//! The new process, from its first instruction to the loop of PID 1, in the order things happen.

use std::{
    convert::Infallible,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
};

use landlock::RulesetCreated;
use nix::sys::signal::SigSet;
use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, Signal},
};
use seccompiler::sock_filter;

use crate::{
    command::Ready,
    error::SetupError,
    ids::{Caller, Maps},
    mounts::{self, Source},
    network,
    plan::{Limit, Mount, Plan, Root, Upper},
    privileges::{
        capabilities::{self, Kept},
        landlock::{self as domain, Domain},
    },
    root::{self, Sources, Stage},
    sys,
    target::Inside,
    wire,
};

/// Everything made ready by the launching process.
pub(crate) struct Prepared<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) ready: Ready,
    pub(crate) kept: Kept,
    pub(crate) filter: Option<Vec<sock_filter>>,
    pub(crate) domain: Option<Domain>,
    pub(crate) caller: Caller,
    pub(crate) maps: Maps,
    /// The launching process writes the maps and says when they are there.
    pub(crate) maps_from_outside: bool,
    /// Standard input is the terminal that the caller has in the foreground, and the command is to have it.
    pub(crate) terminal: bool,
    /// The launching process is told when the command has started.
    pub(crate) announced: bool,
    /// The caller's signal mask.
    pub(crate) mask: SigSet,
}

/// Runs the new process.
pub(crate) fn run(prepared: &Prepared<'_>, control: OwnedFd) -> Infallible {
    match start(prepared, control.as_fd()) {
        Ok((duty, _inside)) => {
            let mut kept = vec![duty.control, duty.signals];
            kept.extend(duty.terminal);
            sys::close_all_but(&mut kept);
            envd_init::supervise(duty)
        }
        Err(error) => {
            wire::send_failure(control.as_fd(), &error);
            sys::exit(125)
        }
    }
}

/// Assembles the environment and starts the command in it.
fn start(
    prepared: &Prepared<'_>,
    control: BorrowedFd<'_>,
) -> Result<(envd_init::Duty, Inside), SetupError> {
    let protect = |call: &'static str| {
        move |source: rustix::io::Errno| SetupError::Protect {
            call: call.to_owned(),
            source: source.into(),
        }
    };
    // Should the launching process be gone already, the closed connection says so to the loop below.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(protect("PR_SET_PDEATHSIG"))?;
    // What `ps` shows; the command line remains that of the launching process.
    rustix::thread::set_name(c"envd-init").map_err(protect("PR_SET_NAME"))?;
    let umask = rustix::process::umask(Mode::empty());

    if prepared.maps_from_outside {
        let mut go = [0; 1];
        let received = rustix::net::recv(control, &mut go[..], rustix::net::RecvFlags::empty());
        if received.map_err(protect("recv"))?.1 == 0 {
            // The launching process has given up.
            sys::exit(125)
        }
    } else {
        prepared.maps.write_own()?;
    }
    let inside = build(prepared)?;
    let mut ruleset = match &prepared.domain {
        Some(domain) => Some(domain.prepare()?),
        None => None,
    };

    prepared.kept.confine(prepared.plan.ids.uid)?;
    rustix::thread::set_no_new_privs(true).map_err(protect("PR_SET_NO_NEW_PRIVS"))?;
    // The memory of this process is a copy of its launcher's. Not dumpable, its files in /proc belong to the host's root,
    // and neither they nor ptrace are open to the environment, whatever capabilities it has: this memory belongs to the
    // launcher's user namespace.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(protect("PR_SET_DUMPABLE"))?;
    let signals = envd_init::block_signals().map_err(|source| SetupError::Protect {
        call: "signalfd".to_owned(),
        source: source.into(),
    })?;

    let mut failure = None;
    let mut child = || {
        let Err(error) = become_command(prepared, &mut ruleset, umask, control, &inside);
        failure = Some(error);
    };
    let command = envd_init::spawn(&mut child).map_err(|source| SetupError::Spawn {
        source: source.into(),
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    // Out of the caller's process group, whose signals are for the command alone.
    let _ = rustix::process::setpgid(None, None);
    capabilities::settle_init()?;
    let duty = envd_init::Duty {
        command,
        control: control.as_raw_fd(),
        signals,
        terminal: prepared.terminal.then_some(STANDARD_INPUT),
    };
    if prepared.announced {
        let started = envd_init::protocol::Report::Started.encode();
        let _ = rustix::net::send(control, &started, rustix::net::SendFlags::NOSIGNAL);
    }
    Ok((duty, inside))
}

const STANDARD_INPUT: RawFd = 0;

/// Everything that needs the capabilities of the new namespaces' owner.
fn build(prepared: &Prepared<'_>) -> Result<Inside, SetupError> {
    let plan = prepared.plan;
    root::make_private()?;
    let sources = Sources::open(&plan.root)?;
    let opened = plan
        .mounts
        .iter()
        .map(Source::open)
        .collect::<Result<Vec<_>, _>>()?;
    let mut stage = match (&plan.root, needs_scratch(plan)) {
        (
            Root::Overlay {
                upper: Upper::Tmpfs { size },
                ..
            },
            _,
        ) => Some(Stage::mount(*size)?),
        (_, true) => Some(Stage::mount(None)?),
        _ => None,
    };
    // What a recorded command leaves is read as soon as it ends, and kept elsewhere.
    let kept = match plan.privileges.record_ownership {
        true => root::Kept::Volatile,
        false => root::Kept::Safely,
    };
    let (inside, planted) = root::assemble(&plan.root, &sources, &plan.mounts, &mut stage, kept)?;
    let caller_is_root = prepared.caller.uid == 0;
    let sourced = plan.mounts.iter().zip(&opened);
    for ((mount, source), _) in sourced.zip(planted).filter(|(_, planted)| !planted) {
        mounts::apply(mount, source, &inside, &mut stage, caller_is_root)?;
    }
    root::enter(&inside)?;
    if plan.namespaces.uts && !plan.hostname.is_empty() {
        rustix::system::sethostname(plan.hostname.as_bytes()).map_err(|source| {
            SetupError::HostName {
                name: plan.hostname.clone(),
                source: source.into(),
            }
        })?;
    }
    if plan.namespaces.net {
        network::loopback_up().map_err(|source| SetupError::Loopback { source })?;
    }
    Ok(inside)
}

fn needs_scratch(plan: &Plan) -> bool {
    let scratch = |mount: &Mount| matches!(mount, Mount::Scratch { .. });
    plan.mounts.iter().any(scratch)
}

/// The command's process, which shares PID 1's memory until it executes the program: comes back only with why not.
fn become_command(
    prepared: &Prepared<'_>,
    ruleset: &mut Option<RulesetCreated>,
    umask: Mode,
    control: BorrowedFd<'_>,
    inside: &Inside,
) -> Result<Infallible, SetupError> {
    let plan = prepared.plan;
    join_job(plan, prepared.terminal)?;
    for (limit, value) in &plan.limits {
        set_limit(*limit, *value)?;
    }
    prepared.kept.settle()?;
    rustix::process::chdir(prepared.ready.directory.as_c_str()).map_err(|source| {
        SetupError::WorkingDirectory {
            path: plan.command.directory.clone(),
            source: source.into(),
        }
    })?;
    let umask = plan.command.umask.map_or(umask, Mode::from_raw_mode);
    rustix::process::umask(umask);
    if let Some(ruleset) = ruleset.take() {
        domain::enter(ruleset)?;
    }
    sys::reset_sigpipe();
    prepared
        .mask
        .thread_set_mask()
        .map_err(|source| SetupError::Protect {
            call: "sigprocmask".to_owned(),
            source: source.into(),
        })?;
    sys::close_on_exec();
    install_filter(prepared, control, inside)?;
    Err(prepared.ready.execute())
}

/// Installed last, so that it is no obstacle to what comes before.
fn install_filter(
    prepared: &Prepared<'_>,
    control: BorrowedFd<'_>,
    inside: &Inside,
) -> Result<(), SetupError> {
    let Some(filter) = &prepared.filter else {
        return Ok(());
    };
    let refused = |error: std::io::Error| SetupError::Filter {
        source: error.into(),
    };
    if !prepared.plan.privileges.record_ownership {
        return sys::install_filter(filter).map_err(refused);
    }
    let listener = sys::install_listening_filter(filter).map_err(refused)?;
    wire::send_descriptors(control, &[listener.as_fd(), inside.root()])
        .map_err(|source| SetupError::Listener { source })
}

/// The session, process group and terminal of the command.
fn join_job(plan: &Plan, terminal: bool) -> Result<(), SetupError> {
    let failed = |what: &'static str| {
        move |source: rustix::io::Errno| SetupError::JobControl {
            what: what.to_owned(),
            source: source.into(),
        }
    };
    if plan.command.new_session {
        rustix::process::setsid().map_err(failed("a session of its own"))?;
    } else if terminal {
        rustix::process::setpgid(None, None).map_err(failed("a process group of its own"))?;
        // SIGTTOU is blocked here, as in PID 1.
        rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpid())
            .map_err(failed("the terminal"))?;
    }
    Ok(())
}

fn set_limit(limit: Limit, value: u64) -> Result<(), SetupError> {
    let resource = match limit {
        Limit::AddressSpace => Resource::As,
        Limit::Processes => Resource::Nproc,
        Limit::Descriptors => Resource::Nofile,
        Limit::FileSize => Resource::Fsize,
        Limit::CpuSeconds => Resource::Cpu,
        Limit::Core => Resource::Core,
    };
    let both = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    rustix::process::setrlimit(resource, both).map_err(|source| SetupError::Limit {
        limit,
        value,
        source: source.into(),
    })
}

/// Where the kernel shows a process to the one that launched it.
pub(crate) fn process_directory(pid: rustix::process::Pid) -> std::path::PathBuf {
    Path::new("/proc").join(pid.as_raw_nonzero().to_string())
}
