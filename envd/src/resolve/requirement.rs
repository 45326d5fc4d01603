//! What a person asks for: `python3`, `python3@3.11`, `rust@>=1.85`, `pkg@>=1,<2`, `nginx+recommends`.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::provider::debian::{dependency::is_package_name, version::Version};

/// One entry of `packages`, read and valid.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Requirement {
    /// The package's, virtual package's or short name.
    pub name: String,
    /// The versions that will do.
    pub constraint: Constraint,
    /// Whether what the package recommends is wanted too.
    pub recommends: bool,
}

/// Which versions will do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Constraint {
    /// Every version.
    #[default]
    Any,
    /// `@3.11`: the versions that begin so, cut where a number or a word ends: 3.11 and 3.11.2-6, not 3.110.
    Prefix(String),
    /// `@>=1,<2`: the versions that meet every bound.
    Bounds(Vec<Bound>),
}

/// One bound of a range. Without an epoch of its own it is held against versions without their epochs, so that
/// `gcc@<13` means what it says although Debian's gcc is `4:12.2.0-3`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bound {
    operator: Operator,
    version: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Operator {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

/// A text that asks for nothing envd knows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequirementError {
    /// The prefix names an ecosystem that is not there.
    #[error(
        "{text:?} asks for a package of {provider:?}, and envd has no such provider; it knows \"debian\" \
         (\"debian:NAME\", or just \"NAME\")"
    )]
    Provider {
        /// The whole text.
        text: String,
        /// What stands before the colon.
        provider: String,
    },
    /// What should be the name is none.
    #[error(
        "{text:?} names no package: a name is letters, digits and + - . and starts with a letter or digit"
    )]
    Name {
        /// The whole text.
        text: String,
    },
    /// What follows the `@` is no constraint.
    #[error(
        "{text:?} has no version behind its '@' that can be read: {problem}. Write NAME@3.11, NAME@=3.11.2-6, \
         NAME@>=1.85 or NAME@>=1,<2"
    )]
    Constraint {
        /// The whole text.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
}

const RECOMMENDS: &str = "+recommends";

impl FromStr for Requirement {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, RequirementError> {
        let (before, constraint) = match text.split_once('@') {
            Some((before, constraint)) => (before, Some(constraint)),
            None => (text, None),
        };
        let name = match before.split_once(':') {
            None => before,
            Some(("debian", name)) => name,
            Some((provider, _)) => {
                return Err(RequirementError::Provider {
                    text: text.to_owned(),
                    provider: provider.to_owned(),
                });
            }
        };
        let (name, early) = strip_recommends(name);
        let (constraint, late) = match constraint {
            None => (None, false),
            Some(constraint) => {
                let (constraint, late) = strip_recommends(constraint);
                (Some(constraint), late)
            }
        };
        if !is_package_name(name) {
            return Err(RequirementError::Name {
                text: text.to_owned(),
            });
        }
        let constraint = match constraint {
            None => Constraint::Any,
            Some(constraint) => {
                Constraint::read(constraint).map_err(|problem| RequirementError::Constraint {
                    text: text.to_owned(),
                    problem,
                })?
            }
        };
        Ok(Self {
            name: name.to_owned(),
            constraint,
            recommends: early || late,
        })
    }
}

fn strip_recommends(text: &str) -> (&str, bool) {
    match text.strip_suffix(RECOMMENDS) {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

impl Constraint {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        if !text.contains(['<', '>', '=', ',']) {
            check_version(text)?;
            return Ok(Self::Prefix(text.to_owned()));
        }
        text.split(',')
            .map(|bound| Bound::read(bound.trim()))
            .collect::<Result<_, _>>()
            .map(Self::Bounds)
    }

    /// Whether `version` is one of those that will do.
    pub fn allows(&self, version: &Version<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => begins_with(version, prefix),
            Self::Bounds(bounds) => bounds.iter().all(|bound| bound.allows(version)),
        }
    }
}

