//! What the launcher is to do for one process in one environment, as a pure function of what was asked and observed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use envd_agents::Policy;
use envd_shims::{
    Plan,
    plan::{Command, Ids, Mount, Root, Upper},
};
use sha2::{Digest as _, Sha256};

use super::{Cache, Caller, HostFacts, NameFile, RootFacts, Workplace, identity, workplace};
use crate::{config::Home, settings::HostVariables};

/// What the network is inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// The machine's.
    Shared,
    /// A loopback device and nothing else.
    None,
}

/// Everything that a plan depends on.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The environment's root.
    pub root: &'a RootFacts,
    /// The machine.
    pub host: &'a HostFacts,
    /// Who asks.
    pub caller: &'a Caller,
    /// The caller's environment variables.
    pub variables: &'a HostVariables,
    /// The project's root, if it is a project's environment.
    pub project: Option<&'a Path>,
    /// What may be written to on the machine.
    pub workplace: &'a Workplace,
    /// More directories of the machine to be written to (a work tree's repository).
    pub writable: &'a [PathBuf],
    /// Files and directories of the machine to be read.
    pub readable: &'a [PathBuf],
    /// Working directory inside. Ignored where there is no workplace.
    pub directory: &'a Path,
    /// `[env.vars]`.
    pub manifest_variables: &'a BTreeMap<String, String>,
    /// `--env`, in order.
    pub extra_variables: &'a [(String, OsString)],
    /// What the home directory is.
    pub home: Home,
    /// Tool caches, whose directories exist.
    pub caches: &'a [Cache],
    /// What the network is.
    pub network: Network,
    /// Whether the process talks to a terminal.
    pub terminal: bool,
    /// Whether it is uid 0 inside.
    pub as_root: bool,
    /// Whether it is not trusted.
    pub strict: bool,
    /// What to show in a shell's prompt, if it is to be a shell.
    pub prompt: Option<&'a str>,
    /// Program and arguments. Never empty.
    pub command: &'a [OsString],
}

impl Inputs<'_> {
    /// User id inside.
    pub(super) fn uid(&self) -> u32 {
        if self.as_root { 0 } else { self.caller.uid }
    }

    fn gid(&self) -> u32 {
        if self.as_root { 0 } else { self.caller.gid }
    }

    /// What is not trusted has no network, whatever was asked for.
    fn settled(&self) -> Self {
        let network = if self.strict {
            Network::None
        } else {
            self.network
        };
        Self { network, ..*self }
    }

    /// The shell inside.
    fn shell(&self) -> String {
        match (&self.root.own_shell, self.root.shell) {
            (Some(own), _) => own.to_string_lossy().into_owned(),
            (None, shell) => shell.unwrap_or("/bin/sh").to_owned(),
        }
    }

    /// Home directory inside: the caller's own path, unless mounting there would hide the environment's files.
    fn home(&self) -> PathBuf {
        let home = if self.as_root {
            Path::new("/root")
        } else {
            &*self.caller.home
        };
        if home != Path::new("/root") && workplace::is_system(home) {
            return Path::new("/home").join(&self.caller.name);
        }
        home.to_owned()
    }
}

/// The environment variables of a plan's command alone: for one more command where the rest of the plan is at work already.
pub fn variables(inputs: &Inputs<'_>) -> BTreeMap<String, OsString> {
    let inputs = &inputs.settled();
    super::variables::of(inputs, &inputs.home(), &inputs.shell())
}

