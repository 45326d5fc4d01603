//! From what is asked for to the packages that it takes.
//!
//! [`resolve`] puts every candidate of every channel before one solver and comes back with one version of each package
//! needed. The same archives and the same request give the same answer, whatever order either is written or fetched in.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use resolvo::Requirement as Need;

use crate::{
    catalogue::Catalogue,
    provider::{Artifact, debian::architecture::Architecture},
};

mod error;
mod explain;
mod link;
mod nearest;
mod recommend;
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
use space::Space;

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
    let recommended = recommend::wanted(&space, &roots, &chosen);
    let mut accepted = Vec::new();
    if !recommended.is_empty() {
        (chosen, accepted) = recommend::add(&space, &needs, chosen, recommended);
    }
    link::link(&space, &roots, &chosen, &accepted)
}

/// One thing that has to be met.
struct Root {
    asked: Asked,
    /// Whether the recommendations of the package that meets it are wanted with it.
    recommends: bool,
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
                asked: Asked::Requirement(asked.clone(), requirement.name.clone()),
                recommends: requirement.recommends,
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
            recommends: false,
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
