//! Named profiles: which privileges, namespaces and limits go into a plan.

use std::{collections::BTreeMap, path::PathBuf};

use envd_shims::plan::{Landlock, Limit, Namespaces, Privileges, Seccomp};

/// What root keeps inside: enough for package managers, `chown`, `su` and low ports, nothing that reaches the kernel's own
/// settings. The same set as in container engines, so that what works there works here.
const ROOT_CAPABILITIES: [&str; 13] = [
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// The part of a plan that is policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What the process may do.
    pub privileges: Privileges,
    /// Which namespaces are its own.
    pub namespaces: Namespaces,
    /// Resource limits.
    pub limits: BTreeMap<Limit, u64>,
}

impl Policy {
    /// For people at their own work: nothing that tools need is in the way. The network is shared; debuggers, nested
    /// sandboxes and profilers work as far as the kernel lets the user. What is outside cannot be signalled, nor can its
    /// abstract sockets (X11, D-Bus) be reached, which the mount namespace does not hide.
    ///
    /// `root_inside`: the process is uid 0 inside and keeps a root's capabilities over what is mapped.
    pub fn people(root_inside: bool) -> Self {
        let kept: &[&str] = if root_inside { &ROOT_CAPABILITIES } else { &[] };
        Self {
            privileges: Privileges {
                capabilities: kept.iter().map(|&name| name.to_owned()).collect(),
                seccomp: Seccomp::Lenient,
                landlock: Some(Landlock {
                    write: Vec::new(),
                    read: Vec::new(),
                    scope_abstract_sockets: true,
                    scope_signals: true,
                }),
                record_ownership: false,
            },
            namespaces: Namespaces {
                ipc: true,
                uts: true,
                net: false,
                cgroup: false,
            },
            limits: BTreeMap::new(),
        }
    }

    /// For what is not trusted: no network, no capabilities even as uid 0, the strict system call filter, no core dumps (also
    /// none to the machine's own handler of crashes, which 0 would not keep away: core(5)), and writing only below `writable`, `/tmp`, `/var/tmp`, `/run` and `/dev`.
    pub fn strict(writable: impl IntoIterator<Item = PathBuf>) -> Self {
        let own = ["/tmp", "/var/tmp", "/run", "/dev"].map(PathBuf::from);
        let mut write: Vec<PathBuf> = writable.into_iter().chain(own).collect();
        write.sort();
        write.dedup();
        Self {
            privileges: Privileges {
                capabilities: Vec::new(),
                seccomp: Seccomp::Strict,
                landlock: Some(Landlock {
                    write,
                    read: vec!["/".into()],
                    scope_abstract_sockets: true,
                    scope_signals: true,
                }),
                record_ownership: false,
            },
            namespaces: Namespaces {
                ipc: true,
                uts: true,
                net: true,
                cgroup: true,
            },
            limits: BTreeMap::from([(Limit::Core, 1)]),
        }
    }

    /// The same with no network but its own loopback.
    pub fn without_network(mut self) -> Self {
        self.namespaces.net = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_is_never_looser_than_people() {
        let (people, strict) = (Policy::people(true), Policy::strict(["/work".into()]));
        let (people, strict) = (people.privileges, strict.privileges);
        assert!(strict.capabilities.is_empty());
        assert_eq!(
            (people.seccomp, strict.seccomp),
            (Seccomp::Lenient, Seccomp::Strict)
        );
        let landlock = strict.landlock.expect("strict confines writing");
        assert!(!landlock.write.contains(&"/".into()) && landlock.write.contains(&"/work".into()));
        assert!(landlock.scope_signals && landlock.scope_abstract_sockets);
    }

    #[test]
    fn an_ordinary_user_keeps_no_capability() {
        assert_eq!(
            Policy::people(false).privileges.capabilities,
            Vec::<String>::new()
        );
    }

    #[test]
    fn only_an_explicit_wish_or_the_strict_profile_cuts_the_network() {
        assert!(!Policy::people(false).namespaces.net);
        assert!(Policy::people(false).without_network().namespaces.net);
        assert!(Policy::strict([]).namespaces.net);
    }

    #[test]
    fn no_kept_capability_reaches_outside() {
        for name in [
            "sys_admin",
            "sys_ptrace",
            "sys_module",
            "net_admin",
            "net_raw",
            "sys_rawio",
            "dac_read_search",
        ] {
            assert!(!ROOT_CAPABILITIES.contains(&name), "{name}");
        }
    }
}
