//! Reading a lock, strictly: what is not understood is refused with its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use envd_store::{Digest, TreeId};
use serde::Deserialize;
use toml::Spanned;

use super::{Lock, LockedArtifact, LockedChannel, LockedSuite, Moment, VERSION};
use crate::{
    provider::{
        Artifact, Channel,
        debian::{architecture::Architecture, dependency::is_package_name, version::Version},
    },
    resolve::Requirement,
};

/// A lock that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The lock.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two branches' locks were merged as text.
    #[error(
        "{path}:{line}: a merge left its conflict markers in the lock. Take either side's whole file and run \
         \"envd lock\", which brings it up to date with envd.toml"
    )]
    Conflict {
        /// The lock.
        path: PathBuf,
        /// Where the first marker stands, from 1.
        line: usize,
    },
    /// A newer envd wrote it.
    #[error(
        "{path} is a lock of version {version}, and this envd reads up to version {VERSION}: use a newer envd, or \
         remove the file and run \"envd lock\""
    )]
    Newer {
        /// The lock.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Something in it is wrong.
    #[error(
        "{path}:{line}:{column}: {problem}. If nobody edited the lock on purpose, restore it or run \"envd lock\""
    )]
    Invalid {
        /// The lock.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
}

/// The lock's head, which is read without the rest.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Head {
    version: u32,
    /// See [`Lock::architecture`].
    pub architecture: Architecture,
    /// See [`Lock::inputs`].
    pub inputs: Digest,
    /// See [`Lock::root`].
    pub root: Option<TreeId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    channel: Vec<RawChannel>,
    #[serde(default)]
    artifact: Vec<RawArtifact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChannel {
    name: Spanned<Channel>,
    suite: Vec<RawSuite>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSuite {
    name: Spanned<String>,
    base: Spanned<String>,
    date: Moment,
    in_release: Digest,
    packages: BTreeMap<String, Digest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArtifact {
    name: Spanned<String>,
    version: Spanned<String>,
    architecture: Spanned<String>,
    channel: Channel,
    suite: Spanned<String>,
    path: Spanned<String>,
    size: u64,
    sha256: Digest,
    #[serde(default)]
    requested: Vec<Requirement>,
    #[serde(default)]
    essential: bool,
    #[serde(default)]
    needs: Vec<Spanned<String>>,
}

/// What is wrong, and where in the text.
type Flaw = (Range<usize>, String);

impl Lock {
    /// Reads the lock at `path`.
    pub fn load(path: &Path) -> Result<Self, LockError> {
        let bytes = fs::read(path).map_err(|source| LockError::Read {
            path: path.to_owned(),
            source,
        })?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, path),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
                let end = good.len();
                Err(invalid(
                    &good,
                    path,
                    (end..end, "this is not UTF-8".to_owned()),
                ))
            }
        }
    }

    /// Reads a lock's text. `path` is for errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LockError> {
        let head = Self::peek(text, path)?;
        let start = head_length(text);
        let body: Body = toml::from_str(&text[start..]).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            invalid(
                text,
                path,
                (
                    span.start + start..span.end + start,
                    error.message().to_owned(),
                ),
            )
        })?;
        lock(head, body).map_err(|(span, problem)| {
            invalid(text, path, (span.start + start..span.end + start, problem))
        })
    }

    /// Reads a lock's head only.
    pub fn peek(text: &str, path: &Path) -> Result<Head, LockError> {
        let marker = |line: &str| {
            ["<<<<<<< ", "=======", ">>>>>>> "]
                .iter()
                .any(|m| line.starts_with(m))
        };
        if let Some(line) = text.lines().position(marker) {
            return Err(LockError::Conflict {
                path: path.to_owned(),
                line: line + 1,
            });
        }
        let head = &text[..head_length(text)];
        let refuse = |error: toml::de::Error| {
            let span = error.span().unwrap_or(0..0);
            invalid(text, path, (span, error.message().to_owned()))
        };
        // A newer version's head may have keys that this one has never heard of, so the version is looked at by itself.
        let table: toml::Table = toml::from_str(head).map_err(refuse)?;
        if let Some(version) = table.get("version").and_then(toml::Value::as_integer)
            && let Ok(version) = u32::try_from(version)
            && version > VERSION
        {
            return Err(LockError::Newer {
                path: path.to_owned(),
                version,
            });
        }
        let head: Head = toml::from_str(head).map_err(refuse)?;
        if head.version == 0 {
            let start = text.find("version").unwrap_or(0);
            let problem = "there never was a lock of version 0".to_owned();
            return Err(invalid(text, path, (start..start, problem)));
        }
        Ok(head)
    }
}

