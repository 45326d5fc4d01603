//! What is kept of channels between commands.
//!
//! ```text
//! releases/<suite>-<16 digits of the base address's digest>.InRelease   as served, written once it is verified
//! releases/<the same>.absent                                           the archive does not have this suite
//! indexes/<sha256 of Packages>.idx                                     see `index`
//! partial/<sha256>                                                     lists under way
//! ```
//!
//! Files appear whole, by renaming. A cached InRelease was verified before it was written and its indexes are there before
//! it is, so that opening a channel takes no signature check and no network.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use envd_store::Digest;

use super::{Archive, ArchiveError, ChannelIndexes, Suite, SuiteAddress};
use crate::provider::{
    Channel,
    debian::{
        index::Index,
        release::{ListedFile, Moment, Release},
        trust::signed_text,
    },
};

/// A file that is being written is not older than this, or its writer is dead.
const LONGEST_WRITE: Duration = Duration::from_secs(24 * 3600);

/// The cache directory.
pub(super) struct Cache<'a>(pub(super) &'a Path);

/// A suite's InRelease as it was kept.
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    pub(super) release: Release,
    pub(super) modified: Moment,
}

impl Cache<'_> {
    pub(super) fn release_path(&self, suite: &SuiteAddress) -> PathBuf {
        let base = Digest::of(suite.base_url.as_bytes()).to_string();
        self.0
            .join("releases")
            .join(format!("{}-{:.16}.InRelease", suite.name, base))
    }

    pub(super) fn absent_path(&self, suite: &SuiteAddress) -> PathBuf {
        self.release_path(suite).with_extension("absent")
    }

    pub(super) fn index_path(&self, packages: Digest) -> PathBuf {
        self.0.join("indexes").join(format!("{packages}.idx"))
    }

    pub(super) fn partial(&self) -> PathBuf {
        self.0.join("partial")
    }

    /// The suite's InRelease, if one is kept and readable.
    pub(super) fn kept(&self, suite: &SuiteAddress) -> Option<Kept> {
        let path = self.release_path(suite);
        let bytes = fs::read(&path).ok()?;
        let modified = fs::metadata(&path).ok()?.modified().ok()?;
        let text = signed_text(&bytes).ok()?;
        Some(Kept {
            release: Release::parse(&text).ok()?,
            bytes,
            modified: modified.into(),
        })
    }

    /// Writes a file so that it is there whole or not at all.
    pub(super) fn write<T, E: From<ArchiveError>>(
        &self,
        path: &Path,
        durable: bool,
        fill: impl FnOnce(&mut io::BufWriter<File>) -> Result<T, E>,
    ) -> Result<T, E> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let failed = |step, path: &Path| {
            let path = path.to_owned();
            move |source| ArchiveError::Cache { step, path, source }
        };
        let directory = path.parent().unwrap_or(self.0);
        fs::create_dir_all(directory).map_err(failed("make the directory", directory))?;
        let temporary = directory.join(format!(
            "{}-{}.tmp",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let written = (|| {
            let file = File::create(&temporary).map_err(failed("create", &temporary))?;
            let mut writer = io::BufWriter::with_capacity(256 << 10, file);
            let value = fill(&mut writer)?;
            let file = writer
                .into_inner()
                .map_err(|e| failed("write", &temporary)(e.into_error()))?;
            if durable {
                file.sync_data().map_err(failed("write", &temporary))?;
            }
            fs::rename(&temporary, path).map_err(failed("name", path))?;
            Ok(value)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    pub(super) fn write_bytes(&self, path: &Path, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.write(path, true, |writer| {
            writer
                .write_all(bytes)
                .map_err(|source| ArchiveError::Cache {
                    step: "write",
                    path: path.to_owned(),
                    source,
                })
        })
    }
}

/// The list of packages of a component, in the best form that a Release has it in.
pub(super) struct PackagesFile {
    /// Its path below the suite.
    pub(super) path: String,
    pub(super) served: ListedFile,
    /// What it is when unpacked, if the Release says.
    pub(super) unpacked: Option<ListedFile>,
    pub(super) packing: Packing,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Packing {
    Xz,
    Gzip,
    Plain,
}

impl PackagesFile {
    pub(super) fn find(release: &Release, component: &str, architecture: &str) -> Option<Self> {
        let plain = format!("{component}/binary-{architecture}/Packages");
        let unpacked = release.files.get(&plain).copied();
        let forms = [
            (Packing::Xz, ".xz"),
            (Packing::Gzip, ".gz"),
            (Packing::Plain, ""),
        ];
        forms.into_iter().find_map(|(packing, ending)| {
            let path = format!("{plain}{ending}");
            let served = *release.files.get(&path)?;
            Some(Self {
                path,
                served,
                unpacked,
                packing,
            })
        })
    }

    /// What the index is named by.
    pub(super) fn key(&self) -> Digest {
        self.unpacked.unwrap_or(self.served).sha256
    }
}

impl Archive {
    /// Opens a channel from the cache alone. `None` when it has to be [refreshed](Self::refresh): it never was, its
    /// indexes are gone or damaged, or components were added.
    pub fn open_cached(&self, channel: &Channel, cache: &Path) -> Option<ChannelIndexes> {
        let cache = Cache(cache);
        let mut opened = ChannelIndexes {
            channel: channel.clone(),
            suites: Vec::new(),
            absent: Vec::new(),
            refreshed: Moment::from_unix(i64::MAX),
        };
        for suite in self.suites(channel) {
            let Some(kept) = cache.kept(&suite) else {
                let absent = fs::metadata(cache.absent_path(&suite)).ok()?;
                opened.refreshed = opened.refreshed.min(absent.modified().ok()?.into());
                opened.absent.push(suite.name);
                continue;
            };
            opened.refreshed = opened.refreshed.min(kept.modified);
            let release_digest = Digest::of(&kept.bytes);
            for component in &self.settings.components {
                let architecture = &self.settings.architecture;
                match PackagesFile::find(&kept.release, component, architecture) {
                    None if suite.optional => {}
                    None => return None,
                    Some(file) => {
                        let index = Index::open(&cache.index_path(file.key())).ok()?;
                        let release = &kept.release;
                        let suite =
                            Suite::new(&suite, component, release, release_digest, &file, index);
                        opened.suites.push(suite);
                    }
                }
            }
        }
        Some(opened)
    }
}

impl Suite {
    pub(super) fn new(
        address: &SuiteAddress,
        component: &str,
        release: &Release,
        release_digest: Digest,
        file: &PackagesFile,
        index: Index,
    ) -> Self {
        Self {
            name: address.name.clone(),
            component: component.to_owned(),
            base_url: address.base_url.clone(),
            release_digest,
            release_date: release.date,
            valid_until: release.valid_until,
            packages_digest: file.key(),
            index,
        }
    }
}

/// Removes indexes that no kept InRelease names any more, and what writers that died left behind. Returns the bytes freed.
pub fn prune(cache: &Path, now: SystemTime) -> io::Result<u64> {
    let mut named = HashSet::new();
    for entry in entries(&cache.join("releases"))? {
        if entry.path().extension() != Some(OsStr::new("InRelease")) {
            continue;
        }
        let release = fs::read(entry.path())
            .ok()
            .and_then(|bytes| Release::parse(&signed_text(&bytes).ok()?).ok());
        if let Some(release) = release {
            named.extend(release.files.values().map(|file| file.sha256));
        }
    }
    let mut freed = 0;
    for directory in ["releases", "indexes", "partial"] {
        for entry in entries(&cache.join(directory))? {
            let path = entry.path();
            let metadata = entry.metadata()?;
            let age = metadata
                .modified()
                .ok()
                .and_then(|modified| now.duration_since(modified).ok());
            let stale = age.is_some_and(|age| age > LONGEST_WRITE);
            let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            let useless = match path.extension().and_then(OsStr::to_str) {
                Some("idx") => stem.parse().is_ok_and(|digest| !named.contains(&digest)),
                Some("tmp") => stale,
                _ => directory == "partial" && stale,
            };
            if useless && fs::remove_file(&path).is_ok() {
                freed += metadata.len();
            }
        }
    }
    Ok(freed)
}

fn entries(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
