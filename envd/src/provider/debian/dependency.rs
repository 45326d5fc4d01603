//! Relationship fields (Depends, Provides, Conflicts, …): deb-control(5), Policy chapter 7.
//!
//! A field is clauses between commas, a clause is alternatives between bars. Splitting is free and parsing is per clause,
//! because a resolver meets the same clause (`libc6 (>= 2.34)`) in hundreds of packages and wants to read it once.

use std::{cmp::Ordering, fmt};

use super::{
    architecture::Architecture,
    version::{Version, VersionError},
};

/// How a version has to stand to the one in the parentheses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Relation {
    /// `<<`
    Earlier,
    /// `<=`, and the obsolete `<`, which means the same
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`, and the obsolete `>`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Relation {
    /// Whether it holds for a version that compares so to the bound.
    pub fn holds(self, version_to_bound: Ordering) -> bool {
        match self {
            Self::Earlier => version_to_bound.is_lt(),
            Self::EarlierOrEqual => version_to_bound.is_le(),
            Self::Equal => version_to_bound.is_eq(),
            Self::LaterOrEqual => version_to_bound.is_ge(),
            Self::Later => version_to_bound.is_gt(),
        }
    }

    /// Debian's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }

    /// Takes the relation off the front of `text`.
    fn take(text: &str) -> Option<(Self, &str)> {
        [
            ("<<", Self::Earlier),
            ("<=", Self::EarlierOrEqual),
            (">>", Self::Later),
            (">=", Self::LaterOrEqual),
            ("=", Self::Equal),
            ("<", Self::EarlierOrEqual),
            (">", Self::LaterOrEqual),
        ]
        .into_iter()
        .find_map(|(spelling, relation)| Some((relation, text.strip_prefix(spelling)?)))
    }
}

/// What stands behind the colon of `python3:any`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Qualifier<'a> {
    /// `:any`: of whatever architecture, if the package is `Multi-Arch: allowed`.
    Any,
    /// `:native`: of the architecture being built on.
    Native,
    /// A named architecture.
    Named(&'a str),
}

/// One alternative of a clause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dependency<'a> {
    /// The package, or the virtual package.
    pub name: &'a str,
    /// The architecture asked of it.
    pub qualifier: Option<Qualifier<'a>>,
    /// The versions that will do; all of them if there is none.
    pub bound: Option<(Relation, Version<'a>)>,
    /// The words between the brackets of `[amd64 !i386]`; empty if there are none.
    restriction: &'a str,
}

impl Dependency<'_> {
    /// Whether the restriction list lets this alternative count on `architecture`.
    pub fn applies_to(&self, architecture: Architecture) -> bool {
        let mut words = self.restriction.split_whitespace().peekable();
        let Some(first) = words.peek() else {
            return true;
        };
        // Policy 7.1: either every word has a bang or none has.
        if first.starts_with('!') {
            words.all(|word| !architecture.is_named_by(word.trim_start_matches('!')))
        } else {
            words.any(|word| architecture.is_named_by(word))
        }
    }

    /// Whether `version` is one that will do.
    pub fn allows(&self, version: &Version<'_>) -> bool {
        match &self.bound {
            None => true,
            Some((relation, bound)) => relation.holds(version.cmp(bound)),
        }
    }
}

impl fmt::Display for Dependency<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.qualifier {
            None => {}
            Some(Qualifier::Any) => f.write_str(":any")?,
            Some(Qualifier::Native) => f.write_str(":native")?,
            Some(Qualifier::Named(architecture)) => write!(f, ":{architecture}")?,
        }
        match self.bound {
            None => Ok(()),
            Some((relation, bound)) => write!(f, " ({} {bound})", relation.as_str()),
        }
    }
}

/// A relationship that cannot be read. The caller names the package.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {text:?} cannot be read: {problem}")]
pub struct DependencyError {
    field: &'static str,
    text: String,
    problem: Problem,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
enum Problem {
    #[error("no package name is at its start")]
    Name,
    #[error("the architecture behind ':' is empty or odd")]
    Qualifier,
    #[error("a relation is one of << <= = >= >>")]
    Relation,
    #[error("{0:?} is never closed")]
    Open(char),
    #[error("{0:?} does not belong there")]
    Trailing(String),
    #[error(transparent)]
    Version(#[from] VersionError),
}

/// The clauses of a field as they are written. Empty ones, as a trailing comma leaves behind, are skipped.
pub fn clauses(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').map(str::trim).filter(|c| !c.is_empty())
}

/// The alternatives of one clause, in the order written. `field` is the field's name, for errors.
pub fn parse_clause<'a>(
    field: &'static str,
    clause: &'a str,
) -> Result<Vec<Dependency<'a>>, DependencyError> {
    clause
        .split('|')
        .map(|alternative| {
            parse_alternative(alternative.trim()).map_err(|problem| DependencyError {
                field,
                text: clause.to_owned(),
                problem,
            })
        })
        .collect()
}

/// All clauses of a field.
pub fn parse_field<'a>(
    field: &'static str,
    text: &'a str,
) -> Result<Vec<Vec<Dependency<'a>>>, DependencyError> {
    clauses(text).map(|c| parse_clause(field, c)).collect()
}

/// What a Provides field says of `name`: not provided, provided without a version, or with one.
/// Entries for other names are passed over unread.
pub fn provided<'a>(
    provides: &'a str,
    name: &str,
) -> Result<Option<Option<Version<'a>>>, DependencyError> {
    let mut found = None;
    for clause in clauses(provides).filter(|clause| name_of(clause) == name) {
        for entry in parse_clause("Provides", clause)? {
            // Policy 7.5 allows "=" only; another relation promises no version.
            let version = match entry.bound {
                Some((Relation::Equal, version)) => Some(version),
                _ => None,
            };
            // Provided twice, the versioned mention says more.
            found = Some(found.flatten().or(version));
        }
    }
    Ok(found)
}

/// The name at the start of a clause, unchecked.
fn name_of(clause: &str) -> &str {
    let end = clause
        .bytes()
        .position(|b| !is_name_byte(b))
        .unwrap_or(clause.len());
    &clause[..end]
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// Whether `name` may name a package (Policy 5.6.7, and upper case, which old archives have).
pub fn is_package_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(is_name_byte)
}

fn parse_alternative(text: &str) -> Result<Dependency<'_>, Problem> {
    let name = name_of(text);
    if !is_package_name(name) {
        return Err(Problem::Name);
    }
    let mut rest = &text[name.len()..];
    let mut qualifier = None;
    if let Some(behind) = rest.strip_prefix(':') {
        let word = name_of(behind);
        qualifier = Some(match word {
            "" => return Err(Problem::Qualifier),
            "any" => Qualifier::Any,
            "native" => Qualifier::Native,
            named => Qualifier::Named(named),
        });
        rest = &behind[word.len()..];
    }
    let mut dependency = Dependency {
        name,
        qualifier,
        bound: None,
        restriction: "",
    };
    rest = rest.trim_start();
    if rest.starts_with('(') {
        let inside = between(&mut rest, '(', ')')?;
        let (relation, version) = Relation::take(inside).ok_or(Problem::Relation)?;
        dependency.bound = Some((relation, Version::parse(version.trim())?));
    }
    if rest.starts_with('[') {
        dependency.restriction = between(&mut rest, '[', ']')?;
    }
    // Build profiles restrict source packages only; a binary's field has no use for them.
    while rest.starts_with('<') {
        between(&mut rest, '<', '>')?;
    }
    match rest {
        "" => Ok(dependency),
        more => Err(Problem::Trailing(more.to_owned())),
    }
}

/// Takes a bracketed text off the front of `rest`, with the space behind it.
fn between<'a>(rest: &mut &'a str, open: char, close: char) -> Result<&'a str, Problem> {
    let (inside, behind) = rest[open.len_utf8()..]
        .split_once(close)
        .ok_or(Problem::Open(open))?;
    *rest = behind.trim_start();
    Ok(inside.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Dependency<'_> {
        let mut alternatives = parse_clause("Depends", text).unwrap();
        assert_eq!(alternatives.len(), 1);
        alternatives.remove(0)
    }

    #[test]
    fn every_part_of_a_clause_is_read() {
        let field = "libc6 (>= 2.34), python3:any (<< 3.12~), debconf (>= 0.5) | debconf-2.0, g++ [amd64 arm64] <!nocheck>,";
        let parsed = parse_field("Depends", field).unwrap();
        let shown: Vec<String> = parsed
            .iter()
            .map(|clause| {
                clause
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" | ")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "libc6 (>= 2.34)",
                "python3:any (<< 3.12~)",
                "debconf (>= 0.5) | debconf-2.0",
                "g++"
            ]
        );
        assert_eq!(parsed[1][0].qualifier, Some(Qualifier::Any));
    }

    #[test]
    fn spaces_and_old_spellings_mean_the_same() {
        assert_eq!(one("a(>=1)").to_string(), "a (>= 1)");
        assert_eq!(one("a  ( >= 1 )").to_string(), "a (>= 1)");
        assert_eq!(one("a (< 1)").to_string(), "a (<= 1)");
        assert_eq!(one("a (> 1)").to_string(), "a (>= 1)");
        assert_eq!(one("a:i386\n\t(= 1)").to_string(), "a:i386 (= 1)");
    }

    #[test]
    fn a_bound_admits_what_its_relation_says() {
        let admits =
            |text: &str| ["1", "2", "3"].map(|v| one(text).allows(&Version::parse(v).unwrap()));
        assert_eq!(admits("a (<< 2)"), [true, false, false]);
        assert_eq!(admits("a (<= 2)"), [true, true, false]);
        assert_eq!(admits("a (= 2)"), [false, true, false]);
        assert_eq!(admits("a (>= 2)"), [false, true, true]);
        assert_eq!(admits("a (>> 2)"), [false, false, true]);
        assert_eq!(admits("a"), [true; 3]);
    }

    #[test]
    fn restrictions_decide_by_architecture() {
        let applies = |text| one(text).applies_to(Architecture::AMD64);
        assert!(applies("a [amd64 arm64]"));
        assert!(applies("a [!i386]"));
        assert!(applies("a [linux-any]"));
        assert!(!applies("a [!amd64 !i386]"));
        assert!(!applies("a [arm64]"));
        assert!(one("a [arm64]").applies_to(Architecture::ARM64));
    }

    #[test]
    fn provides_answers_for_the_name_asked() {
        let field = "mail-transport-agent, libssl3 (= 3.5.1-1), x (>= 2), both, both (= 4)";
        let version = |name| {
            provided(field, name)
                .unwrap()
                .map(|v| v.map(|v| v.to_string()))
        };
        assert_eq!(version("libssl"), None);
        assert_eq!(version("mail-transport-agent"), Some(None));
        assert_eq!(version("libssl3"), Some(Some("3.5.1-1".to_owned())));
        assert_eq!(version("x"), Some(None));
        assert_eq!(version("both"), Some(Some("4".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_field() {
        for (text, problem) in [
            ("(>= 1)", "no package name"),
            ("a (>= 1", "'(' is never closed"),
            ("a (~ 1)", "a relation is one of"),
            ("a (>= )", "is not a Debian version"),
            ("a (>= 1_2)", "is not a Debian version"),
            ("a b", "\"b\" does not belong"),
            ("a: (>= 1)", "the architecture behind ':'"),
            ("a | | b", "no package name"),
            ("a [amd64", "'[' is never closed"),
            ("ä", "no package name"),
        ] {
            let error = parse_clause("Pre-Depends", text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("Pre-Depends: {text:?}")),
                "{error}"
            );
            assert!(error.contains(problem), "{error}");
        }
    }
}
