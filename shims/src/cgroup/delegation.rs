//! Where groups may be made.
//!
//! A process without privileges can only be made in a group when its maker may write to `cgroup.procs` of an ancestor that both
//! their groups have in common. So the place for ours is our own group or one above it that is ours to write. And a group
//! whose children have controllers has no processes of its own, but for the root: so it is our own only where that is the root, or
//! where nobody but us is in it and we move out of the way.

use std::path::{Path, PathBuf};

/// A controller that limits something for us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Controller {
    /// `memory`
    Memory,
    /// `pids`
    Pids,
    /// `cpu`
    Cpu,
}

impl Controller {
    /// All, in the order of their names in [`Delegation::controllers`].
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// As the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// What the kernel shows of the hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Our own group, from the mount on; empty for the mount itself.
    pub own: PathBuf,
}

impl Hierarchy {
    /// From `/proc/self/cgroup` and `/proc/self/mountinfo`. `None` where there is no hierarchy of version 2, or our group is
    /// not below what is mounted.
    pub fn parse(cgroup: &str, mountinfo: &str) -> Option<Self> {
        let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
        mountinfo.lines().find_map(|line| {
            // 36 35 98:0 /root /mount/point rw,noatime master:1 - type source options (proc_pid_mountinfo(5))
            let (before, after) = line.split_once(" - ")?;
            if after.split(' ').next() != Some("cgroup2") {
                return None;
            }
            let mut fields = before.split(' ').skip(3);
            let (root, mount) = (fields.next()?, fields.next()?);
            let own = Path::new(own).strip_prefix(root).ok()?;
            // A space or a line break in a mount point is written in octal; no cgroup is mounted there.
            let plain =
                !mount.contains('\\') && !own.components().any(|part| part.as_os_str() == "..");
            plain.then(|| Self {
                mount: mount.into(),
                own: own.into(),
            })
        })
    }

    /// Our own group and those above it, up to the mount, as paths.
    pub fn groups(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.own.ancestors().map(|group| {
            if group.as_os_str().is_empty() {
                self.mount.clone()
            } else {
                self.mount.join(group)
            }
        })
    }
}

/// What one group's files say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its path.
    pub path: PathBuf,
    /// Whether groups can be made in it and processes moved below it: the directory, `cgroup.procs` and
    /// `cgroup.subtree_control` can be written.
    pub writable: bool,
    /// Whether it is the root of the whole hierarchy, which has no `cgroup.type`.
    pub root: bool,
    /// The text of `cgroup.controllers`.
    pub controllers: String,
    /// The text of `cgroup.subtree_control`.
    pub enabled: String,
    /// The text of `cgroup.procs`.
    pub processes: String,
}

/// Where groups are to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delegation {
    /// The group in which.
    pub path: PathBuf,
    /// Controllers that groups in it have, or can have.
    pub controllers: Vec<Controller>,
    /// Those of them that are to be enabled first.
    pub to_enable: Vec<Controller>,
    /// Processes that have to move to a group of their own first: ours.
    pub to_move: Vec<u32>,
}

/// Finds the best place: the one with the most controllers, and of these the nearest. `groups` are our own group and those above
/// it; `ours` are this process and its children.
pub fn find(groups: &[Facts], ours: &[u32]) -> Option<Delegation> {
    let mut best: Option<Delegation> = None;
    for group in groups.iter().filter(|group| group.writable) {
        let Some(found) = consider(group, ours) else {
            continue;
        };
        let better = best
            .as_ref()
            .is_none_or(|best| found.controllers.len() > best.controllers.len());
        if better {
            best = Some(found);
        }
    }
    best.filter(|best| !best.controllers.is_empty())
}

