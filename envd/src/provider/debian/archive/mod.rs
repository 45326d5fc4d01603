//! A Debian channel as the suites it stands for, and where they are.
//!
//! `debian:trixie` is what a Debian system of that release draws from: `trixie`, `trixie-updates` and `trixie-security`.
//! sid has neither of the latter, testing has them from some time on; a suite that is not there (404) is left out, and
//! that it was is remembered. `debian:trixie-backports` is that suite alone.
//!
//! Nothing here reads the environment: mirrors arrive as [`ArchiveSettings`].

mod cache;
mod error;
mod refresh;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use envd_store::Digest;

pub use self::{cache::prune, error::ArchiveError};
use super::{
    index::Index,
    release::{Moment, ValidityError, check_validity},
    trust::Keyring,
};
use crate::provider::Channel;

/// Where Debian is when nobody says otherwise.
const DEBIAN: &str = "https://deb.debian.org/debian";
const DEBIAN_SECURITY: &str = "https://deb.debian.org/debian-security";
const SNAPSHOT: &str = "https://snapshot.debian.org";

/// A Release is dated when it is made, and on the snapshot service some hours later; what it lists stays in the pool for
/// longer than this. So a file is sought at the state of half a day after its index.
const SNAPSHOT_LAG: Duration = Duration::from_secs(12 * 3600);

/// Where to find the archive, what to take from it, and whom to believe.
#[derive(Debug, Clone)]
pub struct ArchiveSettings {
    /// What replaces `https://deb.debian.org/debian`.
    pub mirror: Option<String>,
    /// What replaces `https://deb.debian.org/debian-security`. When only [`mirror`](Self::mirror) is given, its sibling
    /// `MIRROR-security` is tried, as mirrors lay it out, and left out if it is not there: whoever names a mirror may have
    /// no way to any other host.
    pub security_mirror: Option<String>,
    /// What replaces `https://snapshot.debian.org`.
    pub snapshot: Option<String>,
    /// The components to take. `main` is all of Debian proper.
    pub components: Vec<String>,
    /// The architecture, in Debian's spelling. Its indexes hold the packages for all architectures too.
    pub architecture: String,
    /// Whose signatures count.
    pub keyring: Keyring,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            mirror: None,
            security_mirror: None,
            snapshot: None,
            components: vec!["main".to_owned()],
            architecture: "amd64".to_owned(),
            keyring: Keyring::debian(),
        }
    }
}

/// The archive at its settings.
#[derive(Debug, Clone)]
pub struct Archive {
    settings: ArchiveSettings,
}

/// One suite of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteAddress {
    /// Its name below `dists/`.
    pub name: String,
    /// The archive's base address, without a slash at its end.
    pub base_url: String,
    /// Whether the channel is whole without it.
    pub optional: bool,
}

/// The opened indexes of a channel.
#[derive(Debug)]
pub struct ChannelIndexes {
    /// The channel.
    pub channel: Channel,
    /// Its suites, the release itself first; one for each component.
    pub suites: Vec<Suite>,
    /// The suites that the archive does not have.
    pub absent: Vec<String>,
    /// When they were last compared with the archive.
    pub refreshed: Moment,
}

/// An opened index: one component of one suite.
#[derive(Debug)]
pub struct Suite {
    /// The suite's name below `dists/`.
    pub name: String,
    /// The component, such as `main`.
    pub component: String,
    /// The archive's base address, to which a record's file name is relative. It may hold a password: a lock keeps the
    /// suite's name, and [`Archive::artifact_urls`] finds the address again.
    pub base_url: String,
    /// SHA-256 of the signed InRelease.
    pub release_digest: Digest,
    /// Its Date.
    pub release_date: Moment,
    /// Its Valid-Until.
    pub valid_until: Option<Moment>,
    /// SHA-256 of the Packages text.
    pub packages_digest: Digest,
    /// The packages.
    pub index: Index,
}

