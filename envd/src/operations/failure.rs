//! The libraries' errors as failures: whose matter each is, and what to do next.

use envd_shims::LaunchError;
use envd_store::StoreError;

use crate::{
    cli::{Failure, Kind},
    fetch::FetchError,
    lock::{LockError, SaveError},
    provider::debian::{archive::ArchiveError, index::IndexError},
    realise::RealiseError,
    resolve::{RequirementError, ResolveError},
};

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::TreeDamaged { .. } | StoreError::ObjectDamaged { .. } => Kind::Integrity,
            _ => Kind::Store,
        };
        Self::of(kind, &error)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::of(Kind::Usage, &error)
    }
}

impl From<SaveError> for Failure {
    fn from(error: SaveError) -> Self {
        Self::of(Kind::Other, &error)
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        Self::of(Kind::Integrity, &error).help("`envd update` fetches the indexes anew")
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let kind = match &error {
            ArchiveError::Fetch(_) => Kind::Fetch,
            _ => Kind::Integrity,
        };
        let failure = Self::of(kind, &error);
        if error.is_offline() {
            failure.help("leave out --offline (or ENVD_OFFLINE) once")
        } else {
            failure
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let kind = match &error {
            FetchError::WrongDigest { .. } => Kind::Integrity,
            _ => Kind::Fetch,
        };
        Self::of(kind, &error)
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        let help = match &error {
            ResolveError::Unknown(_) => Some("`envd search WORD` looks through the channels"),
            ResolveError::Unsatisfiable(_) => {
                Some("change a constraint or the channels in envd.toml")
            }
            ResolveError::Inconsistent { .. } => None,
        };
        let failure = Self::of(Kind::Resolve, &error);
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

impl From<RequirementError> for Failure {
    fn from(error: RequirementError) -> Self {
        Self::of(Kind::Usage, &error)
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self::of(Kind::Host, &error)
    }
}

impl From<RealiseError> for Failure {
    fn from(error: RealiseError) -> Self {
        match error {
            RealiseError::Store(error) => error.into(),
            RealiseError::Fetch(error) => match error.downcast::<super::source::Missing>() {
                Ok(missing) => (*missing).into(),
                Err(error) => match error.downcast::<FetchError>() {
                    Ok(error) => (*error).into(),
                    Err(error) => Self::of(Kind::Fetch, &*error),
                },
            },
            RealiseError::Merge(_) | RealiseError::NoShell { .. } => {
                Self::of(Kind::Resolve, &error)
            }
            RealiseError::Step(_) => Self::of(Kind::Other, &error),
            error => Self::of(Kind::Integrity, &error),
        }
    }
}
