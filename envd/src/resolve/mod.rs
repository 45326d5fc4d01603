//! From what is asked for to the packages that it takes.
//!
//! [`resolve`] puts every candidate of every channel before one solver and comes back with one version of each package
//! needed. The same archives and the same request give the same answer, whatever order either is written or fetched in.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt,
};

use resolvo::{Requirement as Need, SolvableId, VersionSetId};

use crate::{
    catalogue::Catalogue,
    provider::{Artifact, debian::architecture::Architecture},
};

mod error;
mod explain;
mod nearest;
mod requirement;
mod solver;
mod space;
mod universe;
mod why;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;

pub use error::{Explanation, ResolveError, Unknown};
pub use nearest::nearest;
pub use requirement::{Bound, Constraint, Requirement, RequirementError};
pub use universe::{Candidate, MultiArch, Priority, Universe};
pub use why::{Chain, Link, Start, why};

use explain::Asked;
use solver::{Question, Scope};
use space::{Origin, Space};

/// What to resolve.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for. Order and repetition carry no meaning.
    pub requirements: Vec<Requirement>,
    /// Whether the first channel's Essential packages are to be in.
    pub essential: bool,
    /// What the packages are to run on.
    pub architecture: Architecture,
    /// Versions to prefer wherever they still do, by package name: those of a lock whose other packages an update keeps.
    pub locked: HashMap<String, String>,
}

/// What a request takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolution {
    /// The packages, sorted by name, one version of each.
    pub packages: Vec<Chosen>,
}

/// A package of a resolution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// What to fetch.
    pub artifact: Artifact,
    /// Index into [`Universe::channels`].
    pub channel: usize,
    /// Which of the channel's suites has it.
    pub suite: usize,
    /// Installed-Size, in KiB.
    pub installed_size: u64,
    /// The requirements, as they were asked for, that it answers. A short name's whole list counts.
    pub requested: Vec<Requirement>,
    /// Whether it is there as an Essential package.
    pub essential: bool,
    /// The packages of the resolution that satisfy its needs, sorted.
    pub needs: Vec<String>,
    /// Who wants it.
    pub why: Vec<Reason>,
}

/// Why a package is there: one step.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// It is asked for.
    Requested(Requirement),
    /// The first channel says that nothing works without it.
    Essential,
    /// Another package's field names it, or what it provides.
    Needed {
        /// The other package.
        by: String,
        /// `Depends`, `Pre-Depends` or `Recommends`.
        field: &'static str,
        /// The clause.
        clause: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested(requirement) => write!(f, "{requirement} is asked for"),
            Self::Essential => f.write_str("it is Essential"),
            Self::Needed { by, field, clause } => write!(f, "{by} has it in {field}: {clause}"),
        }
    }
}

/// Resolves `request` over all of `universe` at once, with envd's own short names.
pub fn resolve(universe: &dyn Universe, request: &Request) -> Result<Resolution, ResolveError> {
    resolve_with(universe, request, Catalogue::builtin())
}

/// [`resolve`] with another catalogue of short names.
pub fn resolve_with(
    universe: &dyn Universe,
    request: &Request,
    catalogue: &Catalogue,
) -> Result<Resolution, ResolveError> {
    let space = Space::new(universe, request.architecture, &request.locked);
    let roots = roots(&space, universe, request, catalogue)?;
    let needs: Vec<Need> = roots.iter().map(|root| root.need).collect();
    let question = Question {
        space: &space,
        roots: &needs,
        pins: &[],
    };
    let mut chosen = match question.solve(Scope::Whole) {
        Ok(chosen) => chosen,
        Err(_) => {
            let asked: Vec<Asked> = roots.iter().map(|root| root.asked.clone()).collect();
            let explanation = explain::explain(&question, &asked, &universe.channels());
            return Err(ResolveError::Unsatisfiable(explanation));
        }
    };
    let recommended = wanted_recommendations(&space, &roots, &chosen);
    let mut accepted = Vec::new();
    if !recommended.is_empty() {
        (chosen, accepted) = add_recommended(&space, &needs, chosen, recommended);
    }
    link(&space, &roots, &chosen, &accepted)
}

/// One thing that has to be met.
struct Root {
    asked: Asked,
    /// Whose recommendations are wanted with it, by package name.
    recommends: Option<String>,
    need: Need,
}

