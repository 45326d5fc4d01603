//! Random archives: whatever is returned holds, and holds whatever order the index is read in; and what is refused could
//! not have been had.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{
    Candidate, Resolution, ResolveError, Universe, resolve_with,
    toy::{Toy, request},
};
use crate::{
    catalogue::Catalogue,
    provider::debian::{
        dependency::{self, Dependency},
        version::Version,
    },
};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const VIRTUAL: [&str; 2] = ["v", "w"];

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => proptest::sample::select(&NAMES), 1 => proptest::sample::select(&VIRTUAL)]
}

fn relation() -> impl Strategy<Value = String> {
    let bound = prop_oneof![
        3 => Just(String::new()),
        2 => (proptest::sample::select(&["<<", "<=", "=", ">=", ">>"]), 1..4_u8)
            .prop_map(|(relation, version)| format!(" ({relation} {version})")),
    ];
    (name(), bound).prop_map(|(name, bound)| format!("{name}{bound}"))
}

fn field(
    clauses: std::ops::Range<usize>,
    alternatives: std::ops::Range<usize>,
) -> impl Strategy<Value = String> {
    let clause = proptest::collection::vec(relation(), alternatives).prop_map(|a| a.join(" | "));
    proptest::collection::vec(clause, clauses).prop_map(|c| c.join(", "))
}

fn package() -> impl Strategy<Value = (usize, String)> {
    let provides = prop_oneof![
        3 => Just(String::new()),
        1 => proptest::sample::select(&VIRTUAL).prop_map(str::to_owned),
        1 => (proptest::sample::select(&VIRTUAL), 1..4_u8).prop_map(|(name, v)| format!("{name} (= {v})")),
    ];
    let name = proptest::sample::select(&NAMES);
    (name, 1..4_u8, field(0..3, 1..3), field(0..2, 1..2), provides, 0..2_usize).prop_map(
        |(name, version, depends, conflicts, provides, channel)| {
            let text = format!(
                "Package: {name}\nVersion: {version}\nDepends: {depends}\nConflicts: {conflicts}\nProvides: {provides}\n"
            );
            (channel, text)
        },
    )
}

fn archive() -> impl Strategy<Value = String> {
    proptest::collection::vec(package(), 1..16).prop_map(|packages| {
        let of = |wanted| {
            let texts = packages.iter().filter(|(channel, _)| *channel == wanted);
            texts
                .map(|(_, text)| format!("{text}\n"))
                .collect::<String>()
        };
        format!(
            "Channel: debian:one\n\n{}Channel: debian:two\n\n{}",
            of(0),
            of(1)
        )
    })
}

/// Whether `candidate` is or provides what `dependency` wants. Written apart from the solver, from Policy.
fn meets(candidate: &Candidate<'_>, dependency: &Dependency<'_>) -> bool {
    if candidate.name == dependency.name
        && dependency.allows(&Version::parse(candidate.version).unwrap())
    {
        return true;
    }
    match dependency::provided(candidate.provides, dependency.name).unwrap() {
        None => false,
        Some(None) => dependency.bound.is_none(),
        Some(Some(version)) => dependency.allows(&version),
    }
}

/// What is wrong with a set of packages.
fn flaw(packages: &[Candidate<'_>], asked: &[&str]) -> Option<String> {
    for name in asked {
        let dependency = dependency::parse_clause("asked", name).unwrap();
        if !packages.iter().any(|p| meets(p, &dependency[0])) {
            return Some(format!("{name} is not there"));
        }
    }
    for package in packages {
        for clause in dependency::parse_field("Depends", package.depends).unwrap() {
            if !clause.iter().any(|d| packages.iter().any(|p| meets(p, d))) {
                return Some(format!("{} lacks {clause:?}", package.name));
            }
        }
        for clause in dependency::parse_field("Conflicts", package.conflicts).unwrap() {
            let others = packages.iter().filter(|p| p.name != package.name);
            if let Some(other) = others.into_iter().find(|p| meets(p, &clause[0])) {
                return Some(format!("{} conflicts with {}", package.name, other.name));
            }
        }
    }
    None
}

/// Whether any choice of at most one version a name does: by trying them all.
fn is_possible(toy: &Toy, asked: &[&str]) -> bool {
    let mut versions: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    for candidate in toy.all() {
        versions.entry(candidate.name).or_default().push(candidate);
    }
    let mut choices: Vec<Vec<Candidate<'_>>> = vec![Vec::new()];
    for candidates in versions.values() {
        let with: Vec<_> = choices
            .iter()
            .flat_map(|choice| candidates.iter().map(|c| [&choice[..], &[*c]].concat()))
            .collect();
        choices.extend(with);
    }
    choices.iter().any(|choice| flaw(choice, asked).is_none())
}

fn candidates<'u>(toy: &'u Toy, resolution: &Resolution) -> Vec<Candidate<'u>> {
    let chosen = resolution.packages.iter().map(|package| {
        let of_name = toy.named(&package.artifact.name);
        *of_name
            .iter()
            .find(|c| c.sha256 == package.artifact.sha256)
            .unwrap()
    });
    chosen.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_hold_and_refusals_are_right(
        text in archive(),
        asked in proptest::collection::btree_set(name(), 1..3),
        seed in any::<u64>(),
    ) {
        let asked: Vec<&str> = asked.into_iter().collect();
        let catalogue = Catalogue::default();
        let toy = Toy::new(&text);
        let answer = resolve_with(&toy, &request(&asked), &catalogue);
        let again = resolve_with(&Toy::new(&text).shuffled(seed), &request(&asked), &catalogue);
        prop_assert_eq!(&answer, &again);
        match answer {
            Ok(resolution) => {
                let packages = candidates(&toy, &resolution);
                prop_assert_eq!(flaw(&packages, &asked), None);
                for package in &resolution.packages {
                    prop_assert!(!package.why.is_empty(), "{:?} is there for nothing", package);
                }
            }
            Err(error) => {
                prop_assert!(!is_possible(&toy, &asked), "{}", error);
                prop_assert!(!matches!(error, ResolveError::Inconsistent { .. }), "{}", error);
            }
        }
    }
}