/// The plan.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let inputs = &inputs.settled();
    let (home, shell) = (inputs.home(), inputs.shell());
    let policy = policy(inputs, &home);
    let mut mounts = system(inputs);
    accounts(inputs, &home, &shell, &mut mounts);
    names_and_time(inputs, &mut mounts);
    places(inputs, &home, &mut mounts);
    let directory = match inputs.workplace {
        Workplace::Bound(_) => inputs.directory.to_owned(),
        Workplace::Nothing => home.clone(),
    };
    let (program, arguments) = match inputs.command {
        [program, arguments @ ..] => (program.clone(), arguments.to_vec()),
        [] => (shell.clone().into(), Vec::new()),
    };
    Plan {
        root: Root::Overlay {
            lowers: vec![inputs.root.view().to_owned()],
            upper: Upper::Tmpfs {
                size: None,
                inodes: None,
            },
        },
        mounts,
        namespaces: policy.namespaces,
        ids: Ids {
            uid: inputs.uid(),
            gid: inputs.gid(),
            // An ordinary user's view of the store is all its own; other ids matter to root, and to who plays root.
            all: inputs.caller.uid == 0 || inputs.as_root,
        },
        hostname: hostname(inputs).to_owned(),
        command: Command {
            program,
            arguments,
            environment: super::variables::of(inputs, &home, &shell),
            directory,
            umask: None,
            // In a session of the caller's, `kill 0` and the terminal reach the caller.
            new_session: inputs.strict && !inputs.terminal,
            terminal: false,
        },
        privileges: policy.privileges,
        limits: policy.limits,
        processes: None,
        listen: None,
        hand_root: false,
    }
}

fn policy(inputs: &Inputs<'_>, home: &Path) -> Policy {
    if inputs.strict {
        let mut writable = vec![home.to_owned()];
        if let Workplace::Bound(directory) = inputs.workplace {
            writable.push(directory.clone());
        }
        writable.extend_from_slice(inputs.writable);
        return Policy::strict(writable);
    }
    let policy = Policy::people(inputs.uid() == 0);
    match inputs.network {
        Network::Shared => policy,
        Network::None => policy.without_network(),
    }
}

/// The kernel's file systems, and what is fresh in every environment.
fn system(inputs: &Inputs<'_>) -> Vec<Mount> {
    let tmpfs = |target: &str, mode| Mount::Tmpfs {
        target: target.into(),
        mode,
        size: None,
    };
    let directory = |target: String, mode| Mount::Directory {
        target: target.into(),
        mode,
    };
    let mut mounts = vec![
        Mount::Proc {
            target: "/proc".into(),
        },
        Mount::Devices {
            target: "/dev".into(),
        },
        tmpfs("/tmp", 0o1777),
        tmpfs("/run", 0o755),
        directory("/run/lock".to_owned(), 0o1777),
        directory("/run/user".to_owned(), 0o755),
        directory(format!("/run/user/{}", inputs.uid()), 0o700),
    ];
    if inputs.strict {
        // The policy allows writing there, which Landlock can only of what exists; a minimal root has none.
        mounts.push(directory("/var/tmp".to_owned(), 0o1777));
    }
    mounts
}

fn file(target: &str, content: String) -> Mount {
    Mount::File {
        target: target.into(),
        content,
        mode: 0o644,
    }
}

fn accounts(inputs: &Inputs<'_>, home: &Path, shell: &str, mounts: &mut Vec<Mount>) {
    let (root, caller) = (inputs.root, inputs.caller);
    // As root the caller is root, whom the table has; the caller's own line stays for the owner of its files elsewhere.
    let own_home = if inputs.as_root { &*caller.home } else { home };
    mounts.push(file(
        "/etc/passwd",
        identity::passwd(&root.passwd, caller, own_home, shell),
    ));
    mounts.push(file("/etc/group", identity::group(&root.group, caller)));
    if !root.nsswitch {
        // Without it glibc asks DNS before /etc/hosts.
        let content = "passwd: files\ngroup: files\nhosts: files dns\n".to_owned();
        mounts.push(file("/etc/nsswitch.conf", content));
    }
    mounts.push(file("/etc/machine-id", machine_id(inputs)));
    if let Some(prompt) = inputs.prompt {
        // Debian's /etc/bash.bashrc shows this in front of its prompt.
        let plain: String = prompt.chars().filter(|c| !c.is_control()).collect();
        mounts.push(file("/etc/debian_chroot", format!("{plain}\n")));
    }
}

