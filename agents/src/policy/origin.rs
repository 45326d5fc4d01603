//! Where a value of a policy comes from.

use std::{fmt, ops::Range, path::PathBuf};

/// A place in a file that people write.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file, as messages name it.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The bytes of the file that say it.
    pub bytes: (usize, usize),
}

impl Place {
    /// The bytes of the file that say it.
    pub fn span(&self) -> Range<usize> {
        self.bytes.0..self.bytes.1
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Who said it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// envd itself.
    BuiltIn,
    /// The user, in their configuration file.
    User(Place),
    /// Whoever started the server, as on the command line.
    Flag(String),
    /// The project's file.
    Project(Place),
}

impl Origin {
    /// Where in a file, if it is in one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::User(place) | Self::Project(place) => Some(place),
            Self::BuiltIn | Self::Flag(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::User(place) => write!(f, "user {place}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Project(place) => write!(f, "project {place}"),
        }
    }
}

/// A value, and who said it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said<T> {
    /// The value.
    pub value: T,
    /// Who said it.
    pub origin: Origin,
}

impl<T> Said<T> {
    /// A value of an origin.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// A value that envd itself says.
    pub fn built_in(value: T) -> Self {
        Self::new(value, Origin::BuiltIn)
    }
}
