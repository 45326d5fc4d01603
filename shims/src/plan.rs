//! The plan: what the launcher is to do, as a value that prints, compares and round-trips (JSON, `envd run --print-plan`).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::text;

/// Everything about one environment and the first process in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The file system the process sees.
    pub root: Root,
    /// What is mounted over the root, in this order. Targets are absolute, inside.
    pub mounts: Vec<Mount>,
    /// Which namespaces are its own. User, mount and PID always are.
    pub namespaces: Namespaces,
    /// Who it is inside.
    pub ids: Ids,
    /// `uname -n` inside; needs `namespaces.uts`.
    pub hostname: String,
    /// The first process.
    pub command: Command,
    /// What it may do.
    pub privileges: Privileges,
    /// Resource limits (setrlimit(2)), soft and hard alike.
    pub limits: BTreeMap<Limit, u64>,
    /// Processes and threads at most in the whole environment, held by the numbers that its PID namespace gives out: up to 300
    /// more, which the kernel reserves. For who is root outside, whom [`Limit::Processes`] does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// A port of the private loopback device to listen on for the owner, who is given the socket: a way out of an environment
    /// that has no other. For environments that wait for commands, with a network namespace of their own.
    #[serde(default)]
    pub listen: Option<u16>,
    /// Whether the owner is given the environment's root, to look at its files and write them as they are inside. For
    /// environments that wait for commands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hand_root: bool,
}

/// Where `/` comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Root {
    /// An overlay over directories, topmost first, whose writes go to `upper`.
    Overlay {
        /// Lower directories, topmost first.
        #[serde(with = "text")]
        lowers: Vec<PathBuf>,
        /// Where writes go.
        upper: Upper,
    },
    /// A directory, read-only.
    ReadOnly {
        /// The directory.
        #[serde(with = "text")]
        directory: PathBuf,
    },
}

/// Where an overlay's writes go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Upper {
    /// A tmpfs inside the namespace, gone with it. What is mounted as a tmpfs without a size of its own is on it, too.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
        /// Files and directories at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inodes: Option<u64>,
    },
    /// Two directories on one file system outside.
    Directory {
        /// What was written.
        #[serde(with = "text")]
        upper: PathBuf,
        /// The overlay's own work directory, empty.
        #[serde(with = "text")]
        work: PathBuf,
    },
}

/// One thing put over the root. Missing parents of targets are made (in the upper layer).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Mount {
    /// A directory or file of the host, with what is mounted below it. Set-user-id bits have no effect below it, nor do
    /// device nodes unless the target lies in `/dev`.
    Bind {
        /// On the host.
        #[serde(with = "text")]
        source: PathBuf,
        /// Inside.
        #[serde(with = "text")]
        target: PathBuf,
        /// Without write access (applied to all that is mounted below, too).
        read_only: bool,
        /// A missing source is no error.
        optional: bool,
    },
    /// A fresh tmpfs. One without a size may be a directory of the root's own (see [`Upper::Tmpfs`]).
    Tmpfs {
        /// Inside.
        #[serde(with = "text")]
        target: PathBuf,
        /// Permissions of its root, such as `0o1777`.
        mode: u32,
        /// Bytes at most.
        size: Option<u64>,
    },
    /// An overlay of a host directory under a tmpfs: readable as it is, writes gone at the end.
    Scratch {
        /// On the host.
        #[serde(with = "text")]
        source: PathBuf,
        /// Inside.
        #[serde(with = "text")]
        target: PathBuf,
    },
    /// An overlay of host directories whose writes go to another one. Nothing in it waits for the disk (`volatile`: fsync(2) and
    /// the end of the mount do not), and a work directory serves once.
    Overlay {
        /// Lower directories on the host, topmost first.
        #[serde(with = "text")]
        lowers: Vec<PathBuf>,
        /// What was written, on the host.
        #[serde(with = "text")]
        upper: PathBuf,
        /// The overlay's own work directory, empty, on the same file system.
        #[serde(with = "text")]
        work: PathBuf,
        /// Inside.
        #[serde(with = "text")]
        target: PathBuf,
    },
    /// procfs of the new PID namespace.
    Proc {
        /// Inside, `/proc`.
        #[serde(with = "text")]
        target: PathBuf,
    },
    /// A minimal `/dev`: null, zero, full, random, urandom, tty, ptmx, pts, shm, fd links.
    Devices {
        /// Inside, `/dev`.
        #[serde(with = "text")]
        target: PathBuf,
    },
    /// What is left of `Devices` where the rest, its files, links and directories, is in a layer of the root (see
    /// [`crate::Skeleton`]): nodes, shm and pts.
    Nodes {
        /// Inside, `/dev`.
        #[serde(with = "text")]
        target: PathBuf,
    },
    /// A file with this content, in the upper layer or the mount it lies in.
    File {
        /// Inside.
        #[serde(with = "text")]
        target: PathBuf,
        /// Its content.
        content: String,
        /// Permissions.
        mode: u32,
    },
    /// A directory.
    Directory {
        /// Inside.
        #[serde(with = "text")]
        target: PathBuf,
        /// Permissions.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Inside.
        #[serde(with = "text")]
        target: PathBuf,
        /// What it points to.
        #[serde(with = "text")]
        points_to: PathBuf,
    },
}

