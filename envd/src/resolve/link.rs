//! From a set of candidates to a resolution: who is there for whom.

use std::collections::{BTreeMap, HashSet, VecDeque};

use resolvo::{Requirement as Need, SolvableId};

use super::{
    Chosen, Reason, Resolution, ResolveError, Root, explain::Asked, recommend::Recommended,
    space::Space,
};

/// Follows every need from the roots to the candidate that meets it. Keeps what is reached, since a solver may leave
/// things over that it tried on the way, and checks the solver's work while at it.
pub(super) fn link<'u>(
    space: &Space<'u>,
    roots: &[Root],
    chosen: &[SolvableId],
    recommended: &[Recommended<'u>],
) -> Result<Resolution, ResolveError> {
    let chosen: HashSet<SolvableId> = chosen.iter().copied().collect();
    let met_by = |need: Need| {
        space
            .options(need)
            .into_iter()
            .find(|id| chosen.contains(id))
    };
    let mut kept: BTreeMap<SolvableId, Chosen> = BTreeMap::new();
    let mut queue = VecDeque::new();
    let mut arrive = |id: SolvableId, reason: Reason, queue: &mut VecDeque<SolvableId>| {
        let package = kept.entry(id).or_insert_with(|| {
            queue.push_back(id);
            new_package(space, id)
        });
        match &reason {
            Reason::Requested(requirement) => package.requested.push(requirement.clone()),
            Reason::Essential => package.essential = true,
            Reason::Needed { .. } => {}
        }
        package.why.push(reason);
    };
    let inconsistent = |of: String| ResolveError::Inconsistent { of };
    for root in roots {
        let id = met_by(root.need).ok_or_else(|| inconsistent(root.asked.to_string()))?;
        let reason = match &root.asked {
            Asked::Requirement(requirement, _) => Reason::Requested(requirement.clone()),
            Asked::Essential(_) => Reason::Essential,
        };
        arrive(id, reason, &mut queue);
    }
    let mut edges: Vec<(SolvableId, SolvableId)> = Vec::new();
    while let Some(by) = queue.pop_front() {
        let solvable = space.solvable(by);
        let name = solvable.candidate.name;
        let lowered = space.lowered(by);
        for (origin, set) in &lowered.clashes {
            let possible = space.members(*set);
            let among = space.candidates(space.set_name(*set));
            if among
                .iter()
                .any(|id| chosen.contains(id) && !possible.contains(id))
            {
                return Err(inconsistent(format!(
                    "{name}: {}: {}",
                    origin.field, origin.text
                )));
            }
        }
        let also = recommended
            .iter()
            .filter(|r| r.by == by)
            .map(|r| (r.origin, r.need));
        for (origin, need) in lowered.needs.iter().copied().chain(also) {
            let id = met_by(need).ok_or_else(|| {
                inconsistent(format!("{name}: {}: {}", origin.field, origin.text))
            })?;
            if id != by {
                edges.push((by, id));
                let reason = Reason::Needed {
                    by: name.to_owned(),
                    field: origin.field,
                    clause: origin.text.to_owned(),
                };
                arrive(id, reason, &mut queue);
            }
        }
    }
    for (by, id) in edges {
        let name = kept[&id].artifact.name.clone();
        kept.entry(by)
            .and_modify(|package| package.needs.push(name));
    }
    let mut packages: Vec<Chosen> = kept.into_values().collect();
    for package in &mut packages {
        package.needs.sort_unstable();
        package.needs.dedup();
        package.requested.sort_unstable();
        package.requested.dedup();
        package.why.sort_unstable();
        package.why.dedup();
    }
    packages.sort_by(|a, b| a.artifact.name.cmp(&b.artifact.name));
    match packages
        .windows(2)
        .find(|pair| pair[0].artifact.name == pair[1].artifact.name)
    {
        Some(pair) => Err(inconsistent(format!(
            "two versions of {}",
            pair[0].artifact.name
        ))),
        None => Ok(Resolution { packages }),
    }
}

fn new_package(space: &Space<'_>, id: SolvableId) -> Chosen {
    let candidate = &space.solvable(id).candidate;
    Chosen {
        artifact: candidate.artifact(),
        channel: candidate.channel,
        suite: candidate.suite,
        installed_size: candidate.installed_size,
        requested: Vec::new(),
        essential: false,
        needs: Vec::new(),
        why: Vec::new(),
    }
}