fn consider(group: &Facts, ours: &[u32]) -> Option<Delegation> {
    let has = |list: &str, controller: Controller| {
        list.split_ascii_whitespace()
            .any(|name| name == controller.name())
    };
    let processes: Vec<u32> = group
        .processes
        .split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap_or(0))
        .collect();
    let to_move = match group.root {
        true => Vec::new(),
        // Whoever else is in there is not ours to move. (0 is a process of another PID namespace.)
        false if processes.iter().any(|pid| !ours.contains(pid)) => return None,
        false => processes,
    };
    let of = |list: &str| -> Vec<Controller> {
        let all = Controller::ALL.into_iter();
        all.filter(|controller| has(list, *controller)).collect()
    };
    let controllers = of(&group.controllers);
    let enabled = of(&group.enabled);
    Some(Delegation {
        path: group.path.clone(),
        to_enable: controllers
            .iter()
            .copied()
            .filter(|controller| !enabled.contains(controller))
            .collect(),
        controllers,
        to_move,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str =
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn facts(path: &str, controllers: &str, enabled: &str, processes: &str) -> Facts {
        Facts {
            path: path.into(),
            writable: true,
            root: false,
            controllers: controllers.to_owned(),
            enabled: enabled.to_owned(),
            processes: processes.to_owned(),
        }
    }

    #[test]
    fn the_hierarchy_is_found_among_older_ones() {
        let cgroup = "4:memory:/a\n1:name=systemd:/b\n0::/user.slice/session-1.scope\n";
        let mounts = "22 1 0:20 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n";
        let found = Hierarchy::parse(cgroup, mounts).unwrap();
        assert_eq!(found.mount, Path::new("/sys/fs/cgroup/unified"));
        let groups: Vec<_> = found.groups().collect();
        assert_eq!(
            groups,
            [
                "/sys/fs/cgroup/unified/user.slice/session-1.scope",
                "/sys/fs/cgroup/unified/user.slice",
                "/sys/fs/cgroup/unified"
            ]
            .map(PathBuf::from)
        );
    }

    /// Docker shows a container its own group as the root, or a part of the host's.
    #[test]
    fn a_group_beyond_what_is_mounted_is_none() {
        let own = Hierarchy::parse("0::/\n", UNIFIED).unwrap();
        assert_eq!(
            own.groups().collect::<Vec<_>>(),
            [Path::new("/sys/fs/cgroup")]
        );
        let part = UNIFIED.replace("0:26 /", "0:26 /docker/1");
        assert_eq!(Hierarchy::parse("0::/docker/2\n", &part), None);
        let below = Hierarchy::parse("0::/docker/1/x\n", &part).unwrap();
        assert_eq!(below.own, Path::new("x"));
        assert_eq!(Hierarchy::parse("0::/../elsewhere\n", UNIFIED), None);
        assert_eq!(Hierarchy::parse("4:memory:/a\n", UNIFIED), None);
        assert_eq!(
            Hierarchy::parse("0::/\n", "1 1 0:1 / / rw - ext4 /dev/a rw\n"),
            None
        );
    }

    /// A terminal below `user@1000.service`: its scope has the shell in it, and the slice above has nobody.
    #[test]
    fn below_a_users_systemd_it_is_the_slice_that_has_no_processes() {
        let groups = [
            facts("/c/app.slice/term.scope", "cpu memory pids", "", "10\n11\n"),
            facts("/c/app.slice", "cpu memory pids", "memory pids", ""),
            facts("/c", "cpu memory pids", "cpu memory pids", ""),
        ];
        let found = find(&groups, &[11]).unwrap();
        assert_eq!(found.path, Path::new("/c/app.slice"));
        assert_eq!(found.to_enable, [Controller::Cpu]);
        assert_eq!(found.to_move, [0; 0]);
    }

    #[test]
    fn a_service_of_our_own_is_taken_and_left_by_us() {
        let groups = [facts("/c/envd.service", "memory pids", "", "7\n8\n")];
        let found = find(&groups, &[7, 8]).unwrap();
        assert_eq!(found.to_move, [7, 8]);
        assert_eq!(found.controllers, [Controller::Memory, Controller::Pids]);
        assert_eq!(find(&groups, &[7]), None, "somebody else is in it");
    }

    #[test]
    fn the_root_may_have_processes() {
        let root = Facts {
            root: true,
            ..facts("/c", "cpuset cpu io memory pids", "", "1\n2\n0\n")
        };
        let found = find(&[root], &[2]).unwrap();
        assert_eq!(found.controllers, Controller::ALL);
        assert_eq!(found.to_move, [0; 0]);
    }

    /// Our own group need not be ours to write: only the one in which others are made.
    #[test]
    fn nothing_is_found_where_nothing_is_ours() {
        let mut groups = [
            facts("/c/session.scope", "memory pids", "", "10\n"),
            facts("/c", "memory pids", "memory pids", ""),
        ];
        groups[0].writable = false;
        assert_eq!(find(&groups, &[10]).unwrap().path, Path::new("/c"));
        groups[1].writable = false;
        assert_eq!(find(&groups, &[10]), None);
        let bare = [facts("/c/a", "", "", ""), facts("/c", "", "", "")];
        assert_eq!(find(&bare, &[]), None, "no controllers, no use");
    }

    #[test]
    fn more_controllers_count_for_more_than_nearness() {
        let groups = [
            facts("/c/a", "pids", "", ""),
            facts("/c", "pids memory", "pids", ""),
        ];
        assert_eq!(find(&groups, &[]).unwrap().path, Path::new("/c"));
    }
}
