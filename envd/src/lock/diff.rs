//! What a new lock changes, for people.

use std::fmt;

use super::{Lock, LockedArtifact};

/// The packages that differ between two locks, sorted by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diff {
    /// Changes, one a package.
    pub changes: Vec<Change>,
}

/// What became of a package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is new.
    Added {
        /// Package.
        name: String,
        /// Version.
        version: String,
    },
    /// It is gone.
    Removed {
        /// Package.
        name: String,
        /// Version.
        version: String,
    },
    /// It is another file: mostly another version.
    Changed {
        /// Package.
        name: String,
        /// The old version.
        from: String,
        /// The new version.
        to: String,
    },
}

impl Diff {
    /// What leads from `old` to `new`.
    pub fn between(old: &Lock, new: &Lock) -> Self {
        let (mut olds, mut news) = (
            old.artifacts.iter().peekable(),
            new.artifacts.iter().peekable(),
        );
        let mut changes = Vec::new();
        let name = |locked: &&LockedArtifact| locked.artifact.name.clone();
        loop {
            let order = match (olds.peek(), news.peek()) {
                (None, None) => return Self { changes },
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => name(a).cmp(&name(b)),
            };
            let gone = if order.is_le() { olds.next() } else { None };
            let come = if order.is_ge() { news.next() } else { None };
            match (gone.map(|g| &g.artifact), come.map(|c| &c.artifact)) {
                (Some(gone), Some(come)) if gone.sha256 == come.sha256 => {}
                (Some(gone), Some(come)) => changes.push(Change::Changed {
                    name: gone.name.clone(),
                    from: gone.version.clone(),
                    to: come.version.clone(),
                }),
                (Some(gone), None) => changes.push(Change::Removed {
                    name: gone.name.clone(),
                    version: gone.version.clone(),
                }),
                (None, Some(come)) => changes.push(Change::Added {
                    name: come.name.clone(),
                    version: come.version.clone(),
                }),
                (None, None) => return Self { changes },
            }
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { name, version } => write!(f, "+ {name} {version}"),
            Self::Removed { name, version } => write!(f, "- {name} {version}"),
            Self::Changed { name, from, to } if from == to => {
                write!(f, "~ {name} {to}, another build")
            }
            Self::Changed { name, from, to } => write!(f, "~ {name} {from} → {to}"),
        }
    }
}

/// A line a change, and no newline at the end.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, change) in self.changes.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{change}")?;
        }
        Ok(())
    }
}
