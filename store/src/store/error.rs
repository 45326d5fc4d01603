//! What can go wrong in the store.

use std::{io, path::PathBuf};

use rustix::io::Errno;

use crate::{Digest, ManifestError, TreeId, TreePath};

/// A failed step of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused a step.
    #[error("cannot {step} {path:?}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The disk or the quota is full.
    #[error(
        "cannot {step} {path:?}: the disk is full; free some space (`envd gc` works on a full disk), then run the same command again"
    )]
    Full {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A store written by another envd.
    #[error(
        "the store {path:?} has version {found:?} and this envd knows version {known:?}: use the envd that made it, or another ENVD_STORE"
    )]
    Version {
        /// The store's root.
        path: PathBuf,
        /// What its version file says.
        found: String,
        /// The version of this envd.
        known: &'static str,
    },
    /// A directory in use for something else.
    #[error(
        "{path:?} is no envd store but contains {name:?}: choose an empty directory as ENVD_STORE"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One thing in it.
        name: String,
    },
    /// No manifest of this id.
    #[error("the store has no tree {id}: realise the environment again")]
    TreeMissing {
        /// The tree.
        id: TreeId,
    },
    /// A manifest that is not what its name says.
    #[error(
        "the manifest {path:?} does not have the digest in its name: it was damaged or tampered with; run `envd store verify --repair`"
    )]
    TreeDamaged {
        /// The manifest.
        path: PathBuf,
    },
    /// A manifest that cannot be read.
    #[error("the manifest {path:?} cannot be read")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A tree whose content is not in the store.
    #[error(
        "the content {digest} of {path} is missing in the store: run `envd store verify --repair`, then realise the environment again"
    )]
    ObjectMissing {
        /// The tree's entry.
        path: TreePath,
        /// The missing object.
        digest: Digest,
    },
    /// An object that is not what its name says.
    #[error(
        "the object {path:?} does not have the digest in its name: it was damaged or tampered with; run `envd store verify --repair`"
    )]
    ObjectDamaged {
        /// The object.
        path: PathBuf,
    },
    /// A layer where a whole tree is needed.
    #[error("a layer has no view of its own: apply it to a tree first")]
    Layer,
    /// Writers are at work.
    #[error("the store is in use by running commands (process {}): try again when they have ended", list(.pids))]
    Busy {
        /// Their process ids, as far as known.
        pids: Vec<u32>,
    },
    /// An environment runs on a view that is to go.
    #[error("an environment is running on the tree {id}: stop it first")]
    ViewInUse {
        /// The tree.
        id: TreeId,
    },
    /// A name that cannot be a file's.
    #[error(
        "{name:?} cannot name a root: use 1 to 128 letters, digits, dots, dashes and underscores, not first a dot"
    )]
    RootName {
        /// The name.
        name: String,
    },
    /// A root that cannot be read. What it keeps is unknown, so gc stops.
    #[error(
        "the root {path:?} cannot be read: run the command of its project again, or remove the file"
    )]
    RootDamaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

fn list(pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    if pids.is_empty() {
        "unknown".to_owned()
    } else {
        pids.join(", ")
    }
}

/// The result of a step of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Names the step and the operand of a failed system call.
pub(crate) trait Context<T> {
    fn context(self, step: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, step: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T> {
        self.map_err(|error| StoreError::io(step, path(), error))
    }
}

impl StoreError {
    pub(crate) fn io(step: &'static str, path: PathBuf, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
        match source.raw_os_error() {
            Some(code) if full.contains(&code) => Self::Full { step, path, source },
            _ => Self::Io { step, path, source },
        }
    }
}
