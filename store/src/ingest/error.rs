//! What can be wrong with what is taken in.

use std::{io, path::PathBuf};

use super::ContentError;
use crate::{PathError, StoreError, TreeError, TreePath};

/// Why an archive or a directory did not become a tree. Nothing of it is left but objects, which the next gc takes.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The stream under the archive failed.
    #[error("cannot read the archive at member {member:?}")]
    Read {
        /// The member, or the one before.
        member: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive ends too early, or a member's size is a lie.
    #[error(
        "the archive ends inside or right after member {member:?}: it is cut short, or the size in its header is wrong"
    )]
    Truncated {
        /// The member.
        member: String,
    },
    /// A header that is no header.
    #[error("the archive member {member:?} {problem}")]
    Header {
        /// The member, or the one before.
        member: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A name that leads out of the tree, or that no file system takes.
    #[error("the archive member {member:?} has a name that is not allowed")]
    Name {
        /// The member.
        member: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// A member that is neither file, directory nor link.
    #[error("the archive member {member:?} is a {kind}, which a tree cannot have")]
    Kind {
        /// The member.
        member: String,
        /// What it is.
        kind: &'static str,
    },
    /// More members than allowed.
    #[error("the archive has more than {limit} members (at {member:?}): it looks like a bomb")]
    TooMany {
        /// The member that was one too many.
        member: String,
        /// The limit.
        limit: usize,
    },
    /// More content than allowed.
    #[error(
        "with the archive member {member:?} the content comes to more than {limit} bytes: it looks like a bomb"
    )]
    TooBig {
        /// The member that was too much.
        member: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A member that does not fit to the others.
    #[error("the archive member {member:?} does not fit")]
    Member {
        /// The member.
        member: String,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// Good members that together are no tree.
    #[error("the entries make no tree")]
    Tree(#[source] TreeError),
    /// The file system under a directory failed.
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
    /// Something in a directory that no tree can have.
    #[error("{path} is a {kind}, which a tree cannot have: remove it, or exclude it")]
    Special {
        /// Where.
        path: TreePath,
        /// What it is.
        kind: &'static str,
    },
    /// A file name in a directory that no tree can have.
    #[error("a file name in a directory is not allowed")]
    FileName(#[from] PathError),
    /// An overlay's mark that needs other directories to be understood.
    #[error(
        "{path} has the overlay mark {mark:?}: mount the overlay with redirect_dir=nofollow,metacopy=off"
    )]
    Overlay {
        /// Where.
        path: TreePath,
        /// The attribute.
        mark: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IngestError {
    pub(super) fn content(error: ContentError, member: impl FnOnce() -> String) -> Self {
        match error {
            ContentError::Store(error) => Self::Store(error),
            ContentError::Short => Self::Truncated { member: member() },
            ContentError::Read(source) => Self::Read {
                member: member(),
                source,
            },
        }
    }

    pub(super) fn io<E: Into<io::Error>>(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |error| Self::Io {
            step,
            path,
            source: error.into(),
        }
    }
}
