//! What can go wrong between a channel's name and its opened indexes.

use std::{io, path::PathBuf};

use envd_store::Digest;

use crate::{
    fetch::FetchError,
    provider::debian::{
        index::IndexError,
        release::{Moment, ReleaseError, ValidityError},
        trust::TrustError,
    },
};

/// A channel whose indexes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The archive has no suite of that name.
    #[error(
        "there is no suite {suite} at {base_url}; suites are called bullseye, bookworm, trixie, forky or sid"
    )]
    NoSuite {
        /// The suite.
        suite: String,
        /// The archive's base address.
        base_url: String,
    },
    /// A suite was there before and is not any more, which is how updates would be kept from someone.
    #[error(
        "suite {suite} is no longer at {base_url}, but was when it was last looked at; use another mirror, or if it is gone \
         for good remove {}",
        remembered.display()
    )]
    Vanished {
        /// The suite.
        suite: String,
        /// The archive's base address.
        base_url: String,
        /// The file that remembers it.
        remembered: PathBuf,
    },
    /// The InRelease is not to be trusted.
    #[error("the signed index of suite {suite} at {base_url} is not to be trusted")]
    Trust {
        /// The suite.
        suite: String,
        /// The archive's base address.
        base_url: String,
        /// Why.
        #[source]
        source: TrustError,
    },
    /// The InRelease is signed, and still cannot be used.
    #[error("the signed index of suite {suite} cannot be used")]
    Release {
        /// The suite.
        suite: String,
        /// Why.
        #[source]
        source: ReleaseError,
    },
    /// The archive serves another suite under this name.
    #[error("{base_url} serves {found} where suite {suite} is expected; use another mirror")]
    WrongSuite {
        /// The suite.
        suite: String,
        /// What the signed text says it is.
        found: String,
        /// The archive's base address.
        base_url: String,
    },
    /// The index is past its time, or ahead of it.
    #[error(transparent)]
    Validity(#[from] ValidityError),
    /// The archive serves an older index than before.
    #[error(
        "{base_url} serves an index of suite {suite} dated {offered}, older than the one of {known} seen before; use another \
         mirror, or if this one was set back on purpose remove {}",
        remembered.display()
    )]
    Rollback {
        /// The suite.
        suite: String,
        /// The archive's base address.
        base_url: String,
        /// The date of what is served.
        offered: Moment,
        /// The date of what was served before.
        known: Moment,
        /// The file that remembers it.
        remembered: PathBuf,
    },
    /// The suite has no such list of packages.
    #[error(
        "suite {suite} has no packages for {architecture} in component {component}; it has the components {components} and \
         the architectures {architectures}"
    )]
    NoPackages {
        /// The suite.
        suite: String,
        /// The component.
        component: String,
        /// The architecture.
        architecture: String,
        /// What there is.
        components: String,
        /// What there is.
        architectures: String,
    },
    /// A list of packages that unpacks to something else than the signed index says.
    #[error(
        "the list of packages of suite {suite} is refused: unpacked, its SHA-256 is {found} where {expected} is expected"
    )]
    WrongPackages {
        /// The suite.
        suite: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// A list of packages that cannot be read.
    #[error("the list of packages of suite {suite} cannot be used")]
    Index {
        /// The suite.
        suite: String,
        /// Why.
        #[source]
        source: IndexError,
    },
    /// The cache cannot be written.
    #[error("cannot {step} {}", path.display())]
    Cache {
        /// What was being done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
