//! Mechanisms that are tried in a process of their own.

use std::{os::fd::AsFd, path::Path};

use envd_init::sys as kernel;

use rustix::{
    fs::Mode,
    mount::{MountFlags, MountPropagationFlags},
    process::{WaitId, WaitIdOptions},
};

use super::{Mechanism, State, judge};
use crate::{
    Errno,
    ids::{Caller, Maps},
    plan::Ids,
    sys,
};

const USER: i32 = libc::CLONE_NEWUSER;
const MOUNT: i32 = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;

/// What a child's exit says when the failure had no error number.
const UNKNOWN: i32 = libc::EIO;

pub(super) fn namespaces() -> Vec<Mechanism> {
    let kernel = "use a kernel with CONFIG_USER_NS and its siblings";
    let row = |name, flags, purpose, check: fn() -> Result<(), Errno>| {
        let (state, detail, fix) = judge(attempt(flags, check), kernel);
        Mechanism {
            name,
            state,
            detail,
            purpose,
            fix,
        }
    };
    let nothing = || Ok(());
    vec![
        row("user-namespaces", USER, "everything", nothing),
        row("mount-namespaces", MOUNT, "everything", private),
        row(
            "network-namespaces",
            USER | libc::CLONE_NEWNET,
            "environments without network",
            loopback,
        ),
        row(
            "ipc-namespaces",
            USER | libc::CLONE_NEWIPC,
            "private message queues and shared memory",
            nothing,
        ),
        row(
            "uts-namespaces",
            USER | libc::CLONE_NEWUTS,
            "a host name of its own",
            nothing,
        ),
        row(
            "cgroup-namespaces",
            USER | libc::CLONE_NEWCGROUP,
            "hiding the host's control groups",
            nothing,
        ),
    ]
}

pub(super) fn overlay() -> Mechanism {
    let missing = "use Linux 5.11 or later with overlayfs (modprobe overlay)";
    let (state, detail, fix) = judge(attempt(MOUNT, mount_overlay), missing);
    Mechanism {
        name: "overlay",
        state,
        detail,
        purpose: "environments whose files can be changed without being changed",
        fix,
    }
}

pub(super) fn procfs() -> Mechanism {
    let errno = attempt(MOUNT | libc::CLONE_NEWPID, mount_proc);
    let (state, detail, mut fix) = judge(errno, "use a kernel with CONFIG_PID_NS");
    if errno == Some(libc::EPERM) && namespaces().iter().all(|row| row.state == State::Ok) {
        fix = Some(
            "run this container with an unmasked /proc (docker: --security-opt systempaths=unconfined)"
                .to_owned(),
        );
    }
    Mechanism {
        name: "pid-namespaces",
        state,
        detail,
        purpose: "everything: the kernel ends what is left of an environment",
        fix,
    }
}

fn private() -> Result<(), Errno> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
}

fn loopback() -> Result<(), Errno> {
    Ok(kernel::loopback_up()?)
}

fn mount_overlay() -> Result<(), Errno> {
    private()?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", "/tmp", "tmpfs", quiet, c"mode=0700")?;
    for name in ["/tmp/lower", "/tmp/upper", "/tmp/work"] {
        rustix::fs::mkdir(name, Mode::RWXU)?;
    }
    let options = c"userxattr,lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work";
    rustix::mount::mount("overlay", "/tmp", "overlay", MountFlags::empty(), options)?;
    Ok(())
}

fn mount_proc() -> Result<(), Errno> {
    private()?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", quiet, None::<&std::ffi::CStr>)?;
    Ok(())
}

/// Runs a check in new namespaces, with the caller's id mapped to 0; gives the error number it failed with.
fn attempt(namespaces: i32, check: fn() -> Result<(), Errno>) -> Option<i32> {
    let maps = Maps::own(
        &Ids {
            uid: 0,
            gid: 0,
            all: false,
        },
        Caller::current(),
    );
    let pidfd = match kernel::copy(namespaces as u64, None) {
        Ok(kernel::Side::Parent { pidfd, .. }) => sys::adopt(pidfd),
        Ok(kernel::Side::Child) => {
            let mapped = maps.write(Path::new("/proc/self"));
            let result = mapped.map_err(|(_, errno)| errno).and_then(|()| check());
            sys::exit(result.map_or_else(|errno| errno.0, |()| 0))
        }
        Err(error) => return Some(error.0),
    };
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some(status)) => {
                return match status.exit_status() {
                    Some(0) => None,
                    Some(errno) => Some(errno),
                    None => Some(UNKNOWN),
                };
            }
            _ => return Some(UNKNOWN),
        }
    }
}
