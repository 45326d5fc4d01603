//! Patterns for the files of a project: `src/`, `Makefile`, `*.py`, `docs/**/*.md`.

use std::{fmt, os::unix::ffi::OsStrExt as _, path::Path};

/// Which files of a project are meant. It is relative to the project and never leaves it.
///
/// A name that is a directory's means all below it. `*` is any part of a name, `?` any one character of it, and `**` any number of
/// directories. Every other character is itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// As it is written in the file.
    written: String,
    /// Empty for the project itself.
    components: Vec<Component>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Component {
    /// This name.
    Name(String),
    /// A name with wildcards.
    Wild(String),
    /// Any number of directories.
    Any,
}

/// A text that is no pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PatternError {
    /// It is empty.
    #[error("the pattern is empty; \".\" is the whole project")]
    Empty,
    /// It leaves the project.
    #[error("{0:?} leaves the project: patterns are relative to it and without `..`")]
    Outside(String),
    /// It contains a NUL.
    #[error("{0:?} contains a NUL character")]
    Nul(String),
}

/// What a pattern says about a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    /// Neither it nor anything below it.
    No,
    /// Something below it may match.
    Below,
    /// It matches, and so does all below it.
    Yes,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.contains('\0') {
            return Err(PatternError::Nul(text.to_owned()));
        }
        let mut components = Vec::new();
        for component in text.split('/').filter(|c| !c.is_empty() && *c != ".") {
            components.push(match component {
                ".." => return Err(PatternError::Outside(text.to_owned())),
                // Twice any number is any number.
                "**" if components.last() == Some(&Component::Any) => continue,
                "**" => Component::Any,
                wild if wild.contains(['*', '?']) => Component::Wild(wild.to_owned()),
                name => Component::Name(name.to_owned()),
            });
        }
        if text.starts_with('/') {
            return Err(PatternError::Outside(text.to_owned()));
        }
        Ok(Self {
            written: text.to_owned(),
            components,
        })
    }

    /// The path that it is, when it has no wildcards. Empty for the project itself.
    pub fn literal(&self) -> Option<String> {
        let names: Option<Vec<&str>> = self
            .components
            .iter()
            .map(|component| match component {
                Component::Name(name) => Some(&**name),
                _ => None,
            })
            .collect();
        names.map(|names| names.join("/"))
    }

    /// What it says about a path of the project.
    pub fn matches(&self, path: &Path) -> Match {
        let names: Vec<&[u8]> = path
            .components()
            .map(|component| component.as_os_str().as_bytes())
            .collect();
        walk(&self.components, &names)
    }
}

/// Compares component by component. `**` is tried for every number of directories, which is quick: patterns are short.
fn walk(pattern: &[Component], names: &[&[u8]]) -> Match {
    match (pattern, names) {
        // What matches an upper directory matches all below it.
        ([], _) => Match::Yes,
        ([Component::Any], _) => Match::Yes,
        (_, []) => Match::Below,
        ([Component::Any, rest @ ..], [_, below @ ..]) => {
            match (walk(rest, names), walk(pattern, below)) {
                (Match::Yes, _) | (_, Match::Yes) => Match::Yes,
                (Match::No, Match::No) => Match::No,
                _ => Match::Below,
            }
        }
        ([Component::Name(name), rest @ ..], [first, below @ ..]) => {
            match name.as_bytes() == *first {
                true => walk(rest, below),
                false => Match::No,
            }
        }
        ([Component::Wild(wild), rest @ ..], [first, below @ ..]) => {
            match is_like(wild.as_bytes(), first) {
                true => walk(rest, below),
                false => Match::No,
            }
        }
    }
}

/// Whether a name is like a text with `*` and `?`. At most one step back for each byte of the name: no text makes it slow.
fn is_like(wild: &[u8], name: &[u8]) -> bool {
    let (mut w, mut n) = (0, 0);
    // Where the last `*` was, and how much of the name it covers so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match wild.get(w) {
            Some(b'*') => {
                star = Some((w, n));
                w += 1;
            }
            Some(b'?') => {
                w += 1;
                n += character(&name[n..]);
            }
            Some(byte) if *byte == name[n] => {
                w += 1;
                n += 1;
            }
            _ => match star {
                Some((at, covered)) => {
                    star = Some((at, covered + 1));
                    w = at + 1;
                    n = covered + 1;
                }
                None => return false,
            },
        }
    }
    wild[w..].iter().all(|byte| *byte == b'*')
}

/// Bytes of the character that a name begins with; 1 if it is none.
fn character(name: &[u8]) -> usize {
    let length = match name[0] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    length.min(name.len())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.written, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_means_what_they_mean() {
        use Match::{Below, No, Yes};
        for (pattern, path, expected) in [
            ("src/", "src", Yes),
            ("src/", "src/a/b.c", Yes),
            ("src", "srcs", No),
            ("./src", "src/x", Yes),
            ("a/b", "a", Below),
            ("a/b", "b", No),
            ("*.py", "main.py", Yes),
            ("*.py", ".py", Yes),
            ("*.py", "main.pyc", No),
            ("*.py", "lib/main.py", No),
            ("**/*.py", "main.py", Yes),
            ("**/*.py", "lib/deep/main.py", Yes),
            ("**/*.py", "lib", Below),
            ("src/**/*.c", "src/x.c", Yes),
            ("src/**/*.c", "doc/x.c", No),
            ("src/**", "src/a", Yes),
            ("a?c", "aéc", Yes),
            ("a?c", "ac", No),
            ("[id].tsx", "[id].tsx", Yes),
            (".", "anything/at/all", Yes),
            ("**", "anything", Yes),
            ("*a*b*c", "xaybzc", Yes),
            ("*a*b*c", "xaybz", No),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(
                parsed.matches(Path::new(path)),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn no_pattern_leaves_the_project() {
        for bad in ["", "/etc", "../x", "a/../../x", "a/..", "/", "a\0b"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Pattern::parse("a//./b/").unwrap().literal().unwrap(), "a/b");
        assert_eq!(Pattern::parse(".").unwrap().literal().unwrap(), "");
        assert_eq!(Pattern::parse("a/*").unwrap().literal(), None);
    }

    #[test]
    fn a_spiteful_pattern_is_not_slow() {
        let pattern = Pattern::parse(&"*a".repeat(200)).unwrap();
        let name = "a".repeat(199) + &"b".repeat(50_000);
        assert_eq!(pattern.matches(Path::new(&name)), Match::No);
    }

    proptest! {
        /// A path as a pattern matches itself and what is below it, and whatever matches is to be found from the top.
        #[test]
        fn a_path_matches_itself(path in "[a-z*?]{1,3}(/[a-z]{1,3}){0,3}", below in "[a-z]{1,3}") {
            let pattern = Pattern::parse(&path).unwrap();
            prop_assert_eq!(pattern.matches(Path::new(&path)), Match::Yes);
            let deeper = Path::new(&path).join(below);
            prop_assert_eq!(pattern.matches(&deeper), Match::Yes);
            for upper in Path::new(&path).ancestors().skip(1) {
                prop_assert_ne!(pattern.matches(upper), Match::No);
            }
        }
    }
}
