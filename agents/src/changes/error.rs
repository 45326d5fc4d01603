//! Why changes could not be told.

use std::io;

use envd_store::TreePath;

use super::escape::Shown;

/// Why there is no list of changes.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// A directory could not be opened.
    #[error("cannot open {what}")]
    Open {
        /// Which.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file system failed.
    #[error("cannot {step} {}", Shown::top(.path.as_ref()))]
    Io {
        /// What was tried.
        step: &'static str,
        /// With what; the top where there is none.
        path: Option<TreePath>,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// More entries than allowed.
    #[error(
        "the session has more than {limit} changed entries (at {}): delete what it made too many of, or ask for fewer paths",
        Shown::top(.path.as_ref())
    )]
    TooMany {
        /// The directory that had one too many.
        path: Option<TreePath>,
        /// The limit.
        limit: usize,
    },
    /// More content than allowed.
    #[error(
        "with {} the changed files come to more than {limit} bytes: delete what is too large inside the session",
        Shown(.path)
    )]
    TooMuch {
        /// The file that was too much.
        path: TreePath,
        /// The limit in bytes.
        limit: u64,
    },
}