/// machine-id(5): stable for a place of work and not the machine's, which identifies its user.
fn machine_id(inputs: &Inputs<'_>) -> String {
    let mut hasher = Sha256::new_with_prefix(b"envd machine-id\0");
    let place = match (inputs.project, inputs.workplace) {
        (Some(project), _) => project,
        (None, Workplace::Bound(directory)) => directory,
        (None, Workplace::Nothing) => Path::new(""),
    };
    hasher.update(place.as_os_str().as_encoded_bytes());
    format!("{}\n", hex::encode(&hasher.finalize()[..16]))
}

fn hostname<'a>(inputs: &Inputs<'a>) -> &'a str {
    match inputs.network {
        // On a shared network the machine's name is what resolves.
        Network::Shared => &inputs.host.hostname,
        Network::None => "envd",
    }
}

fn names_and_time(inputs: &Inputs<'_>, mounts: &mut Vec<Mount>) {
    let bind = |path: &str| Mount::Bind {
        source: path.into(),
        target: path.into(),
        read_only: true,
        optional: true,
    };
    match inputs.network {
        Network::Shared => {
            // A copy costs a third of a bind, and both keep what there was when the environment was made: programs that
            // change these files put new ones in their place.
            for (path, found) in [
                ("/etc/hosts", &inputs.host.hosts),
                ("/etc/resolv.conf", &inputs.host.resolver),
            ] {
                match found {
                    NameFile::Missing => {}
                    NameFile::Text(text) => mounts.push(file(path, text.clone())),
                    NameFile::Other => mounts.push(bind(path)),
                }
            }
        }
        Network::None => {
            let content = "127.0.0.1 localhost envd\n::1 localhost envd\n".to_owned();
            mounts.push(file("/etc/hosts", content));
        }
    }
    match &inputs.host.zone {
        // The time zone tells where someone is.
        _ if inputs.strict => {}
        Some(zone) if inputs.root.zone => mounts.push(Mount::Symlink {
            target: "/etc/localtime".into(),
            points_to: Path::new("/usr/share/zoneinfo").join(zone),
        }),
        // What there is without the file.
        Some(zone) if is_utc(zone) => {}
        _ if !inputs.root.localtime => mounts.push(bind("/etc/localtime")),
        _ => {}
    }
}

fn is_utc(zone: &str) -> bool {
    let name = zone.strip_prefix("Etc/").unwrap_or(zone);
    ["UTC", "UCT", "Universal", "Zulu"].contains(&name)
}

/// Home, caches and work: what is below something else comes after it.
fn places(inputs: &Inputs<'_>, home: &Path, mounts: &mut Vec<Mount>) {
    mounts.push(match inputs.home {
        Home::Host => Mount::Scratch {
            source: inputs.caller.home.clone(),
            target: home.to_owned(),
        },
        Home::Private | Home::Empty => Mount::Tmpfs {
            target: home.to_owned(),
            mode: 0o700,
            size: None,
        },
    });
    if inputs.home != Home::Empty {
        for cache in inputs.caches {
            let (source, target) = (cache.directory.clone(), home.join(&cache.below_home));
            mounts.push(match inputs.strict {
                // What is not trusted may use what is there and leaves nothing in it.
                true => Mount::Scratch { source, target },
                false => Mount::Bind {
                    source,
                    target,
                    read_only: false,
                    optional: false,
                },
            });
        }
    }
    let bind = |path: &PathBuf, read_only| Mount::Bind {
        source: path.clone(),
        target: path.clone(),
        read_only,
        optional: false,
    };
    mounts.extend(inputs.readable.iter().map(|path| bind(path, true)));
    mounts.extend(inputs.writable.iter().map(|path| bind(path, false)));
    if let Workplace::Bound(directory) = inputs.workplace {
        mounts.push(bind(directory, false));
    }
}

#[cfg(test)]
mod tests;
