//! `envd.lock`: what an `envd.toml` came to, file by file.
//!
//! TOML for machines and for review: a head, the channels with their signed indexes, and an `[[artifact]]` for each
//! package, sorted by name, a key a line, so that a change of one package is a change of its lines. The format is written
//! down in `FORMAT.md` beside this file; every version that was ever written stays readable.
//!
//! A lock is read with suspicion: it may have been merged by hand or come with somebody's branch.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use envd_store::{Digest, TreeId};

use crate::{
    provider::{Artifact, Channel, debian::architecture::Architecture},
    resolve::{Link, Requirement, Resolution},
};

mod diff;
mod moment;
mod read;
mod save;
mod write;

pub use diff::{Change, Diff};
pub use moment::{Moment, MomentError};
pub use read::{Head, LockError};
pub use save::SaveError;

/// The version that is written.
pub const VERSION: u32 = 1;

/// A lock, read and valid: every artifact's suite is among the channels, no package is there twice, every need is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// What the packages run on.
    pub architecture: Architecture,
    /// [`Inputs::digest`] of what was resolved.
    pub inputs: Digest,
    /// The composed root, once someone has realised it.
    pub root: Option<TreeId>,
    /// The channels, in order of preference.
    pub channels: Vec<LockedChannel>,
    /// The packages, sorted by name.
    pub artifacts: Vec<LockedArtifact>,
}

/// A channel as it was when it was resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockedChannel {
    /// The channel.
    pub channel: Channel,
    /// Its suites.
    pub suites: Vec<LockedSuite>,
}

/// A suite as it was when it was resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockedSuite {
    /// Name, such as `trixie-security`.
    pub name: String,
    /// The archive's path below the mirror's address, such as `debian-security`. Artifacts' paths are below it.
    pub base: String,
    /// The signed Date of its InRelease.
    pub date: Moment,
    /// SHA-256 of its InRelease.
    pub in_release: Digest,
    /// SHA-256 of the Packages index, uncompressed, by component.
    pub packages: BTreeMap<String, Digest>,
}

/// A package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockedArtifact {
    /// What to fetch.
    pub artifact: Artifact,
    /// The channel that it is from.
    pub channel: Channel,
    /// The name of the channel's suite that it is from.
    pub suite: String,
    /// The requirements that it answers, as they were asked for.
    pub requested: Vec<Requirement>,
    /// Whether it is there as an Essential package.
    pub essential: bool,
    /// The locked packages that satisfy its needs, sorted.
    pub needs: Vec<String>,
}

/// What the resolver was given: a lock is current while these are the same.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// What is asked for; order and repetition carry no meaning.
    pub requirements: &'a [Requirement],
    /// The channels; their order does.
    pub channels: &'a [Channel],
    /// Whether Essential packages are in.
    pub essential: bool,
    /// What the packages run on.
    pub architecture: Architecture,
}

impl Inputs<'_> {
    /// The digest of the normalised inputs.
    pub fn digest(&self) -> Digest {
        let mut packages: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        packages.sort_unstable();
        packages.dedup();
        let mut text = format!(
            "envd inputs 1\narchitecture {}\nessential {}\n",
            self.architecture, self.essential
        );
        for channel in self.channels {
            text.push_str(&format!("channel {channel}\n"));
        }
        for package in packages {
            text.push_str(&format!("package {package}\n"));
        }
        Digest::of(text.as_bytes())
    }
}

/// A resolution refers to a channel or suite that the lock is not told of: a defect of the caller's.
#[derive(Debug, thiserror::Error)]
#[error(
    "package {package} was resolved from suite {suite} of channel {channel}, which the lock is not told of"
)]
pub struct UnknownSuite {
    package: String,
    channel: usize,
    suite: usize,
}