/// Reads a version for its errors only: a [`Constraint`] owns its text.
fn check_version(text: &str) -> Result<(), String> {
    Version::parse(text)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn begins_with(version: &Version<'_>, prefix: &str) -> bool {
    let version = if prefix.contains(':') {
        version.as_str()
    } else {
        version.without_epoch()
    };
    let Some(rest) = version.strip_prefix(prefix) else {
        return false;
    };
    match (prefix.bytes().last(), rest.bytes().next()) {
        (Some(last), Some(next)) => {
            !(last.is_ascii_digit() && next.is_ascii_digit()
                || last.is_ascii_alphabetic() && next.is_ascii_alphabetic())
        }
        _ => true,
    }
}

impl Bound {
    fn read(text: &str) -> Result<Self, String> {
        // Debian's own << and >> are taken too. The longer spellings come first.
        let operators = [
            ("<<", Operator::Less),
            ("<=", Operator::LessOrEqual),
            (">>", Operator::Greater),
            (">=", Operator::GreaterOrEqual),
            ("==", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("=", Operator::Equal),
        ];
        let (operator, version) = operators
            .into_iter()
            .find_map(|(spelling, operator)| Some((operator, text.strip_prefix(spelling)?)))
            .ok_or_else(|| format!("{text:?} does not start with one of < <= = >= >"))?;
        let version = version.trim();
        check_version(version)?;
        Ok(Self {
            operator,
            version: version.to_owned(),
        })
    }

    fn allows(&self, version: &Version<'_>) -> bool {
        let Ok(bound) = Version::parse(&self.version) else {
            return false;
        };
        let order = if self.version.contains(':') {
            version.cmp(&bound)
        } else {
            version.cmp_without_epoch(&bound)
        };
        match self.operator {
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::GreaterOrEqual => order != Ordering::Less,
            Operator::Greater => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::Bounds(bounds) => {
                for (index, bound) in bounds.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let operator = match bound.operator {
                        Operator::Less => "<",
                        Operator::LessOrEqual => "<=",
                        Operator::Equal => "=",
                        Operator::GreaterOrEqual => ">=",
                        Operator::Greater => ">",
                    };
                    write!(f, "{comma}{operator}{}", bound.version)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.recommends {
            f.write_str(RECOMMENDS)?;
        }
        match &self.constraint {
            Constraint::Any => Ok(()),
            constraint => write!(f, "@{constraint}"),
        }
    }
}

impl TryFrom<String> for Requirement {
    type Error = RequirementError;

    fn try_from(text: String) -> Result<Self, RequirementError> {
        text.parse()
    }
}

impl From<Requirement> for String {
    fn from(requirement: Requirement) -> Self {
        requirement.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed<'a>(requirement: &str, versions: &[&'a str]) -> Vec<&'a str> {
        let requirement: Requirement = requirement.parse().unwrap();
        versions
            .iter()
            .copied()
            .filter(|v| requirement.constraint.allows(&Version::parse(v).unwrap()))
            .collect()
    }

    #[test]
    fn a_prefix_ends_where_a_number_ends() {
        let versions = [
            "3.1",
            "3.11",
            "3.11.2-6",
            "3.11.2-1+b1",
            "3.110-1",
            "1:3.11-1",
            "3.11~rc1-1",
            "3.12",
        ];
        assert_eq!(
            allowed("python3@3.11", &versions),
            ["3.11", "3.11.2-6", "3.11.2-1+b1", "1:3.11-1", "3.11~rc1-1"]
        );
        assert_eq!(allowed("python3@3.11.2-6", &versions), ["3.11.2-6"]);
        assert_eq!(
            allowed("openssl@1.1.1", &["1.1.1w-0", "1.1.10-1"]),
            ["1.1.1w-0"]
        );
        assert_eq!(
            allowed("gcc@4:12.2", &["4:12.2.0-3", "5:12.2.0-3", "12.2.0-3"]),
            ["4:12.2.0-3"]
        );
    }

    #[test]
    fn bounds_ignore_an_epoch_that_nobody_wrote() {
        let gcc = ["4:12.2.0-3", "4:14.2.0-1"];
        assert_eq!(allowed("gcc@<13", &gcc), ["4:12.2.0-3"]);
        assert_eq!(allowed("gcc@>=13", &gcc), ["4:14.2.0-1"]);
        assert_eq!(allowed("gcc@=4:12.2.0-3", &gcc), ["4:12.2.0-3"]);
        assert_eq!(allowed("gcc@=12.2.0-3", &gcc), ["4:12.2.0-3"]);
        assert_eq!(allowed("gcc@>=5:0", &gcc), [""; 0]);
        assert_eq!(
            allowed("rust@>=1.85", &["1.63.0+dfsg1-2", "1.85.0+dfsg3-1"]),
            ["1.85.0+dfsg3-1"]
        );
        assert_eq!(
            allowed("pkg@>=1,<2", &["0.9", "1", "1.9", "2", "2~rc1"]),
            ["1", "1.9", "2~rc1"]
        );
        assert_eq!(
            allowed("pkg@>1,<=2", &["1", "1.1", "2", "2.1"]),
            ["1.1", "2"]
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        for (text, shown) in [
            ("python3", "python3"),
            ("debian:python3@3.11", "python3@3.11"),
            ("g++@>= 12 , <13", "g++@>=12,<13"),
            ("nginx+recommends", "nginx+recommends"),
            ("nginx@1.22+recommends", "nginx+recommends@1.22"),
            ("nginx+recommends@1.22", "nginx+recommends@1.22"),
            ("a@=1+recommends", "a+recommends@=1"),
            ("a@<<2", "a@<2"),
        ] {
            let requirement: Requirement = text.parse().unwrap();
            assert_eq!(requirement.to_string(), shown);
            assert_eq!(shown.parse::<Requirement>().unwrap(), requirement);
        }
    }

    #[test]
    fn nonsense_says_what_is_wrong_with_it() {
        let error = |text: &str| text.parse::<Requirement>().unwrap_err().to_string();
        assert!(error("npm:node@22").contains("no such provider"));
        assert!(error("npm:node@22").contains("\"npm\""));
        assert!(error("python3:amd64").contains("\"python3\""));
        assert!(error("@3").contains("names no package"));
        assert!(error("a b").contains("names no package"));
        assert!(error("").contains("names no package"));
        assert!(error("a@").contains("it is empty"));
        assert!(error("a@1_2").contains("\"1_2\" is not a Debian version"));
        assert!(error("a@>=").contains("\"\" is not a Debian version"));
        assert!(error("a@>=1,2").contains("\"2\" does not start with one of"));
        assert!(error("a@>=1,").contains("\"\" does not start with one of"));
    }
}
