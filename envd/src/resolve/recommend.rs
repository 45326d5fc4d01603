//! Recommendations: what a package asked for with `+recommends` would like to have beside it.

use std::collections::BTreeSet;

use resolvo::{Requirement as Need, SolvableId, VersionSetId};

use super::{
    Root,
    solver::{Question, Scope},
    space::{Origin, Space},
};

/// A recommendation of a chosen package.
#[derive(Clone, Copy)]
pub(super) struct Recommended<'u> {
    pub(super) by: SolvableId,
    pub(super) origin: Origin<'u>,
    pub(super) need: Need,
}

/// The recommendations of the packages that answer for roots which want them.
pub(super) fn wanted<'u>(
    space: &Space<'u>,
    roots: &[Root],
    chosen: &[SolvableId],
) -> Vec<Recommended<'u>> {
    let by: BTreeSet<SolvableId> = roots
        .iter()
        .filter(|root| root.recommends)
        .filter_map(|root| {
            space
                .options(root.need)
                .into_iter()
                .find(|id| chosen.contains(id))
        })
        .collect();
    by.into_iter()
        .flat_map(|by| {
            let recommended = space.recommended(by).into_iter();
            recommended.map(move |(origin, need)| Recommended { by, origin, need })
        })
        .collect()
}

/// Adds what is recommended to what is required, and never changes what is required: those that do not fit beside it are
/// left out.
pub(super) fn add<'u>(
    space: &Space<'u>,
    needs: &[Need],
    required: Vec<SolvableId>,
    recommended: Vec<Recommended<'u>>,
) -> (Vec<SolvableId>, Vec<Recommended<'u>>) {
    let pins: Vec<VersionSetId> = required
        .iter()
        .map(|id| space.set(space.solvable(*id).name, &[*id]))
        .collect();
    let attempt = |recommended: &[Recommended<'u>]| {
        let roots: Vec<Need> = needs
            .iter()
            .copied()
            .chain(recommended.iter().map(|r| r.need))
            .collect();
        let question = Question {
            space,
            roots: &roots,
            pins: &pins,
        };
        question.solve(Scope::Whole).ok()
    };
    if let Some(chosen) = attempt(&recommended) {
        return (chosen, recommended);
    }
    let mut chosen = required;
    let mut accepted = Vec::new();
    for one in recommended {
        accepted.push(one);
        match attempt(&accepted) {
            Some(more) => chosen = more,
            None => {
                accepted.pop();
            }
        }
    }
    (chosen, accepted)
}
