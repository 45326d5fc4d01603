//! Mechanisms that a system call or a file tells of.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Mechanism, State};
use crate::sys;

/// The version of Landlock that has everything a plan can ask for.
const COMPLETE_LANDLOCK: i32 = 6;

pub(super) fn seccomp() -> Mechanism {
    let works = sys::filter_action_available(libc::SECCOMP_RET_ERRNO);
    Mechanism {
        name: "seccomp",
        state: if works { State::Ok } else { State::Missing },
        detail: if works { "works" } else { "not available" }.to_owned(),
        purpose: "refusing terminal injection, keyrings and, for agents, more",
        fix: (!works).then(|| "use a kernel with CONFIG_SECCOMP_FILTER".to_owned()),
    }
}

pub(super) fn notifications() -> Mechanism {
    let works = sys::filter_action_available(libc::SECCOMP_RET_USER_NOTIF);
    Mechanism {
        name: "seccomp-notify",
        state: if works { State::Ok } else { State::Missing },
        detail: if works { "works" } else { "not available" }.to_owned(),
        purpose: "configuring packages: noting the owners of files",
        fix: (!works).then(|| "use Linux 5.5 or later with CONFIG_SECCOMP_FILTER".to_owned()),
    }
}

pub(super) fn landlock() -> Mechanism {
    let version = sys::landlock_version();
    let (state, detail, fix) = match version {
        0 => (
            State::Missing,
            "not enabled".to_owned(),
            Some(
                "use Linux 5.13 or later with Landlock in its list of security modules (lsm=landlock,... on the kernel's command line)",
            ),
        ),
        version if version < COMPLETE_LANDLOCK => (
            State::Restricted,
            format!("version {version}: no scopes, and perhaps more is missing"),
            Some("use Linux 6.12 or later"),
        ),
        version => (State::Ok, format!("version {version}"), None),
    };
    Mechanism {
        name: "landlock",
        state,
        detail,
        purpose: "a second wall around agents",
        fix: fix.map(str::to_owned),
    }
}

pub(super) fn control_groups() -> Mechanism {
    let (state, detail, fix) = match own_group() {
        None => (
            State::Missing,
            "no version 2 hierarchy on /sys/fs/cgroup".to_owned(),
            Some(
                "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 on /sys/fs/cgroup",
            ),
        ),
        Some(group) => {
            let writable =
                |file: &Path| rustix::fs::access(file, rustix::fs::Access::WRITE_OK).is_ok();
            let controllers = fs::read_to_string(group.join("cgroup.controllers"));
            let controllers = controllers.unwrap_or_default().trim().to_owned();
            if writable(&group) && writable(&group.join("cgroup.procs")) {
                (
                    State::Ok,
                    format!("{} ({controllers})", group.display()),
                    None,
                )
            } else {
                (
                    State::Restricted,
                    format!("{} is not writable", group.display()),
                    Some(
                        "start envd in a delegated group: systemd-run --user --scope -p Delegate=yes",
                    ),
                )
            }
        }
    };
    Mechanism {
        name: "cgroups",
        state,
        detail,
        purpose: "limits on the memory and processes of a whole environment; resource limits of each process otherwise",
        fix: fix.map(str::to_owned),
    }
}

/// The control group this process is in, when the unified hierarchy is mounted.
fn own_group() -> Option<PathBuf> {
    const MAGIC: u64 = 0x6367_7270;
    let mounted = Path::new("/sys/fs/cgroup");
    let found = rustix::fs::statfs(mounted).ok()?;
    if found.f_type as u64 != MAGIC {
        return None;
    }
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(mounted.join(own))
}

pub(super) fn subordinate_ids() -> Mechanism {
    let root = rustix::process::geteuid().is_root();
    let tools = ["newuidmap", "newgidmap"].map(privileged_tool);
    let ranges = has_range("/etc/subuid") && has_range("/etc/subgid");
    let (state, detail, fix) = if root {
        (State::Ok, "root maps all ids itself".to_owned(), None)
    } else if tools.contains(&false) {
        (
            State::Missing,
            "newuidmap and newgidmap are not installed, or not set-user-id".to_owned(),
            Some("apt install uidmap"),
        )
    } else if !ranges {
        (
            State::Restricted,
            "you have no range in /etc/subuid and /etc/subgid".to_owned(),
            Some("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"),
        )
    } else {
        (State::Ok, "newuidmap and a range".to_owned(), None)
    };
    Mechanism {
        name: "subordinate-ids",
        state,
        detail,
        purpose: "showing files of other users as theirs; as nobody's otherwise",
        fix: fix.map(str::to_owned),
    }
}

/// Whether a tool is to be found with privileges of its own, by mode or by attribute: on the caller's PATH, or in one of the
/// usual places.
fn privileged_tool(name: &str) -> bool {
    let usual = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];
    which::which_all(name)
        .into_iter()
        .flatten()
        .chain(
            usual
                .iter()
                .map(|directory| Path::new(directory).join(name)),
        )
        .any(|tool| {
            let mut value = [0; 64];
            fs::metadata(&tool).is_ok_and(|found| found.mode() & libc::S_ISUID != 0)
                || rustix::fs::getxattr(&tool, "security.capability", &mut value[..]).is_ok()
        })
}

fn has_range(file: &str) -> bool {
    let uid = rustix::process::getuid().as_raw().to_string();
    let name = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map(|user| user.name);
    let ranges = fs::read_to_string(file).unwrap_or_default();
    ranges.lines().any(|line| {
        let owner = line.split(':').next();
        owner == Some(&uid) || (owner.is_some() && owner == name.as_deref())
    })
}
