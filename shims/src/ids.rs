//! Id maps (user_namespaces(7)).

use std::{fs, io, path::Path};

use crate::{errno::Errno, plan::Ids};

/// The caller's ids, outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Caller {
    pub(crate) fn current() -> Self {
        Caller {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }
}

/// What is written to the three files of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Maps {
    pub(crate) uid: String,
    pub(crate) gid: String,
    /// Must be given up before an unprivileged gid map is written.
    pub(crate) setgroups: bool,
}

impl Maps {
    /// The caller's own ids only; a process may write these for itself.
    pub(crate) fn own(ids: &Ids, caller: Caller) -> Self {
        Maps {
            uid: format!("{} {} 1\n", ids.uid, caller.uid),
            gid: format!("{} {} 1\n", ids.gid, caller.gid),
            setgroups: false,
        }
    }

    /// All ids that there are; takes CAP_SETUID outside. `None` where there is only the caller's.
    pub(crate) fn all(ids: &Ids, caller: Caller, existing: &Existing) -> Option<Self> {
        let only = |ranges: &[Range]| matches!(ranges, [(_, 1)]);
        if only(&existing.uids) && only(&existing.gids) {
            return None;
        }
        Some(Maps {
            uid: exchange(ids.uid, caller.uid, &existing.uids),
            gid: exchange(ids.gid, caller.gid, &existing.gids),
            setgroups: true,
        })
    }

    /// Writes them below `/proc/PID`; on failure tells which file.
    pub(crate) fn write(&self, process: &Path) -> Result<(), (std::path::PathBuf, Errno)> {
        let put = |name: &str, content: &str| {
            let file = process.join(name);
            write_once(&file, content).map_err(|error| (file, error.into()))
        };
        if !self.setgroups {
            put("setgroups", "deny")?;
        }
        put("uid_map", &self.uid)?;
        put("gid_map", &self.gid)
    }
}

/// The kernel takes a map in one write only.
fn write_once(file: &Path, content: &str) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(file)?;
    rustix::io::write(&file, content.as_bytes())?;
    Ok(())
}

/// First id and how many.
type Range = (u32, u32);

/// The ids of the caller's user namespace: what a container was given is not always all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Existing {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

impl Existing {
    pub(crate) fn current() -> Self {
        let ranges = |file| ranges(&fs::read_to_string(file).unwrap_or_default());
        Existing {
            uids: ranges("/proc/self/uid_map"),
            gids: ranges("/proc/self/gid_map"),
        }
    }
}

/// The inner ids of a map; without one, all.
fn ranges(map: &str) -> Vec<Range> {
    let mut ranges: Vec<Range> = map
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
            Some((numbers.next()??, numbers.nth(1)??))
        })
        .collect();
    if ranges.is_empty() {
        ranges.push((0, u32::MAX));
    }
    ranges
}

/// Every id that exists as itself, but `inside` and `outside` exchanged.
fn exchange(inside: u32, outside: u32, existing: &[Range]) -> String {
    let (low, high) = (inside.min(outside), inside.max(outside));
    let mut map = String::new();
    let mut line = |inside: u32, outside: u32, count: u32| {
        for &(first, length) in existing {
            let from = outside.max(first);
            let to = outside
                .saturating_add(count)
                .min(first.saturating_add(length));
            if from < to {
                let inside = inside + (from - outside);
                map.push_str(&format!("{inside} {from} {}\n", to - from));
            }
        }
    };
    line(0, 0, low);
    if low == high {
        line(low, low, 1);
    } else {
        line(low, high, 1);
        line(low + 1, low + 1, high - low - 1);
        line(high, low, 1);
    }
    // The last id, -1, is no id.
    line(high + 1, high + 1, u32::MAX - high - 1);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ids_are_mapped_once() {
        let all = ranges("         0          0 4294967295\n");
        assert_eq!(exchange(0, 0, &all), "0 0 1\n1 1 4294967294\n");
        assert_eq!(
            exchange(1000, 0, &all),
            "0 1000 1\n1 1 999\n1000 0 1\n1001 1001 4294966294\n"
        );
        assert_eq!(exchange(0, 1, &all), "0 1 1\n1 0 1\n2 2 4294967293\n");
    }

    /// In a container with a range of ids, mapping one that is not in it would be refused.
    #[test]
    fn ids_that_a_container_was_not_given_are_not_mapped() {
        let given = ranges("0 1000 1\n1 100000 65535\n");
        assert_eq!(exchange(0, 0, &given), "0 0 1\n1 1 65535\n");
        assert_eq!(exchange(5, 0, &given), "0 5 1\n1 1 4\n5 0 1\n6 6 65530\n");
        let ids = Ids {
            uid: 0,
            gid: 0,
            all: true,
        };
        let one = Existing {
            uids: ranges("0 1000 1\n"),
            gids: ranges("0 1000 1\n"),
        };
        assert_eq!(Maps::all(&ids, Caller { uid: 0, gid: 0 }, &one), None);
    }

    #[test]
    fn an_ordinary_caller_is_mapped_alone_and_gives_setgroups_up() {
        let ids = Ids {
            uid: 0,
            gid: 0,
            all: false,
        };
        let maps = Maps::own(
            &ids,
            Caller {
                uid: 1000,
                gid: 100,
            },
        );
        assert_eq!((&*maps.uid, &*maps.gid), ("0 1000 1\n", "0 100 1\n"));
        assert!(!maps.setgroups);
    }
}