impl Mount {
    /// Where it appears inside.
    pub fn target(&self) -> &Path {
        match self {
            Mount::Bind { target, .. }
            | Mount::Tmpfs { target, .. }
            | Mount::Scratch { target, .. }
            | Mount::Overlay { target, .. }
            | Mount::Proc { target }
            | Mount::Devices { target }
            | Mount::Nodes { target }
            | Mount::File { target, .. }
            | Mount::Directory { target, .. }
            | Mount::Symlink { target, .. } => target,
        }
    }
}

/// Which namespaces beyond user, mount and PID are private (namespaces(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Namespaces {
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Network: nothing but a loopback device that is up.
    pub net: bool,
    /// The view of the control group tree.
    pub cgroup: bool,
}

/// Who the process is, inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ids {
    /// User id inside that the caller's own appears as.
    pub uid: u32,
    /// Group id inside that the caller's own appears as.
    pub gid: u32,
    /// Map every other id too where the kernel lets us (root may); without, only the caller's.
    /// Where it does not, the launch reports [`crate::Downgrade::Ids`].
    pub all: bool,
}

/// The first process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Looked up in `environment`'s PATH, inside, unless it has a slash.
    #[serde(with = "text")]
    pub program: OsString,
    /// Arguments after the program's name.
    #[serde(with = "text")]
    pub arguments: Vec<OsString>,
    /// The whole environment.
    #[serde(with = "text")]
    pub environment: BTreeMap<String, OsString>,
    /// Working directory, inside.
    #[serde(with = "text")]
    pub directory: PathBuf,
    /// Permission bits that files are made without; the caller's own when absent.
    #[serde(default)]
    pub umask: Option<u32>,
    /// A session of its own, without the caller's terminal, even when standard input is one. Also puts the caller's
    /// process group out of reach: in a shared one, `kill 0` inside signals the caller too.
    #[serde(default)]
    pub new_session: bool,
    /// Standard input is a terminal that becomes the controlling one of a session of its own, as of a pseudoterminal that
    /// somebody else reads.
    #[serde(default)]
    pub terminal: bool,
}

/// What the process may do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Privileges {
    /// Capabilities kept in all sets, by capabilities(7) name in lower case without `CAP_`; all others leave the bounding
    /// set. They count inside only, but `sys_admin` can undo what the plan mounts read-only or over something else.
    pub capabilities: Vec<String>,
    /// Which system calls are refused.
    pub seccomp: Seccomp,
    /// Landlock (landlock(7)) restrictions, where the kernel has them.
    pub landlock: Option<Landlock>,
    /// Whether to put a listener on ownership changes (see [`crate::recorder`]).
    pub record_ownership: bool,
}

