//! The archives as the solver sees them: names, candidates, sets of candidates. Read on demand and remembered.
//!
//! Three decisions are made here, and nowhere else:
//!
//! * *Which candidate comes first.* A locked version, then channel by channel, newest first within a channel. A clause
//!   with several alternatives is walked the same way: what the first channel offers for any of them, in the order
//!   written, before anything of the second. So a channel listed last changes nothing that the others can do without it.
//! * *What a virtual package is.* The real package of that name, then its providers by priority and name, as apt has it.
//! * *What a version set is.* A list of candidates of one package, chosen beforehand; the solver never compares versions.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use resolvo::{NameId, Requirement as Need, SolvableId, VersionSetId, VersionSetUnionId};

use super::{
    requirement::{Constraint, Requirement},
    universe::{Candidate, MultiArch, Universe},
};
use crate::provider::debian::{
    architecture::Architecture,
    dependency::{self, Dependency, DependencyError, Qualifier},
    version::Version,
};

/// A candidate that has a place in the order.
pub(super) struct Solvable<'u> {
    pub(super) candidate: Candidate<'u>,
    pub(super) version: Version<'u>,
    pub(super) name: NameId,
    locked: bool,
}

/// Where a requirement or an exclusion of a candidate was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Origin<'u> {
    /// The field's name.
    pub(super) field: &'static str,
    /// The clause as written.
    pub(super) text: &'u str,
}

/// A candidate's relationship fields, read.
#[derive(Default)]
pub(super) struct Lowered<'u> {
    /// What it needs.
    pub(super) needs: Vec<(Origin<'u>, Need)>,
    /// What it excludes: the set is what remains possible of one package.
    pub(super) clashes: Vec<(Origin<'u>, VersionSetId)>,
    /// Why it cannot be used at all.
    pub(super) broken: Option<DependencyError>,
}

struct Set {
    name: NameId,
    /// Ascending, which is the order of preference.
    members: Rc<[SolvableId]>,
}

/// A package that provides a name, and the version that it provides it with.
type Provider<'u> = (SolvableId, Option<Version<'u>>);

#[derive(Default)]
struct State<'u> {
    names: Vec<Rc<str>>,
    name_ids: HashMap<Rc<str>, NameId>,
    candidates: HashMap<NameId, Rc<[SolvableId]>>,
    providers: HashMap<NameId, Rc<[Provider<'u>]>>,
    solvables: Vec<Rc<Solvable<'u>>>,
    sets: Vec<Set>,
    set_ids: HashMap<(NameId, Rc<[SolvableId]>), VersionSetId>,
    unions: Vec<Rc<[VersionSetId]>>,
    union_ids: HashMap<Rc<[VersionSetId]>, VersionSetUnionId>,
    clauses: HashMap<&'u str, Result<Option<Need>, DependencyError>>,
    lowered: HashMap<SolvableId, Rc<Lowered<'u>>>,
}

/// See the module.
pub(super) struct Space<'u> {
    universe: &'u dyn Universe,
    architecture: Architecture,
    locked: &'u HashMap<String, String>,
    state: RefCell<State<'u>>,
}

impl<'u> Space<'u> {
    pub(super) fn new(
        universe: &'u dyn Universe,
        architecture: Architecture,
        locked: &'u HashMap<String, String>,
    ) -> Self {
        Self {
            universe,
            architecture,
            locked,
            state: RefCell::default(),
        }
    }

    pub(super) fn name(&self, text: &str) -> NameId {
        let mut state = self.state.borrow_mut();
        if let Some(id) = state.name_ids.get(text) {
            return *id;
        }
        let id = NameId::from_raw(index(state.names.len()));
        let text: Rc<str> = text.into();
        state.names.push(Rc::clone(&text));
        state.name_ids.insert(text, id);
        id
    }

    pub(super) fn name_text(&self, id: NameId) -> Rc<str> {
        Rc::clone(&self.state.borrow().names[id.into_raw() as usize])
    }

