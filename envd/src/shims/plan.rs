//! What is to be done in a directory of shims, as data.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

/// What was found under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The shim as this envd makes it.
    Current,
    /// One of another envd.
    Old,
    /// Something else.
    Foreign,
}

/// What is to be done in a directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Names to be made.
    pub make: Vec<OsString>,
    /// Names whose shim is of another envd.
    pub replace: Vec<OsString>,
    /// Shims of commands that are no longer offered.
    pub remove: Vec<OsString>,
    /// Wanted names that are somebody else's.
    pub foreign: Vec<OsString>,
}

impl Plan {
    /// From what was found to a shim for each wanted name, and no other.
    pub fn between(found: &BTreeMap<OsString, Found>, wanted: &BTreeSet<OsString>) -> Self {
        let mut plan = Self::default();
        for name in wanted {
            match found.get(name) {
                None => plan.make.push(name.clone()),
                Some(Found::Current) => {}
                Some(Found::Old) => plan.replace.push(name.clone()),
                Some(Found::Foreign) => plan.foreign.push(name.clone()),
            }
        }
        plan.remove = found
            .iter()
            .filter(|(name, found)| **found != Found::Foreign && !wanted.contains(*name))
            .map(|(name, _)| name.clone())
            .collect();
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<OsString> {
        names.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_is_right_stays_and_what_is_somebody_elses_is_not_touched() {
        let found = [
            ("cc", Found::Current),
            ("gcc", Found::Old),
            ("gone", Found::Current),
            ("gone-old", Found::Old),
            ("mine", Found::Foreign),
            ("notes", Found::Foreign),
        ];
        let found = found.map(|(name, found)| (name.into(), found)).into();
        let wanted = names(&["cc", "gcc", "make", "mine"]).into_iter().collect();
        let plan = Plan::between(&found, &wanted);
        assert_eq!(
            plan,
            Plan {
                make: names(&["make"]),
                replace: names(&["gcc"]),
                remove: names(&["gone", "gone-old"]),
                foreign: names(&["mine"]),
            }
        );
    }
}
