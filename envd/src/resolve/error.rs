//! Why a request has no answer.

use std::fmt;

use super::Requirement;

/// A request without an answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResolveError {
    /// No channel has packages of these names.
    #[error("{}", lines(.0))]
    Unknown(Vec<Unknown>),
    /// The packages exist, and no choice of versions fits together.
    #[error("{0}")]
    Unsatisfiable(Explanation),
    /// The solver's answer does not stand up to being checked: a defect of envd's, not of the request.
    #[error(
        "the solver's answer leaves this unmet: {of}. This is a defect in envd: please report it with the envd.toml"
    )]
    Inconsistent {
        /// What is unmet.
        of: String,
    },
}

/// A name that no channel has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown {
    /// What was asked for.
    pub requirement: Requirement,
    /// The package that is not there: the requirement's name, or one that the catalogue has for it.
    pub name: String,
    /// Names that may have been meant, best first.
    pub nearest: Vec<String>,
}

/// The shortest chain of names and versions that shows why nothing fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// A fact each.
    pub lines: Vec<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no channel has a package {:?}", self.name)?;
        if self.name != self.requirement.name {
            write!(f, ", which {:?} stands for", self.requirement.name)?;
        }
        match &self.nearest[..] {
            [] => f.write_str("; \"envd search\" finds packages by what they do"),
            [one] => write!(f, "; did you mean {one}?"),
            [most @ .., last] => write!(f, "; did you mean {} or {last}?", most.join(", ")),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lines[..] {
            [line] => f.write_str(line),
            lines => {
                f.write_str("no choice of packages satisfies the request:")?;
                lines.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
        }
    }
}

fn lines(unknown: &[Unknown]) -> String {
    let lines: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
