//! The Landlock domain (landlock(7)).
//!
//! What this kernel's Landlock lacks is found out before the launch and reported as a [`Downgrade`]; what it has is then
//! demanded, so that the domain is exactly what was reported or the launch fails.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};

use crate::{error::SetupError, plan::Landlock, running::Downgrade, sys};

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

    /// Opens the directories and makes the rules; called inside, for the paths are those of the environment.
    pub(crate) fn prepare(&self) -> Result<RulesetCreated, SetupError> {
        let abi = ABI::from(self.version);
        let all = AccessFs::from_all(abi);
        let failed = |what: String| SetupError::Landlock { what };
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        if self.plan.confines_files() {
            ruleset = ruleset
                .handle_access(all)
                .map_err(|error| failed(error.to_string()))?;
        }
        if self.version >= SCOPES {
            let scopes = [
                (self.plan.scope_abstract_sockets, Scope::AbstractUnixSocket),
                (self.plan.scope_signals, Scope::Signal),
            ];
            for (_, scope) in scopes.into_iter().filter(|(wanted, _)| *wanted) {
                ruleset = ruleset
                    .scope(scope)
                    .map_err(|error| failed(error.to_string()))?;
            }
        }
        let mut ruleset = ruleset
            .create()
            .map_err(|error| failed(error.to_string()))?;
        let reading = self
            .plan
            .read
            .iter()
            .map(|path| (path, AccessFs::from_read(abi)));
        let writing = self.plan.write.iter().map(|path| (path, all));
        for (path, access) in reading.chain(writing) {
            let named = |error: &dyn std::error::Error| {
                let cause = error
                    .source()
                    .map_or_else(String::new, |cause| format!(": {cause}"));
                failed(format!("{}: {error}{cause}", path.display()))
            };
            let opened = PathFd::new(path).map_err(|error| named(&error))?;
            let access = if path.is_dir() {
                access
            } else {
                access & AccessFs::from_file(abi)
            };
            ruleset = ruleset
                .add_rule(PathBeneath::new(opened, access))
                .map_err(|error| named(&error))?;
        }
        Ok(ruleset)
    }
}

/// Enters the domain; the calling thread and what it starts never leave it.
pub(crate) fn enter(ruleset: RulesetCreated) -> Result<(), SetupError> {
    ruleset
        .restrict_self()
        .map(drop)
        .map_err(|error| SetupError::Landlock {
            what: error.to_string(),
        })
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
