//! Groups as directories.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};

use super::{Controller, Delegation, Facts, Hierarchy, Limits, find};

/// How often it is tried to remove a group whose processes are ending before its directory is left.
const LEAVING: u32 = 2000;

/// What could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {path:?}")]
pub struct CgroupError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed<'p>(step: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> CgroupError + 'p {
    move |source| CgroupError {
        step,
        path: path.to_owned(),
        source,
    }
}

/// The group that we move to where we are in the way.
const ASIDE: &str = "envd-server";

/// What names of our groups begin with; the server's process id and a number follow.
const PREFIX: &str = "envd-";

/// A place where groups are made.
#[derive(Debug)]
pub struct Groups {
    delegation: Delegation,
    count: AtomicU64,
}

impl Groups {
    /// Looks for a place. `children` are processes of ours that may be moved along. `None` where nothing is delegated.
    pub fn find(children: &[u32]) -> Result<Option<Self>, CgroupError> {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (own, mounts) = (text("/proc/self/cgroup"), text("/proc/self/mountinfo"));
        let Some(hierarchy) = Hierarchy::parse(&own, &mounts) else {
            return Ok(None);
        };
        let groups: Vec<Facts> = hierarchy.groups().map(facts).collect();
        let mut ours = children.to_vec();
        ours.push(std::process::id());
        match find(&groups, &ours) {
            Some(delegation) => Self::take(delegation).map(Some),
            None => Ok(None),
        }
    }

    /// Makes a place ready.
    fn take(mut delegation: Delegation) -> Result<Self, CgroupError> {
        if !delegation.to_move.is_empty() {
            let aside = delegation.path.join(ASIDE);
            match fs::create_dir(&aside) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("make the group", &aside)(error));
                }
                _ => {}
            }
            for pid in &delegation.to_move {
                put(&aside, "cgroup.procs", &pid.to_string())?;
            }
        }
        let path = &delegation.path;
        sweep(path);
        // One that cannot be enabled (a real-time process, say) must not keep us from the others.
        let refused: Vec<Controller> = delegation
            .to_enable
            .iter()
            .copied()
            .filter(|controller| {
                put(
                    path,
                    "cgroup.subtree_control",
                    &format!("+{}", controller.name()),
                )
                .is_err()
            })
            .collect();
        delegation
            .controllers
            .retain(|controller| !refused.contains(controller));
        Ok(Self {
            delegation,
            count: AtomicU64::new(0),
        })
    }

    /// Controllers that groups have.
    pub fn controllers(&self) -> &[Controller] {
        &self.delegation.controllers
    }

    /// Makes a group with these limits.
    pub fn make(&self, limits: &Limits) -> Result<Group, CgroupError> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let path = self.delegation.path.join(name);
        fs::create_dir(&path).map_err(failed("make the group", &path))?;
        let directory = File::open(&path);
        let group = match directory {
            Ok(directory) => Group {
                path,
                directory: directory.into(),
            },
            Err(error) => {
                let _ = fs::remove_dir(&path);
                return Err(failed("open the group", &path)(error));
            }
        };
        for setting in limits.settings(&self.delegation.controllers) {
            match put(&group.path, setting.file, &setting.value) {
                Err(error)
                    if setting.optional && error.source.kind() == io::ErrorKind::NotFound => {}
                written => written?,
            }
        }
        Ok(group)
    }
}

/// Takes away what servers have left that were killed: their groups, in which the kernel has ended everything.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else {
        return;
    };
    let mut left = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let is_gone = |pid: u32| !Path::new("/proc").join(pid.to_string()).exists();
        // Not where somebody is left in it. Those of a server that has just died are still ending.
        if owner.is_some_and(is_gone) && !remove_unless_busy(&entry.path()) {
            left.push(entry.path());
        }
    }
    if left.is_empty() {
        return;
    }
    // Nobody has to wait for that.
    std::thread::spawn(move || {
        for _ in 0..LEAVING {
            std::thread::sleep(Duration::from_millis(10));
            left.retain(|path| !remove_unless_busy(path));
            if left.is_empty() {
                return;
            }
        }
    });
}

/// Removes a group. False where somebody is left in it.
fn remove_unless_busy(path: &Path) -> bool {
    !matches!(fs::remove_dir(path), Err(error) if error.kind() == io::ErrorKind::ResourceBusy)
}

impl Drop for Groups {
    /// Undoes what was done to a group of our own. Where others are beside us, they may count on what is enabled.
    fn drop(&mut self) {
        let Delegation {
            path,
            to_enable,
            to_move,
            ..
        } = &self.delegation;
        if to_move.is_empty() {
            return;
        }
        for controller in to_enable {
            let _ = put(
                path,
                "cgroup.subtree_control",
                &format!("-{}", controller.name()),
            );
        }
        for pid in to_move {
            let _ = put(path, "cgroup.procs", &pid.to_string());
        }
        let _ = fs::remove_dir(path.join(ASIDE));
    }
}

/// What a group's files say.
fn facts(path: PathBuf) -> Facts {
    let text = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
    let writable =
        |path: &Path, access| rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    Facts {
        writable: writable(&path, Access::WRITE_OK | Access::EXEC_OK)
            && ["cgroup.procs", "cgroup.subtree_control"]
                .iter()
                .all(|name| writable(&path.join(name), Access::WRITE_OK)),
        root: !path.join("cgroup.type").exists(),
        controllers: text("cgroup.controllers"),
        enabled: text("cgroup.subtree_control"),
        processes: text("cgroup.procs"),
        path,
    }
}

fn put(group: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = group.join(file);
    // The kernel takes a value in one write.
    fs::write(&path, value).map_err(failed("write to", &path))
}

/// A group. Dropping it kills what is in it and takes it away.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    directory: OwnedFd,
}

impl Group {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How often the kernel has killed a process of it for want of memory.
    pub fn killed_for_memory(&self) -> u64 {
        let read = self.read("memory.events").unwrap_or_default();
        let count = read.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        io::read_to_string(File::from(file))
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = put(&self.path, "cgroup.kill", "1");
        // A process that has ended leaves its group a moment later.
        for _ in 0..LEAVING {
            if remove_unless_busy(&self.path) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
