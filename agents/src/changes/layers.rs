//! The directories a session's project is made of, and the changes they hold.

use std::{os::fd::OwnedFd, path::Path};

use envd_store::TreePath;
use rustix::io::Errno;

use super::{
    Changes, ChangesError,
    beneath::{Directory, Found},
    scan,
};

/// The directories of a session's overlay, open.
///
/// Whoever the session was given to wrote all that is in the upper directories; the project is the owner's, and may change
/// at any time.
#[derive(Debug)]
pub struct Layers {
    /// The topmost first.
    pub(super) uppers: Vec<Directory>,
    pub(super) project: Directory,
}

/// How much is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Names met.
    pub entries: usize,
    /// Directories within each other.
    pub depth: usize,
    /// Bytes of one file. A larger one is skipped.
    pub file: u64,
    /// Bytes of all of the session's changed files.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 500_000,
            depth: 256,
            file: 1 << 30,
            bytes: 8 << 30,
        }
    }
}

/// What is looked at.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Scope {
    /// How much.
    pub limits: Limits,
    /// Also what is in `.git` directories. Without, they are named and left out: the session's own commits and index are
    /// no changes of the project.
    pub git: bool,
    /// Only these and what is below them. Everything where there is none.
    pub only: Vec<TreePath>,
}

impl Layers {
    /// Opens the directories of an overlay: the upper ones, the topmost first, and the project.
    pub fn open(
        uppers: impl IntoIterator<Item = impl AsRef<Path>>,
        project: impl AsRef<Path>,
    ) -> Result<Self, ChangesError> {
        let open = |path: &Path, what: &str| {
            Directory::open(path).map_err(|error| ChangesError::Open {
                what: format!("the {what} {}", path.display()),
                source: error.into(),
            })
        };
        Ok(Self {
            uppers: uppers
                .into_iter()
                .map(|path| open(path.as_ref(), "upper directory"))
                .collect::<Result<_, _>>()?,
            project: open(project.as_ref(), "project directory")?,
        })
    }

    /// The same of directories that are open for reading.
    pub fn of(uppers: Vec<OwnedFd>, project: OwnedFd) -> Self {
        Self {
            uppers: uppers.into_iter().map(Directory::from).collect(),
            project: project.into(),
        }
    }

    /// What the session changed.
    pub fn changes(&self, scope: &Scope) -> Result<Changes, ChangesError> {
        scan::scan(self, scope)
    }

    /// What an upper directory has at a path.
    pub(super) fn find(&self, layer: usize, path: &TreePath) -> Result<Option<Found>, Errno> {
        match self.uppers.get(layer) {
            Some(upper) => upper.look(path.as_bytes()),
            None => Ok(None),
        }
    }
}