/// The request in the archive's own names. What does not exist in any channel ends here, all of it at once.
fn roots(
    space: &Space<'_>,
    universe: &dyn Universe,
    request: &Request,
    catalogue: &Catalogue,
) -> Result<Vec<Root>, ResolveError> {
    let asked: BTreeSet<&Requirement> = request.requirements.iter().collect();
    let mut roots = Vec::new();
    let mut unknown = Vec::new();
    let mut missing = Vec::new();
    for asked in asked {
        for requirement in in_archive_names(space, catalogue, asked) {
            if !space.is_known(&requirement.name) {
                unknown.push(Unknown {
                    requirement: asked.clone(),
                    name: requirement.name.clone(),
                    nearest: names_like(universe, catalogue, asked, &requirement.name),
                });
                continue;
            }
            let need = space.requested(&requirement);
            if space.options(need).is_empty() {
                missing.push(explain::absent(
                    space,
                    asked,
                    &requirement,
                    &universe.channels(),
                ));
            }
            roots.push(Root {
                asked: Asked::Requirement(asked.clone()),
                recommends: requirement.recommends.then(|| requirement.name.clone()),
                need,
            });
        }
    }
    if !unknown.is_empty() {
        return Err(ResolveError::Unknown(unknown));
    }
    if !missing.is_empty() {
        return Err(ResolveError::Unsatisfiable(Explanation { lines: missing }));
    }
    if request.essential {
        let names: BTreeSet<String> = universe.essential().into_iter().collect();
        roots.extend(names.into_iter().map(|name| Root {
            need: space.essential(&name),
            asked: Asked::Essential(name),
            recommends: None,
        }));
    }
    Ok(roots)
}

/// A short name's packages, unless the archive has a package of that name itself.
fn in_archive_names(
    space: &Space<'_>,
    catalogue: &Catalogue,
    asked: &Requirement,
) -> Vec<Requirement> {
    match catalogue.packages(&asked.name) {
        Some(packages) if !space.is_real(&asked.name) => packages
            .iter()
            .enumerate()
            .map(|(at, package)| Requirement {
                name: package.clone(),
                // The first package is the tool; its helpers have versions of their own (rustc and cargo).
                constraint: match at {
                    0 => asked.constraint.clone(),
                    _ => Constraint::Any,
                },
                recommends: asked.recommends,
            })
            .collect(),
        _ => vec![asked.clone()],
    }
}

/// Names near to `name`, of packages and of the catalogue, save the one that led to it.
fn names_like(
    universe: &dyn Universe,
    catalogue: &Catalogue,
    asked: &Requirement,
    name: &str,
) -> Vec<String> {
    let packages = universe.names_like(name);
    let short = catalogue.names().filter(|short| *short != asked.name);
    nearest(name, packages.iter().map(String::as_str).chain(short), 5)
}

/// A recommendation of a chosen package.
#[derive(Clone, Copy)]
struct Recommended<'u> {
    by: SolvableId,
    origin: Origin<'u>,
    need: Need,
}

fn wanted_recommendations<'u>(
    space: &Space<'u>,
    roots: &[Root],
    chosen: &[SolvableId],
) -> Vec<Recommended<'u>> {
    let names: BTreeSet<&str> = roots
        .iter()
        .filter_map(|root| root.recommends.as_deref())
        .collect();
    let mut by: Vec<SolvableId> = names
        .into_iter()
        .flat_map(|name| {
            let answers = space.requested(&Requirement {
                name: name.to_owned(),
                constraint: Constraint::Any,
                recommends: true,
            });
            // One package answers for a name; a virtual one's recommendations are its provider's.
            space
                .options(answers)
                .into_iter()
                .find(|id| chosen.contains(id))
        })
        .collect();
    by.dedup();
    by.into_iter()
        .flat_map(|by| {
            space
                .recommended(by)
                .into_iter()
                .map(move |(origin, need)| Recommended { by, origin, need })
        })
        .collect()
}

/// Adds what is recommended to what is required, and never changes what is required: those that do not fit beside it are
/// left out.
fn add_recommended<'u>(
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

/// Follows every need from the roots to the candidate that meets it. Keeps what is reached, since a solver may leave
/// things over that it tried on the way, and checks the solver's work while at it.
fn link<'u>(
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
            Asked::Requirement(requirement) => Reason::Requested(requirement.clone()),
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
