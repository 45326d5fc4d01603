//! In which order packages are configured: a function of the packages and nothing else, chosen so that one package more
//! changes little of it.
//!
//! A closure is configured as if it had been installed by three commands. First come the Essential packages and what they
//! depend on. Then those that have something to run, and what they depend on. Last the rest, whose installation runs
//! nothing: they have no scripts, nobody's triggers wait for them, and no script may count on them, since nothing that has
//! scripts depends on them. So the first two are configured without the last, and their results are shared by every closure
//! that has the same of them.
//!
//! One trigger is left out of this, `ldconfig`: every other library activates it. What it does is done for the whole root
//! at the end ([`super::configure`]).

use std::collections::{BTreeMap, BTreeSet};

use envd_store::TreePath;

use super::compose::Package;
use crate::provider::debian::deb;

/// The trigger that is served at the end, over the whole root.
pub const LDCONFIG: &str = "ldconfig";

/// The packages by number, each in one of three, in their own order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Strata {
    /// Essential packages with their dependencies. None where these cannot configure anything by themselves.
    pub first: Vec<usize>,
    /// What has something to run, with its dependencies.
    pub second: Vec<usize>,
    /// The rest.
    pub last: Vec<usize>,
}

/// Sorts the packages.
pub fn strata(packages: &[Package]) -> Strata {
    let [essential, second] = essential_and_moved(packages);
    let able = has_shell(essential.iter().map(|&at| &packages[at]));
    let first = if able { essential } else { BTreeSet::new() };
    let (second, last): (Vec<usize>, Vec<usize>) = (0..packages.len())
        .filter(|at| !first.contains(at))
        .partition(|at| second.contains(at));
    Strata {
        first: first.into_iter().collect(),
        second,
        last,
    }
}

/// The names of those that are not last, as far as control data alone tells.
pub fn likely(packages: &[Package]) -> BTreeSet<String> {
    let [_, second] = essential_and_moved(packages);
    second
        .into_iter()
        .map(|at| packages[at].name.clone())
        .collect()
}

/// The Essential packages with their dependencies, and these with all that has something to run.
fn essential_and_moved(packages: &[Package]) -> [BTreeSet<usize>; 2] {
    let relations = Relations::of(packages);
    let interests = interests(packages);
    let essential = relations.closure((0..packages.len()).filter(|&at| packages[at].essential));
    let moved = (0..packages.len()).filter(|&at| {
        let package = &packages[at];
        package.has_something_to_run() || !activations(package, &interests).is_empty()
    });
    // Scripts run over a whole system, so Essential packages are below them in any case.
    let second = relations.closure(moved.chain(essential.iter().copied()));
    [essential, second]
}

/// Whether these packages can run scripts and have them run by dpkg.
pub fn has_shell<'a>(packages: impl Iterator<Item = &'a Package> + Clone) -> bool {
    let has = |path: &str| {
        let path = TreePath::new(format!("data/{path}").as_bytes());
        path.is_ok_and(|path| {
            packages
                .clone()
                .any(|package| package.tree.get(&path).is_some())
        })
    };
    has("usr/bin/dpkg") && (has("usr/bin/sh") || has("usr/bin/dash"))
}

/// Who is interested in a trigger, by the trigger's name (deb-triggers(5)).
pub type Interests<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// All interests of these packages.
pub fn interests<'a>(packages: impl IntoIterator<Item = &'a Package>) -> Interests<'a> {
    let mut interests = Interests::new();
    for package in packages {
        for trigger in package.triggers.iter().filter(|trigger| trigger.interest) {
            interests
                .entry(&trigger.name)
                .or_default()
                .insert(&package.name);
        }
    }
    interests
}

/// The triggers that unpacking the package activates for others: those that it names, and those that are called like a path
/// that it has something at or below.
pub fn activations<'a>(package: &Package, interests: &Interests<'a>) -> BTreeSet<&'a str> {
    let of_others = |holders: &BTreeSet<&str>| holders.iter().any(|holder| *holder != package.name);
    interests
        .iter()
        .filter(|(name, holders)| **name != LDCONFIG && of_others(holders))
        .filter(|(name, _)| match name.strip_prefix('/') {
            Some(path) => has_below(package, path),
            None => package
                .triggers
                .iter()
                .any(|trigger| !trigger.interest && trigger.name == **name),
        })
        .map(|(name, _)| *name)
        .collect()
}

fn has_below(package: &Package, path: &str) -> bool {
    TreePath::new(path.trim_end_matches('/').as_bytes())
        .ok()
        .and_then(deb::merged_usr)
        .and_then(|path| TreePath::new(&[b"data/", path.as_bytes()].concat()).ok())
        .is_some_and(|path| package.tree.get(&path).is_some())
}

