//! The Landlock domain (landlock(7)).
//!
//! What this kernel's Landlock lacks is found out before the launch and reported as a [`Downgrade`]; what it has is then
//! demanded, so that the domain is exactly what was reported or the launch fails.

use std::path::Path;

use landlock::{ABI, Access, AccessFs, Scope};

use crate::{plan::Landlock, running::Downgrade, sys};

/// What each version added, of what a plan can ask for.
const ADDED: [(i32, &str); 4] = [
    (1, "files"),
    (2, "moving files between directories"),
    (3, "truncating files"),
    (5, "device ioctls"),
];

/// The version that scopes came with.
const SCOPES: i32 = 6;

/// A domain that this kernel can enforce.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    plan: Landlock,
    version: i32,
}

impl Domain {
    /// Adapts what is asked for to the kernel, with what it cannot do.
    pub(crate) fn new(plan: &Landlock) -> (Option<Self>, Vec<Downgrade>) {
        Self::for_version(plan, sys::landlock_version())
    }

    fn for_version(plan: &Landlock, version: i32) -> (Option<Self>, Vec<Downgrade>) {
        let mut missing: Vec<&str> = ADDED
            .iter()
            .filter(|(since, _)| plan.confines_files() && version < *since)
            .map(|(_, what)| *what)
            .collect();
        if version < SCOPES {
            missing.extend(plan.scope_abstract_sockets.then_some("abstract sockets"));
            missing.extend(plan.scope_signals.then_some("signals"));
        }
        let downgrades = missing
            .into_iter()
            .map(|what| Downgrade::Landlock {
                version,
                unenforced: what.to_owned(),
            })
            .collect();
        // A domain that confines no files costs nothing at each opening and leaves mount(2) to what is inside.
        let needed = if plan.confines_files() { 1 } else { SCOPES };
        let domain = (version >= needed).then(|| Domain {
            plan: plan.clone(),
            version,
        });
        (domain, downgrades)
    }

    /// What of files is confined, as bits of landlock(7).
    pub(crate) fn files(&self) -> u64 {
        match self.plan.confines_files() {
            true => AccessFs::from_all(self.abi()).bits(),
            false => 0,
        }
    }

    /// What is confined to the domain, as bits of landlock(7).
    pub(crate) fn scopes(&self) -> u64 {
        if self.version < SCOPES {
            return 0;
        }
        let scopes = [
            (self.plan.scope_abstract_sockets, Scope::AbstractUnixSocket),
            (self.plan.scope_signals, Scope::Signal),
        ];
        let wanted = scopes.into_iter().filter(|(wanted, _)| *wanted);
        wanted.fold(0, |all, (_, scope)| all | scope as u64)
    }

    /// What is allowed, and where. The paths are those of the environment.
    pub(crate) fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        let (abi, plan) = (self.abi(), &self.plan);
        let reading = plan
            .read
            .iter()
            .map(move |path| (path, AccessFs::from_read(abi)));
        let writing = plan
            .write
            .iter()
            .map(move |path| (path, AccessFs::from_all(abi)));
        reading.chain(writing).map(move |(path, access)| Rule {
            path,
            access: access.bits(),
            file_access: (access & AccessFs::from_file(abi)).bits(),
        })
    }

    fn abi(&self) -> ABI {
        ABI::from(self.version)
    }
}

/// What is allowed below a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'r> {
    pub(crate) path: &'r Path,
    /// Bits of landlock(7).
    pub(crate) access: u64,
    /// Those of them that make sense where the path is a file.
    pub(crate) file_access: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_lacks_is_said() {
        let plan = Landlock {
            write: vec![],
            read: vec!["/".into()],
            scope_abstract_sockets: true,
            scope_signals: false,
        };
        let (domain, downgrades) = Domain::for_version(&plan, 0);
        assert!(domain.is_none());
        assert_eq!(downgrades.len(), 5);
        let (domain, downgrades) = Domain::for_version(&plan, 5);
        assert!(domain.is_some());
        assert_eq!(downgrades.len(), 1, "{downgrades:?}");
        assert!(Domain::for_version(&plan, 6).1.is_empty());
    }
}