impl ChannelIndexes {
    /// Refuses indexes that are past their time, for whoever locks from what is cached. Pinned ones do not age.
    pub fn check_validity(&self, now: Moment, accept_expired: bool) -> Result<(), ValidityError> {
        let accept = accept_expired || self.channel.snapshot.is_some();
        self.suites.iter().try_for_each(|suite| {
            check_validity(
                &suite.name,
                suite.release_date,
                suite.valid_until,
                now,
                accept,
            )
        })
    }

    /// The opened indexes, in order.
    pub fn indexes(&self) -> Vec<&Index> {
        self.suites.iter().map(|suite| &suite.index).collect()
    }
}

/// The two archives that Debian keeps: each has a tree of its own on mirrors and on the snapshot service.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Main,
    Security,
}

impl Part {
    /// A suite's part, as its name tells.
    fn of(suite: &str) -> Self {
        match suite.ends_with("-security") {
            true => Self::Security,
            false => Self::Main,
        }
    }
}

impl Archive {
    /// The archive with these settings.
    pub fn new(settings: ArchiveSettings) -> Self {
        Self { settings }
    }

    /// The settings.
    pub fn settings(&self) -> &ArchiveSettings {
        &self.settings
    }

    /// The suites that a channel stands for, the release itself first.
    pub fn suites(&self, channel: &Channel) -> Vec<SuiteAddress> {
        let address = |name: String, optional| SuiteAddress {
            base_url: self.base_url(channel, &name),
            name,
            optional,
        };
        let suite = &channel.suite;
        let mut suites = vec![address(suite.clone(), false)];
        let alone = matches!(
            suite.as_str(),
            "sid" | "unstable" | "experimental" | "rc-buggy"
        );
        // "trixie-backports" and the like are parts of a release themselves.
        if !alone && !suite.contains('-') {
            suites.push(address(format!("{suite}-updates"), true));
            suites.push(address(format!("{suite}-security"), true));
        }
        suites
    }

    /// The base address of a channel's suite, without a slash at its end.
    fn base_url(&self, channel: &Channel, suite: &str) -> String {
        let part = Part::of(suite);
        if let Some(stamp) = &channel.snapshot {
            return self.snapshot_base(part, stamp);
        }
        let settings = &self.settings;
        let trimmed = |url: &String| url.trim_end_matches('/').to_owned();
        match (part, &settings.mirror, &settings.security_mirror) {
            (Part::Security, _, Some(security)) => trimmed(security),
            (Part::Security, Some(mirror), None) => format!("{}-security", trimmed(mirror)),
            (Part::Security, None, None) => DEBIAN_SECURITY.to_owned(),
            (Part::Main, Some(mirror), _) => trimmed(mirror),
            (Part::Main, None, _) => DEBIAN.to_owned(),
        }
    }

    fn snapshot_base(&self, part: Part, stamp: &str) -> String {
        let service = self.settings.snapshot.as_deref().unwrap_or(SNAPSHOT);
        let part = match part {
            Part::Main => "debian",
            Part::Security => "debian-security",
        };
        format!("{}/archive/{part}/{stamp}", service.trim_end_matches('/'))
    }

    /// Where a locked file may be: at the mirror, and if it carries it no longer, in the snapshot service's state of its
    /// index's `date`. `suite` and `path` are those of the index that named it.
    pub fn artifact_urls(
        &self,
        channel: &Channel,
        suite: &str,
        path: &str,
        date: Moment,
    ) -> Vec<String> {
        let mut urls = vec![format!("{}/{path}", self.base_url(channel, suite))];
        if channel.snapshot.is_none() {
            urls.push(self.snapshot_url(suite, path, date));
        }
        urls
    }

    /// Where the snapshot service keeps a file that an index of `suite`, dated `date`, named.
    pub fn snapshot_url(&self, suite: &str, path: &str, date: Moment) -> String {
        let stamp = date.plus(SNAPSHOT_LAG).snapshot_stamp();
        format!("{}/{path}", self.snapshot_base(Part::of(suite), &stamp))
    }
}
