//! The dealings with resolvo: the archives as its dependency provider, one question as one problem.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    fmt::Display,
};

use resolvo::{
    Candidates, Condition, ConditionId, Dependencies, DependencyProvider, Interner,
    KnownDependencies, NameId, Problem, Requirement as Need, SolvableId, Solver, SolverCache,
    StringId, UnsolvableOrCancelled, VersionSetId, VersionSetUnionId,
};

use super::space::Space;

/// One thing that is so: the unit in which a failure is explained.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Fact {
    /// The question's requirement of this index.
    Root(usize),
    /// A candidate's need of this index.
    Needs(SolvableId, usize),
    /// A candidate's exclusion of this index.
    Clashes(SolvableId, usize),
    /// A candidate cannot be used.
    Broken(SolvableId),
}

/// How much of the archives takes part.
#[derive(Clone, Copy)]
pub(super) enum Scope<'s> {
    /// Everything.
    Whole,
    /// What these candidates say; the rest has no relationships.
    Of(&'s HashSet<SolvableId>),
    /// These facts.
    Facts(&'s HashSet<Fact>),
}

/// A question to the solver.
pub(super) struct Question<'q, 'u> {
    pub(super) space: &'q Space<'u>,
    /// All of these must be met.
    pub(super) roots: &'q [Need],
    /// Sets that bind the packages they are about.
    pub(super) pins: &'q [VersionSetId],
}

/// Why there is no answer: the candidates whose relationships the solver looked at, which suffice for the contradiction.
pub(super) struct Contradiction {
    pub(super) seen: BTreeSet<SolvableId>,
}

impl Question<'_, '_> {
    /// The candidates that answer it, or what stands against.
    pub(super) fn solve(&self, scope: Scope<'_>) -> Result<Vec<SolvableId>, Contradiction> {
        let roots = self
            .roots
            .iter()
            .enumerate()
            .filter(|(at, _)| scope.has(Fact::Root(*at)))
            .map(|(_, need)| (*need).into())
            .collect();
        let mut solver = Solver::new(View {
            space: self.space,
            scope,
            seen: RefCell::default(),
        });
        let problem = Problem::new()
            .requirements(roots)
            .constraints(self.pins.to_vec());
        match solver.solve(problem) {
            Ok(chosen) => Ok(chosen),
            // The view never cancels, so this is the other one.
            Err(UnsolvableOrCancelled::Unsolvable(_) | UnsolvableOrCancelled::Cancelled(_)) => {
                Err(Contradiction {
                    seen: solver.provider().seen.take(),
                })
            }
        }
    }
}

impl Scope<'_> {
    fn has(&self, fact: Fact) -> bool {
        match (self, fact) {
            (Self::Whole, _) | (Self::Of(_), Fact::Root(_)) => true,
            (Self::Of(those), Fact::Needs(id, _) | Fact::Clashes(id, _) | Fact::Broken(id)) => {
                those.contains(&id)
            }
            (Self::Facts(facts), fact) => facts.contains(&fact),
        }
    }
}

struct View<'q, 'u> {
    space: &'q Space<'u>,
    scope: Scope<'q>,
    seen: RefCell<BTreeSet<SolvableId>>,
}

impl Interner for View<'_, '_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    // The displays serve resolvo's traces only: what people read is written by `explain`.

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        let solvable = self.space.solvable(solvable);
        format!("{} {}", solvable.candidate.name, solvable.version)
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.space.name_text(name)
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl Display + '_ {
        format!("({} versions)", self.space.members(version_set).len())
    }

    fn display_string(&self, _: StringId) -> impl Display + '_ {
        "its relationships cannot be read"
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        self.space.set_name(version_set)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.space.solvable(solvable).name
    }

    fn version_sets_in_union(
        &self,
        union: VersionSetUnionId,
    ) -> impl Iterator<Item = VersionSetId> {
        let sets = self.space.union(union);
        (0..sets.len()).map(move |at| sets[at])
    }

    fn resolve_condition(&self, _: ConditionId) -> Condition {
        unreachable!("no requirement of Debian's is conditional, and none is made here")
    }
}

impl DependencyProvider for View<'_, '_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let members = self.space.members(version_set);
        candidates
            .iter()
            .copied()
            .filter(|id| members.binary_search(id).is_ok() != inverse)
            .collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        Some(Candidates {
            candidates: self.space.candidates(name).to_vec(),
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        solvables.sort_unstable();
    }

    async fn get_dependencies(&self, id: SolvableId) -> Dependencies {
        self.seen.borrow_mut().insert(id);
        let lowered = self.space.lowered(id);
        if lowered.broken.is_some() && self.scope.has(Fact::Broken(id)) {
            return Dependencies::Unknown(StringId(0));
        }
        let needs = lowered.needs.iter().enumerate();
        let clashes = lowered.clashes.iter().enumerate();
        Dependencies::Known(KnownDependencies {
            requirements: needs
                .filter(|(at, _)| self.scope.has(Fact::Needs(id, *at)))
                .map(|(_, (_, need))| (*need).into())
                .collect(),
            constrains: clashes
                .filter(|(at, _)| self.scope.has(Fact::Clashes(id, *at)))
                .map(|(_, (_, set))| *set)
                .collect(),
        })
    }
}
