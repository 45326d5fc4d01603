//! Which paths a rule is about.

use envd_store::TreePath;
use serde::{Deserialize, Serialize};

use super::fold::fold;

/// One or more names in a row, anywhere in a path; at the top only with a leading slash. What lies below is meant too. `*` stands
/// for any part of a name. ASCII, compared as folding file systems compare.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    top: bool,
    names: Vec<String>,
}

/// A text that is no [`Pattern`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is no path pattern: it must be names with single slashes between, in ASCII (write * for other characters)"
)]
pub struct PatternError(String);

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.as_str().try_into()
    }
}

impl TryFrom<&str> for Pattern {
    type Error = PatternError;

    fn try_from(text: &str) -> Result<Self, PatternError> {
        let (top, rest) = match text.strip_prefix('/') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let names: Vec<String> = rest.split('/').map(str::to_ascii_lowercase).collect();
        let bad = |name: &String| name.is_empty() || name == "." || name == "..";
        if !text.is_ascii() || names.iter().any(bad) {
            return Err(PatternError(text.to_owned()));
        }
        Ok(Self { top, names })
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        let slash = if pattern.top { "/" } else { "" };
        format!("{slash}{}", pattern.names.join("/"))
    }
}

/// How a path stands to a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is what is meant, or lies below it.
    Within,
    /// What is meant would lie below it.
    Above,
    /// Neither.
    Apart,
}

/// A path, folded once for all patterns.
pub(super) struct Folded(Vec<Vec<u8>>);

impl Folded {
    pub(super) fn of(path: &TreePath) -> Self {
        Self(path.as_bytes().split(|&b| b == b'/').map(fold).collect())
    }

    pub(super) fn names(&self) -> &[Vec<u8>] {
        &self.0
    }
}

impl Pattern {
    pub(super) fn standing(&self, path: &Folded) -> Standing {
        let names = &path.0;
        let starts = if self.top { 1 } else { names.len() };
        let mut standing = Standing::Apart;
        for start in 0..starts {
            let row = &names[start..];
            let same = self
                .names
                .iter()
                .zip(row)
                .all(|(pattern, name)| wild(pattern.as_bytes(), name));
            if same && row.len() >= self.names.len() {
                return Standing::Within;
            }
            if same {
                standing = Standing::Above;
            }
        }
        standing
    }
}

/// Whether a name is one that a pattern with `*` stands for.
fn wild(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|&b| b == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&[u8]> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        if part.is_empty() {
            continue;
        }
        match rest.windows(part.len()).position(|window| window == part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(pattern: &str, path: &str) -> Standing {
        let path = TreePath::new(path.as_bytes()).unwrap();
        Pattern::try_from(pattern)
            .unwrap()
            .standing(&Folded::of(&path))
    }

    #[test]
    fn patterns_match_anywhere_and_all_below() {
        use Standing::{Above, Apart, Within};
        for (pattern, path, expected) in [
            (".git", ".git", Within),
            (".git", "a/.GIT/hooks/x", Within),
            (".git", ".github", Apart),
            (".github/workflows", ".github/workflows/a.yml", Within),
            (".github/workflows", "sub/.github/workflows", Within),
            (".github/workflows", ".github", Above),
            (".github/workflows", ".github/x", Apart),
            ("/.envrc", "sub/.envrc", Apart),
            ("/.envrc", ".envrc", Within),
            (".env*", ".envrc", Within),
            ("*.code-workspace", "a/b.code-workspace", Within),
            ("a*b*c", "aXbYc", Within),
            ("a*b*c", "ab", Apart),
            ("a*a", "a", Apart),
        ] {
            assert_eq!(standing(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_is_checked_when_made() {
        for bad in ["", "/", "a//b", "../x", "a/", "grün"] {
            assert!(Pattern::try_from(bad).is_err(), "{bad}");
        }
        let json = serde_json::to_string(&Pattern::try_from("/A/*.x").unwrap()).unwrap();
        assert_eq!(json, r#""/a/*.x""#);
        assert!(serde_json::from_str::<Pattern>(&json).is_ok());
    }
}