/// Which packages of a closure a package depends on.
struct Relations<'a> {
    packages: &'a [Package],
    /// The packages that go by a name, their own or one that they provide.
    named: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Relations<'a> {
    fn of(packages: &'a [Package]) -> Self {
        let mut named = BTreeMap::<&str, Vec<usize>>::new();
        for (at, package) in packages.iter().enumerate() {
            named.entry(&package.name).or_default().push(at);
            for provided in &package.provides {
                named.entry(provided).or_default().push(at);
            }
        }
        Self { packages, named }
    }

    /// These packages and all that they depend on: whatever goes by a name that a dependency has as an alternative.
    fn closure(&self, from: impl Iterator<Item = usize>) -> BTreeSet<usize> {
        let mut closure: BTreeSet<usize> = from.collect();
        let mut waiting: Vec<usize> = closure.iter().copied().collect();
        while let Some(at) = waiting.pop() {
            for name in &self.packages[at].depends {
                for &found in self.named.get(name.as_str()).into_iter().flatten() {
                    if closure.insert(found) {
                        waiting.push(found);
                    }
                }
            }
        }
        closure
    }
}

#[cfg(test)]
mod tests {
    use envd_store::{Entry, Meta, Tree};

    use super::*;
    use crate::realise::compose::Trigger;

    fn package(name: &str, depends: &[&str], files: &[&str]) -> Package {
        let mut builder = Tree::builder();
        for file in files {
            let path = TreePath::new(format!("data/{file}").as_bytes()).unwrap();
            builder
                .insert(path, Entry::directory(Meta::directory()))
                .unwrap();
        }
        let tree = builder.finish().unwrap();
        Package {
            id: tree.id(),
            tree,
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            control: format!("Package: {name}"),
            preinst: false,
            postinst: false,
            essential: false,
            depends: depends.iter().map(|&name| name.to_owned()).collect(),
            provides: Vec::new(),
            triggers: Vec::new(),
            placed: std::sync::OnceLock::new(),
        }
    }

    fn base() -> Package {
        Package {
            essential: true,
            ..package("base", &["c"], &["usr/bin/dpkg", "usr/bin/sh"])
        }
    }

    fn trigger(name: &str, interest: bool) -> Trigger {
        Trigger {
            name: name.to_owned(),
            interest,
            noawait: false,
        }
    }

    fn names(packages: &[Package]) -> [Vec<&str>; 3] {
        let strata = strata(packages);
        [strata.first, strata.second, strata.last].map(|numbers| {
            numbers
                .into_iter()
                .map(|at| packages[at].name.as_str())
                .collect()
        })
    }

    /// Otherwise every package added would configure everything anew.
    #[test]
    fn what_runs_nothing_and_is_needed_by_nothing_that_runs_comes_last() {
        let scripted = Package {
            postinst: true,
            ..package("service", &["library", "virtual"], &[])
        };
        let provider = Package {
            provides: vec!["virtual".to_owned()],
            ..package("provider", &[], &[])
        };
        let packages = [
            package("tree", &["c"], &[]),
            scripted,
            package("c", &[], &[]),
            package("library", &["c"], &[]),
            provider,
            base(),
        ];
        assert_eq!(
            names(&packages),
            [
                vec!["c", "base"],
                vec!["service", "library", "provider"],
                vec!["tree"]
            ]
        );
    }

    /// A script over only a part of the system would see what it never sees on Debian.
    #[test]
    fn essential_packages_without_a_shell_are_no_stratum_of_their_own() {
        let packages = [
            Package {
                essential: true,
                ..package("base", &[], &[])
            },
            package("shell", &[], &["usr/bin/dpkg", "usr/bin/sh"]),
        ];
        assert_eq!(names(&packages), [vec![], vec!["base"], vec!["shell"]]);
    }

    #[test]
    fn who_activates_a_trigger_is_not_last_but_for_that_of_libraries() {
        let holder = Package {
            triggers: vec![
                trigger("/usr/share/shells.d", true),
                trigger("certificates", true),
                trigger(LDCONFIG, true),
            ],
            ..base()
        };
        let named = Package {
            triggers: vec![trigger("certificates", false)],
            ..package("named", &[], &[])
        };
        let library = Package {
            triggers: vec![trigger(LDCONFIG, false)],
            ..package("library", &[], &[])
        };
        let packages = [
            holder,
            named,
            library,
            package("zsh", &[], &["usr/share/shells.d/zsh"]),
            package("other", &[], &["usr/share/shells"]),
        ];
        assert_eq!(
            names(&packages),
            [vec!["base"], vec!["named", "zsh"], vec!["library", "other"]]
        );
        let interests = interests(&packages);
        assert!(activations(&packages[3], &interests).contains("/usr/share/shells.d"));
    }
}