    pub(super) fn solvable(&self, id: SolvableId) -> Rc<Solvable<'u>> {
        Rc::clone(&self.state.borrow().solvables[id.into_raw() as usize])
    }

    pub(super) fn set_name(&self, id: VersionSetId) -> NameId {
        self.state.borrow().sets[id.0 as usize].name
    }

    pub(super) fn members(&self, id: VersionSetId) -> Rc<[SolvableId]> {
        Rc::clone(&self.state.borrow().sets[id.0 as usize].members)
    }

    pub(super) fn union(&self, id: VersionSetUnionId) -> Rc<[VersionSetId]> {
        Rc::clone(&self.state.borrow().unions[id.0 as usize])
    }

    /// The candidates that satisfy `need`, first choice first.
    pub(super) fn options(&self, need: Need) -> Vec<SolvableId> {
        match need {
            Need::Single(set) => self.members(set).to_vec(),
            Need::Union(union) => {
                let sets = self.union(union);
                sets.iter()
                    .flat_map(|set| self.members(*set).to_vec())
                    .collect()
            }
        }
    }

    /// All candidates of the package, first choice first; their ids ascend.
    pub(super) fn candidates(&self, name: NameId) -> Rc<[SolvableId]> {
        if let Some(known) = self.state.borrow().candidates.get(&name) {
            return Rc::clone(known);
        }
        let text = self.name_text(name);
        let lock = self.locked.get(&*text);
        let mut found: Vec<Solvable<'u>> = self
            .universe
            .named(&text)
            .into_iter()
            .filter(|candidate| self.architecture.takes(candidate.architecture))
            // An index entry without a readable version cannot be ordered, hence not chosen.
            .filter_map(|candidate| {
                Some(Solvable {
                    version: Version::parse(candidate.version).ok()?,
                    name,
                    locked: lock.is_some_and(|version| version == candidate.version),
                    candidate,
                })
            })
            .collect();
        found.sort_by(|a, b| {
            (b.locked, a.candidate.channel)
                .cmp(&(a.locked, b.candidate.channel))
                .then_with(|| b.version.cmp(&a.version))
                .then_with(|| a.candidate.version.cmp(b.candidate.version))
                .then_with(|| a.candidate.suite.cmp(&b.candidate.suite))
                .then_with(|| a.candidate.architecture.cmp(b.candidate.architecture))
                .then_with(|| a.candidate.sha256.cmp(&b.candidate.sha256))
        });
        // The same file again, of another suite or of a channel further down.
        let mut kept: Vec<Solvable<'u>> = Vec::with_capacity(found.len());
        for solvable in found {
            let twin = |k: &Solvable<'u>| k.candidate.sha256 == solvable.candidate.sha256;
            if !kept.iter().any(twin) {
                kept.push(solvable);
            }
        }
        let mut state = self.state.borrow_mut();
        let first = state.solvables.len();
        let ids: Rc<[SolvableId]> = (first..first + kept.len())
            .map(|at| SolvableId::from_raw(index(at)))
            .collect();
        state.solvables.extend(kept.into_iter().map(Rc::new));
        state.candidates.insert(name, Rc::clone(&ids));
        ids
    }

    /// The candidates of other packages that provide the name, in order of priority and name.
    fn providers(&self, name: NameId) -> Rc<[Provider<'u>]> {
        if let Some(known) = self.state.borrow().providers.get(&name) {
            return Rc::clone(known);
        }
        let text = self.name_text(name);
        let mut names = self.universe.providing(&text);
        names.sort_unstable();
        names.dedup();
        let mut found = Vec::new();
        for provider in names {
            if *provider == *text {
                continue;
            }
            for &id in self.candidates(self.name(provider)).iter() {
                let solvable = self.solvable(id);
                // A Provides that cannot be read provides nothing; Depends of the same package say so when it is tried.
                if let Ok(Some(version)) = dependency::provided(solvable.candidate.provides, &text)
                {
                    found.push((solvable.candidate.priority, (id, version)));
                }
            }
        }
        // Stable: names stay in order within a priority.
        found.sort_by_key(|(priority, _)| *priority);
        let found: Rc<[Provider<'u>]> = found.into_iter().map(|(_, provider)| provider).collect();
        self.state
            .borrow_mut()
            .providers
            .insert(name, Rc::clone(&found));
        found
    }

    /// Whether anything of that name, or providing it, exists.
    pub(super) fn is_known(&self, name: &str) -> bool {
        let name = self.name(name);
        !self.candidates(name).is_empty() || !self.providers(name).is_empty()
    }

    /// Whether a package of exactly that name exists.
    pub(super) fn is_real(&self, name: &str) -> bool {
        !self.candidates(self.name(name)).is_empty()
    }

    /// What satisfies a person's requirement: packages of that name in every channel, before any that provide it.
    pub(super) fn requested(&self, requirement: &Requirement) -> Need {
        let name = self.name(&requirement.name);
        let constraint = &requirement.constraint;
        let mut options = self.own(name, |version| constraint.allows(version));
        let real = options.len();
        options.extend(self.providers(name).iter().filter_map(|(id, version)| {
            let fits = match version {
                Some(version) => constraint.allows(version),
                None => *constraint == Constraint::Any,
            };
            fits.then_some(*id)
        }));
        let mut ordered = options.clone();
        let place = |id: &SolvableId| {
            let solvable = self.solvable(*id);
            (!solvable.locked, solvable.candidate.channel)
        };
        ordered[..real].sort_by_key(place);
        ordered[real..].sort_by_key(place);
        self.need(name, &ordered)
    }

    /// An Essential package: the real one only.
    pub(super) fn essential(&self, name: &str) -> Need {
        let name = self.name(name);
        self.need(name, &self.own(name, |_| true))
    }

    fn own(&self, name: NameId, fits: impl Fn(&Version<'u>) -> bool) -> Vec<SolvableId> {
        self.candidates(name)
            .iter()
            .copied()
            .filter(|id| fits(&self.solvable(*id).version))
            .collect()
    }

    /// A clause of Depends and the like, or nothing where no alternative applies to the architecture.
    pub(super) fn clause(
        &self,
        field: &'static str,
        text: &'u str,
    ) -> Result<Option<Need>, DependencyError> {
        if let Some(known) = self.state.borrow().clauses.get(text) {
            return known.clone();
        }
        let lowered = dependency::parse_clause(field, text).map(|alternatives| {
            let applying: Vec<Dependency<'u>> = alternatives
                .into_iter()
                .filter(|alternative| alternative.applies_to(self.architecture))
                .collect();
            let first = applying.first()?;
            // (locked, channel) first, then the order in which alternatives and providers stand.
            let mut ordered: Vec<((bool, usize), SolvableId)> = Vec::new();
            for alternative in &applying {
                for id in self.satisfying(alternative, true) {
                    let solvable = self.solvable(id);
                    ordered.push(((!solvable.locked, solvable.candidate.channel), id));
                }
            }
            ordered.sort_by_key(|(place, _)| *place);
            let ordered: Vec<SolvableId> = ordered.into_iter().map(|(_, id)| id).collect();
            Some(self.need(self.name(first.name), &ordered))
        });
        self.state
            .borrow_mut()
            .clauses
            .insert(text, lowered.clone());
        lowered
    }

    /// The candidates that one alternative means: real ones, then providers. `qualified`: whether `:any` is to be
    /// granted by the candidate (`Multi-Arch: allowed`); an exclusion does not ask for leave.
    fn satisfying(&self, dependency: &Dependency<'u>, qualified: bool) -> Vec<SolvableId> {
        let name = self.name(dependency.name);
        let mut found = self.own(name, |version| dependency.allows(version));
        found.extend(self.providers(name).iter().filter_map(|(id, version)| {
            let fits = match (&dependency.bound, version) {
                (None, _) => true,
                (Some(_), Some(version)) => dependency.allows(version),
                (Some(_), None) => false,
            };
            fits.then_some(*id)
        }));
        if let Some(qualifier) = dependency.qualifier {
            found.retain(|id| {
                let candidate = &self.solvable(*id).candidate;
                match qualifier {
                    Qualifier::Native => true,
                    Qualifier::Any => !qualified || candidate.multi_arch == MultiArch::Allowed,
                    Qualifier::Named(named) => named == self.architecture.as_str(),
                }
            });
        }
        found
    }

    /// The requirement that is satisfied by any of `ordered`, tried in that order. `name` is for one that nothing
    /// satisfies.
    fn need(&self, name: NameId, ordered: &[SolvableId]) -> Need {
        let mut runs: Vec<(NameId, Vec<SolvableId>)> = Vec::new();
        for (at, &id) in ordered.iter().enumerate() {
            if ordered[..at].contains(&id) {
                continue;
            }
            let owner = self.solvable(id).name;
            match runs.last_mut() {
                // Ids ascend with preference within a name, so a run of one name is one set.
                Some((last, run)) if *last == owner && run.last() < Some(&id) => run.push(id),
                _ => runs.push((owner, vec![id])),
            }
        }
        if runs.is_empty() {
            return Need::Single(self.set(name, &[]));
        }
        let sets: Vec<VersionSetId> = runs
            .iter()
            .map(|(name, run)| self.set(*name, run))
            .collect();
        if let [single] = sets[..] {
            return Need::Single(single);
        }
        let mut state = self.state.borrow_mut();
        if let Some(known) = state.union_ids.get(&sets[..]) {
            return Need::Union(*known);
        }
        let sets: Rc<[VersionSetId]> = sets.into();
        let id = VersionSetUnionId(index(state.unions.len()));
        state.unions.push(Rc::clone(&sets));
        state.union_ids.insert(sets, id);
        Need::Union(id)
    }

    /// The set of these candidates of one package, in ascending order.
    pub(super) fn set(&self, name: NameId, members: &[SolvableId]) -> VersionSetId {
        let mut state = self.state.borrow_mut();
        let members: Rc<[SolvableId]> = members.into();
        let key = (name, Rc::clone(&members));
        if let Some(known) = state.set_ids.get(&key) {
            return *known;
        }
        let id = VersionSetId(index(state.sets.len()));
        state.sets.push(Set { name, members });
        state.set_ids.insert(key, id);
        id
    }

    /// The relationship fields of a candidate, read once.
    pub(super) fn lowered(&self, id: SolvableId) -> Rc<Lowered<'u>> {
        if let Some(known) = self.state.borrow().lowered.get(&id) {
            return Rc::clone(known);
        }
        let mut lowered = Lowered::default();
        if let Err(error) = self.lower(id, &mut lowered) {
            lowered = Lowered {
                broken: Some(error),
                ..Lowered::default()
            };
        }
        let lowered = Rc::new(lowered);
        self.state
            .borrow_mut()
            .lowered
            .insert(id, Rc::clone(&lowered));
        lowered
    }

    fn lower(&self, id: SolvableId, lowered: &mut Lowered<'u>) -> Result<(), DependencyError> {
        let solvable = self.solvable(id);
        let candidate = &solvable.candidate;
        for (field, value) in [
            ("Pre-Depends", candidate.pre_depends),
            ("Depends", candidate.depends),
        ] {
            for text in dependency::clauses(value) {
                if let Some(need) = self.clause(field, text)? {
                    lowered.needs.push((Origin { field, text }, need));
                }
            }
        }
        for (field, value) in [
            ("Conflicts", candidate.conflicts),
            ("Breaks", candidate.breaks),
        ] {
            for text in dependency::clauses(value) {
                for relation in dependency::parse_clause(field, text)? {
                    if relation.applies_to(self.architecture) {
                        for set in self.exclusions(solvable.name, &relation) {
                            lowered.clashes.push((Origin { field, text }, set));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What a Conflicts or Breaks of the package `by` leaves possible, a set for each package it touches. A package never
    /// excludes itself, by its name or by what it provides (Policy 7.4).
    fn exclusions(&self, by: NameId, relation: &Dependency<'u>) -> Vec<VersionSetId> {
        let mut excluded: BTreeMap<NameId, Vec<SolvableId>> = BTreeMap::new();
        for id in self.satisfying(relation, false) {
            let name = self.solvable(id).name;
            if name != by {
                excluded.entry(name).or_default().push(id);
            }
        }
        excluded
            .into_iter()
            .map(|(name, excluded)| {
                let rest: Vec<SolvableId> = self
                    .candidates(name)
                    .iter()
                    .copied()
                    .filter(|id| !excluded.contains(id))
                    .collect();
                self.set(name, &rest)
            })
            .collect()
    }

    /// The clauses of Recommends that something satisfies. One that cannot be read recommends nothing.
    pub(super) fn recommended(&self, id: SolvableId) -> Vec<(Origin<'u>, Need)> {
        let field = "Recommends";
        dependency::clauses(self.solvable(id).candidate.recommends)
            .filter_map(|text| {
                let need = self.clause(field, text).ok()??;
                (!self.options(need).is_empty()).then_some((Origin { field, text }, need))
            })
            .collect()
    }
}

/// Ids are 32 bits wide; an archive has some ten thousand packages.
fn index(length: usize) -> u32 {
    u32::try_from(length).expect("fewer than 2^32 packages")
}
