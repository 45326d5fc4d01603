//! Universes of packages. A provider turns names into candidates and a chosen candidate into a tree; it never runs
//! foreign code. One folder an ecosystem.

use std::fmt;

use envd_store::Digest;
use serde::{Deserialize, Serialize};

pub mod debian;

/// A channel as the project names it: `debian:trixie`, or pinned, `debian:trixie@20260901T000000Z`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel {
    /// The ecosystem. `debian` is the only one yet.
    pub provider: String,
    /// The suite's code name or alias, such as `trixie` or `stable`.
    pub suite: String,
    /// The moment it is pinned to (snapshot.debian.org's form), if it is.
    pub snapshot: Option<String>,
}

/// A text that names no channel.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a channel: {problem}")]
pub struct ChannelError {
    text: String,
    problem: &'static str,
}

impl std::str::FromStr for Channel {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, ChannelError> {
        let refuse = |problem| {
            Err(ChannelError {
                text: text.to_owned(),
                problem,
            })
        };
        let Some((provider, rest)) = text.split_once(':') else {
            return refuse("write PROVIDER:SUITE, such as \"debian:trixie\"");
        };
        let (suite, snapshot) = match rest.split_once('@') {
            Some((suite, moment)) => (suite, Some(moment)),
            None => (rest, None),
        };
        if provider != "debian" {
            return refuse("the only provider yet is \"debian\"");
        }
        let plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if suite.is_empty()
            || !suite.starts_with(|c: char| c.is_ascii_lowercase())
            || !suite.chars().all(plain)
        {
            return refuse("a suite is a code name such as trixie, bookworm or sid");
        }
        if let Some(moment) = snapshot {
            let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
            let well_formed = moment.len() == 16
                && moment.is_ascii()
                && digits(&moment[..8])
                && &moment[8..9] == "T"
                && digits(&moment[9..15])
                && &moment[15..] == "Z";
            if !well_formed {
                return refuse("a snapshot is written like 20260901T000000Z");
            }
        }
        Ok(Self {
            provider: provider.to_owned(),
            suite: suite.to_owned(),
            snapshot: snapshot.map(str::to_owned),
        })
    }
}

impl TryFrom<String> for Channel {
    type Error = ChannelError;

    fn try_from(text: String) -> Result<Self, ChannelError> {
        text.parse()
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.to_string()
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.suite)?;
        match &self.snapshot {
            Some(moment) => write!(f, "@{moment}"),
            None => Ok(()),
        }
    }
}

/// What fetching one artifact takes, as the lock keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// Package name as the provider spells it.
    pub name: String,
    /// Full version as the provider spells it.
    pub version: String,
    /// Architecture as the provider spells it (`amd64`, `all`).
    pub architecture: String,
    /// Path below the archive's base address.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
}