/// How long the part before the first table is.
fn head_length(text: &str) -> usize {
    match text.starts_with('[') {
        true => 0,
        false => text.find("\n[").map_or(text.len(), |at| at + 1),
    }
}

fn invalid(text: &str, path: &Path, (span, problem): Flaw) -> LockError {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    LockError::Invalid {
        path: path.to_owned(),
        line: before.bytes().filter(|b| *b == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        problem,
    }
}

fn lock(head: Head, body: Body) -> Result<Lock, Flaw> {
    let mut channels = Vec::with_capacity(body.channel.len());
    for raw in body.channel {
        let span = raw.name.span();
        let channel = raw.name.into_inner();
        if channels
            .iter()
            .any(|known: &LockedChannel| known.channel == channel)
        {
            return Err((span, format!("channel {channel} is there twice")));
        }
        let suites = raw.suite.into_iter().map(suite).collect::<Result<_, _>>()?;
        channels.push(LockedChannel { channel, suites });
    }
    let names: BTreeSet<String> = body
        .artifact
        .iter()
        .map(|raw| raw.name.get_ref().clone())
        .collect();
    let mut spans = BTreeMap::new();
    let mut artifacts = Vec::with_capacity(body.artifact.len());
    for raw in body.artifact {
        let name = raw.name.get_ref().clone();
        if let Some(before) = spans.insert(name.clone(), raw.name.span()) {
            let later = raw.name.span().start.max(before.start);
            return Err((later..later, format!("package {name} is there twice")));
        }
        artifacts.push(artifact(raw, head.architecture, &channels, &names)?);
    }
    artifacts.sort_by(|a, b| a.artifact.name.cmp(&b.artifact.name));
    Ok(Lock {
        architecture: head.architecture,
        inputs: head.inputs,
        root: head.root,
        channels,
        artifacts,
    })
}

fn suite(raw: RawSuite) -> Result<LockedSuite, Flaw> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    let name = raw.name.get_ref();
    if name.is_empty() || !name.chars().all(plain) {
        return Err((raw.name.span(), format!("{name:?} names no suite")));
    }
    check_path(&raw.base)?;
    Ok(LockedSuite {
        name: raw.name.into_inner(),
        base: raw.base.into_inner(),
        date: raw.date,
        in_release: raw.in_release,
        packages: raw.packages,
    })
}

fn artifact(
    raw: RawArtifact,
    architecture: Architecture,
    channels: &[LockedChannel],
    names: &BTreeSet<String>,
) -> Result<LockedArtifact, Flaw> {
    let name = raw.name.get_ref();
    if !is_package_name(name) {
        return Err((raw.name.span(), format!("{name:?} names no package")));
    }
    if let Err(error) = Version::parse(raw.version.get_ref()) {
        return Err((raw.version.span(), error.to_string()));
    }
    if !architecture.takes(raw.architecture.get_ref()) {
        let problem = format!(
            "{} does not run on {architecture}",
            raw.architecture.get_ref()
        );
        return Err((raw.architecture.span(), problem));
    }
    let channel = channels.iter().find(|known| known.channel == raw.channel);
    let suites = channel.map_or(&[][..], |channel| &channel.suites);
    if !suites
        .iter()
        .any(|suite| suite.name == *raw.suite.get_ref())
    {
        let problem = format!(
            "suite {} of channel {} is not above",
            raw.suite.get_ref(),
            raw.channel
        );
        return Err((raw.suite.span(), problem));
    }
    check_path(&raw.path)?;
    if let Some(need) = raw
        .needs
        .iter()
        .find(|need| !names.contains(need.get_ref()))
    {
        let problem = format!("package {} is needed and not there", need.get_ref());
        return Err((need.span(), problem));
    }
    Ok(LockedArtifact {
        artifact: Artifact {
            name: raw.name.into_inner(),
            version: raw.version.into_inner(),
            architecture: raw.architecture.into_inner(),
            path: raw.path.into_inner(),
            size: raw.size,
            sha256: raw.sha256,
        },
        channel: raw.channel,
        suite: raw.suite.into_inner(),
        requested: raw.requested,
        essential: raw.essential,
        needs: raw.needs.into_iter().map(Spanned::into_inner).collect(),
    })
}

/// Refuses what would lead elsewhere once it is put behind a mirror's address: `..`, `//`, a query, a space.
fn check_path(path: &Spanned<String>) -> Result<(), Flaw> {
    let text = path.get_ref();
    let component = |part: &str| !matches!(part, "" | "." | "..");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._+~%:=@,".contains(&b);
    if text.split('/').all(component) && text.bytes().all(plain) {
        Ok(())
    } else {
        let problem = format!("{text:?} is no plain path below an archive");
        Err((path.span(), problem))
    }
}