impl Lock {
    /// The lock of a resolution. `channels` are those of its universe, with their suites, in the same order.
    pub fn of(
        resolution: &Resolution,
        channels: Vec<LockedChannel>,
        inputs: &Inputs<'_>,
    ) -> Result<Self, UnknownSuite> {
        let artifact = |chosen: &crate::resolve::Chosen| {
            let known = channels.get(chosen.channel).and_then(|channel| {
                let suite = channel.suites.get(chosen.suite)?;
                Some((channel.channel.clone(), suite.name.clone()))
            });
            let (channel, suite) = known.ok_or_else(|| UnknownSuite {
                package: chosen.artifact.name.clone(),
                channel: chosen.channel,
                suite: chosen.suite,
            })?;
            Ok(LockedArtifact {
                artifact: chosen.artifact.clone(),
                channel,
                suite,
                requested: chosen.requested.clone(),
                essential: chosen.essential,
                needs: chosen.needs.clone(),
            })
        };
        let artifacts = resolution
            .packages
            .iter()
            .map(artifact)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            architecture: inputs.architecture,
            inputs: inputs.digest(),
            root: None,
            channels,
            artifacts,
        })
    }

    /// Whether it is what these inputs came to.
    pub fn is_current_for(&self, inputs: &Inputs<'_>) -> bool {
        self.inputs == inputs.digest()
    }

    /// The digest of all that determines the root: which files, for which architecture. It stays the same when only the
    /// indexes they were found in are newer, or the reasons why they are there change.
    pub fn packages_digest(&self) -> Digest {
        let mut text = format!("envd packages 1\narchitecture {}\n", self.architecture);
        for LockedArtifact { artifact, .. } in &self.artifacts {
            text.push_str(&format!(
                "{} {} {} {}\n",
                artifact.name, artifact.version, artifact.architecture, artifact.sha256
            ));
        }
        Digest::of(text.as_bytes())
    }

    /// The versions to prefer when resolving again, without those of `except`: what `envd update NAME` may change.
    pub fn versions_except(&self, except: &[&str]) -> HashMap<String, String> {
        let artifacts = self.artifacts.iter().map(|locked| &locked.artifact);
        artifacts
            .filter(|artifact| !except.contains(&&*artifact.name))
            .map(|artifact| (artifact.name.clone(), artifact.version.clone()))
            .collect()
    }

    /// The package of that name.
    pub fn artifact(&self, name: &str) -> Option<&LockedArtifact> {
        let at = self
            .artifacts
            .binary_search_by(|locked| (*locked.artifact.name).cmp(name));
        at.ok().map(|at| &self.artifacts[at])
    }

    /// The suite that an artifact is from.
    pub fn suite_of(&self, artifact: &LockedArtifact) -> Option<&LockedSuite> {
        let channel = self
            .channels
            .iter()
            .find(|channel| channel.channel == artifact.channel)?;
        channel
            .suites
            .iter()
            .find(|suite| suite.name == artifact.suite)
    }

    /// Its packages for [`crate::resolve::why`].
    pub fn links(&self) -> Vec<Link<'_>> {
        let artifacts = self.artifacts.iter();
        artifacts
            .map(|locked| Link {
                name: &locked.artifact.name,
                version: &locked.artifact.version,
                requested: locked.requested.iter().map(ToString::to_string).collect(),
                essential: locked.essential,
                needs: &locked.needs,
            })
            .collect()
    }

    /// The names of the Essential packages and of all that they need.
    pub fn essentials(&self) -> BTreeSet<String> {
        let by_name: BTreeMap<&str, &LockedArtifact> = self
            .artifacts
            .iter()
            .map(|locked| (locked.artifact.name.as_str(), locked))
            .collect();
        let mut found = BTreeSet::new();
        let essential = self.artifacts.iter().filter(|locked| locked.essential);
        let mut waiting: Vec<&LockedArtifact> = essential.collect();
        while let Some(locked) = waiting.pop() {
            if found.insert(locked.artifact.name.clone()) {
                waiting.extend(
                    locked
                        .needs
                        .iter()
                        .filter_map(|name| by_name.get(name.as_str())),
                );
            }
        }
        found
    }

    /// What there is to download, in bytes.
    pub fn download_size(&self) -> u64 {
        self.artifacts
            .iter()
            .map(|locked| locked.artifact.size)
            .sum()
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests;
