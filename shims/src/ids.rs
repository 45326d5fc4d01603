//! Id maps (user_namespaces(7)).

use std::{fs, io, path::Path};

use crate::{errno::Errno, error::SetupError, plan::Ids};

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

    /// All ids; takes CAP_SETUID outside.
    pub(crate) fn all(ids: &Ids, caller: Caller) -> Self {
        Maps {
            uid: exchange(ids.uid, caller.uid),
            gid: exchange(ids.gid, caller.gid),
            setgroups: true,
        }
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

    /// Writes them for the calling process.
    pub(crate) fn write_own(&self) -> Result<(), SetupError> {
        self.write(Path::new("/proc/self"))
            .map_err(|(file, source)| SetupError::Maps {
                file: file.display().to_string(),
                source,
            })
    }
}

/// The kernel takes a map in one write only.
fn write_once(file: &Path, content: &str) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(file)?;
    rustix::io::write(&file, content.as_bytes())?;
    Ok(())
}

/// Every id as itself, but `inside` and `outside` exchanged.
fn exchange(inside: u32, outside: u32) -> String {
    let (low, high) = (inside.min(outside), inside.max(outside));
    let mut map = String::new();
    let mut line = |inside: u32, outside: u32, count: u32| {
        if count > 0 {
            map.push_str(&format!("{inside} {outside} {count}\n"));
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
        assert_eq!(exchange(0, 0), "0 0 1\n1 1 4294967294\n");
        assert_eq!(
            exchange(1000, 0),
            "0 1000 1\n1 1 999\n1000 0 1\n1001 1001 4294966294\n"
        );
        assert_eq!(exchange(0, 1), "0 1 1\n1 0 1\n2 2 4294967293\n");
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
