//! What can go wrong on the way from an address to a file.

use std::{error::Error, fmt, io, path::PathBuf};

use envd_store::Digest;

/// Something that could not be fetched. Addresses are shown without user names and passwords.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The network may not be used.
    #[error(
        "{what} is not here yet, and ENVD_OFFLINE forbids to fetch it from {url}; run this once while online"
    )]
    Offline {
        /// What was wanted.
        what: String,
        /// Where it would come from.
        url: String,
    },
    /// An address that is none.
    #[error("cannot fetch {what}: {url:?} is not an address that starts with http:// or https://")]
    Address {
        /// What was wanted.
        what: String,
        /// The text.
        url: String,
    },
    /// No HTTP client can be had, for want of certificates, say.
    #[error("cannot set up HTTPS; check that SSL_CERT_FILE, if set, names a file of certificates")]
    Client(#[source] reqwest::Error),
    /// The server could not be reached, or the connection broke, and stayed so.
    #[error(
        "cannot fetch {url} ({attempts} attempts): {}; check the network, or name another mirror",
        Causes(.cause.as_ref())
    )]
    Transport {
        /// The address.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure; its causes are in the message, so that they are no source of it.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The server says no.
    #[error("cannot fetch {url}: the server answers {status}{}", hint(*.status))]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The server offers more than there may be.
    #[error("cannot fetch {url}: it is larger than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The bound, in bytes.
        limit: u64,
    },
    /// The server offers another size than the index says.
    #[error(
        "{what} from {url} is refused: the server offers {offered} bytes where {expected} are expected; use another mirror"
    )]
    WrongLength {
        /// What was wanted.
        what: String,
        /// The address.
        url: String,
        /// Bytes still wanted.
        expected: u64,
        /// Bytes offered.
        offered: u64,
    },
    /// The bytes are not those that were promised.
    #[error(
        "{what} from {url} is refused: its SHA-256 is {found} where {expected} is expected; the mirror is damaged, in the \
         midst of an update, or tampered with: try again, or use another one"
    )]
    WrongDigest {
        /// What was wanted.
        what: String,
        /// The address.
        url: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// No address has it.
    #[error("cannot fetch {what} from anywhere: {}", Listed(.tried))]
    Nowhere {
        /// What was wanted.
        what: String,
        /// What happened at each address, in the order they were tried.
        tried: Vec<FetchError>,
    },
    /// The disk is full.
    #[error(
        "the disk that holds {} is full: {what} needs {needed} more bytes; free some space (\"envd gc\" does) and run this \
         again",
        directory.display()
    )]
    DiskFull {
        /// What was wanted.
        what: String,
        /// Where it should go.
        directory: PathBuf,
        /// Bytes that were still to come.
        needed: u64,
    },
    /// A file could not be written or read.
    #[error("cannot {step} {}", path.display())]
    Disk {
        /// What was being done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// Whether an address was reached and does not have it (any more).
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 404 | 410),
            Self::Nowhere { tried, .. } => tried.iter().any(Self::is_missing),
            _ => false,
        }
    }

    /// Whether another address may do better.
    pub(super) fn may_be_elsewhere(&self) -> bool {
        match self {
            Self::Transport { .. }
            | Self::Status { .. }
            | Self::TooLarge { .. }
            | Self::WrongLength { .. }
            | Self::WrongDigest { .. } => true,
            Self::Offline { .. }
            | Self::Address { .. }
            | Self::Client(_)
            | Self::Nowhere { .. }
            | Self::DiskFull { .. }
            | Self::Disk { .. } => false,
        }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            " (it wants to know who you are; put USER:PASSWORD@ into the mirror's address)"
        }
        404 | 410 => " (not there)",
        407 => " (the proxy wants to know who you are; put USER:PASSWORD@ into http_proxy)",
        500.. => " (it is in trouble; try again later, or use another mirror)",
        _ => "",
    }
}

/// An error and its causes on one line. What `reqwest` itself says is "error sending request"; the cause is below.
struct Causes<'a>(&'a (dyn Error + Send + Sync));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        write!(f, "{said}")?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        Ok(())
    }
}

struct Listed<'a>(&'a [FetchError]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