/// Which system calls are refused with EPERM (ENOSYS where programs fall back on it): the table is [`crate::seccomp`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// No filter.
    Off,
    /// For people: terminal injection, keyrings, kexec, module loading, and foreign system call tables.
    Lenient,
    /// For agents: also bpf, perf_event_open, userfaultfd, io_uring, ptrace of others, new user namespaces, mounts.
    Strict,
}

/// What Landlock confines beyond the mount namespace. Terminals and other devices need `write` on `/dev`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Landlock {
    /// Directories below which writing is allowed. Empty with `read` = `/`: a read-only world. Both empty: files are not
    /// confined.
    #[serde(with = "text")]
    pub write: Vec<PathBuf>,
    /// Directories below which reading and executing is allowed.
    #[serde(with = "text")]
    pub read: Vec<PathBuf>,
    /// Refuse connections to abstract Unix sockets of the outside.
    pub scope_abstract_sockets: bool,
    /// Refuse signals to processes of the outside.
    pub scope_signals: bool,
}

impl Landlock {
    /// Whether it says anything about files at all.
    pub fn confines_files(&self) -> bool {
        !(self.read.is_empty() && self.write.is_empty())
    }
}

/// A resource of setrlimit(2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// RLIMIT_AS, bytes.
    AddressSpace,
    /// RLIMIT_DATA, bytes: private memory that can be written to.
    Data,
    /// RLIMIT_NPROC, processes and threads of the user in the environment. The kernel exempts who is root outside.
    Processes,
    /// RLIMIT_NOFILE, descriptors.
    Descriptors,
    /// RLIMIT_FSIZE, bytes.
    FileSize,
    /// RLIMIT_CPU, seconds.
    CpuSeconds,
    /// RLIMIT_CORE, bytes.
    Core,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    pub(crate) fn plan() -> Plan {
        let strange = PathBuf::from(OsString::from_vec(b"/home/me/\xff".to_vec()));
        Plan {
            root: Root::Overlay {
                lowers: vec!["/store/views/x".into(), strange.clone()],
                upper: Upper::Tmpfs {
                    size: Some(1 << 30),
                    inodes: Some(1000),
                },
            },
            mounts: vec![
                Mount::Proc {
                    target: "/proc".into(),
                },
                Mount::Bind {
                    source: strange.clone(),
                    target: strange,
                    read_only: false,
                    optional: true,
                },
            ],
            namespaces: Namespaces {
                ipc: true,
                uts: true,
                net: false,
                cgroup: true,
            },
            ids: Ids {
                uid: 1000,
                gid: 1000,
                all: false,
            },
            hostname: "envd".to_owned(),
            command: Command {
                program: "sh".into(),
                arguments: vec![OsString::from_vec(vec![0xfe])],
                environment: BTreeMap::from([("A".to_owned(), OsString::from_vec(vec![0x80]))]),
                directory: "/".into(),
                umask: None,
                new_session: true,
                terminal: false,
            },
            privileges: Privileges {
                capabilities: vec!["chown".to_owned()],
                seccomp: Seccomp::Strict,
                landlock: Some(Landlock {
                    write: vec!["/tmp".into()],
                    read: vec!["/".into()],
                    scope_abstract_sockets: true,
                    scope_signals: true,
                }),
                record_ownership: false,
            },
            limits: BTreeMap::from([(Limit::Processes, 100)]),
            processes: Some(100),
            listen: Some(8080),
            hand_root: true,
        }
    }

    #[test]
    fn a_plan_prints_and_comes_back_even_with_names_that_are_no_text() {
        let json = serde_json::to_string_pretty(&plan()).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan());
        assert!(json.contains(r#""program": "sh""#), "{json}");
        assert!(json.contains(r#""seccomp": "strict""#), "{json}");
    }
}
