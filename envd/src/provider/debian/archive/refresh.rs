//! From a channel's name to opened indexes: fetch, verify, compare with what was known, unpack, keep.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use envd_store::{Digest, Hasher};
use futures_util::future::try_join_all;

use super::{
    Archive, ArchiveError, ChannelIndexes, Suite, SuiteAddress,
    cache::{Cache, PackagesFile, Packing},
};
use crate::{
    fetch::{Download, FetchError, Fetcher},
    progress::{Phase, Progress},
    provider::{
        Channel,
        debian::{
            index::{Index, IndexError},
            release::{Moment, Release},
        },
    },
};

/// The largest InRelease. Debian's are 140 kB, and a derivative's with all architectures a megabyte.
const RELEASE_LIMIT: u64 = 16 << 20;

/// The largest list of packages whose size when unpacked is not stated.
const UNPACKED_LIMIT: u64 = 2 << 30;

/// How often a list that someone removed between its download and its use is fetched again. Another process that wanted the
/// same removes it once the index is there, so that the second look finds that.
const RACES: u32 = 3;

/// A suite whose InRelease is believed.
struct Verified {
    address: SuiteAddress,
    bytes: Vec<u8>,
    release: Release,
    /// The components that it has.
    files: Vec<(String, PackagesFile)>,
}

impl Archive {
    /// Compares a channel with the archive and opens its indexes, fetching and building those that changed.
    ///
    /// `accept_expired` lets indexes past their Valid-Until pass; those of a pinned channel do anyway. Nothing that is not
    /// verified is ever kept, and when anything fails, what was kept stays as it was.
    pub async fn refresh(
        &self,
        channel: &Channel,
        fetcher: &Fetcher,
        cache: &Path,
        now: Moment,
        accept_expired: bool,
        progress: &dyn Progress,
    ) -> Result<ChannelIndexes, ArchiveError> {
        let accept_expired = accept_expired || channel.snapshot.is_some();
        let suites = self.suites(channel);
        let cache = Cache(cache);
        let looked = suites.iter().map(|suite| {
            let found = self.verified(suite, fetcher, &cache, now, accept_expired);
            async move { Ok::<_, ArchiveError>((suite, found.await?)) }
        });
        let mut verified = Vec::new();
        let mut absent = Vec::new();
        for (suite, found) in try_join_all(looked).await? {
            match found {
                Some(found) => verified.push(found),
                None => absent.push(suite),
            }
        }

        let wanted = verified
            .iter()
            .flat_map(|suite| suite.files.iter().map(move |file| (suite, file)));
        let missing: Vec<_> = wanted
            .filter(|(_, (_, file))| open_sound(&cache.index_path(file.key())).is_none())
            .collect();
        if !missing.is_empty() {
            let total = missing.iter().map(|(_, (_, file))| file.served.size).sum();
            progress.started(Phase::Index, total);
            let made = missing
                .iter()
                .map(|(suite, (_, file))| make_index(suite, file, fetcher, &cache, progress));
            try_join_all(made).await?;
            progress.finished(Phase::Index);
        }

        let mut opened = Vec::new();
        for suite in &verified {
            let digest = Digest::of(&suite.bytes);
            for (component, file) in &suite.files {
                let index = Index::open(&cache.index_path(file.key()))
                    .map_err(|source| index_error(&suite.address, source))?;
                opened.push(Suite::new(
                    &suite.address,
                    component,
                    &suite.release,
                    digest,
                    file,
                    index,
                ));
            }
        }
        // Last, so that whoever finds an InRelease finds its indexes.
        for suite in &verified {
            cache.write_bytes(&cache.release_path(&suite.address), &suite.bytes)?;
            let _ = fs::remove_file(cache.absent_path(&suite.address));
        }
        for suite in &absent {
            cache.write_bytes(&cache.absent_path(suite), b"")?;
        }
        Ok(ChannelIndexes {
            channel: channel.clone(),
            suites: opened,
            absent: absent.into_iter().map(|suite| suite.name.clone()).collect(),
            refreshed: now,
        })
    }

    /// A suite's InRelease, believed and current, or `None` if the archive has no such suite and need not.
    async fn verified(
        &self,
        suite: &SuiteAddress,
        fetcher: &Fetcher,
        cache: &Cache<'_>,
        now: Moment,
        accept_expired: bool,
    ) -> Result<Option<Verified>, ArchiveError> {
        let url = format!("{}/dists/{}/InRelease", suite.base_url, suite.name);
        let what = format!("the signed index of suite {}", suite.name);
        let kept = cache.kept(suite);
        let bytes = match fetcher.get_small(&what, &url, RELEASE_LIMIT).await {
            Ok(bytes) => bytes,
            Err(e) if !e.is_missing() => return Err(e.into()),
            Err(_) if !suite.optional => {
                return Err(ArchiveError::NoSuite {
                    suite: suite.name.clone(),
                    base_url: suite.shown_base(),
                });
            }
            Err(_) if kept.is_some() => {
                return Err(ArchiveError::Vanished {
                    suite: suite.name.clone(),
                    base_url: suite.shown_base(),
                    remembered: cache.release_path(suite),
                });
            }
            Err(_) => return Ok(None),
        };
        let (release, known) = match kept {
            // Verified when it was kept. A key that has been revoked since comes with a new envd, and a new InRelease.
            Some(kept) if kept.bytes == bytes => (kept.release, None),
            kept => {
                let signed = self
                    .settings
                    .keyring
                    .verify(&bytes, now)
                    .map_err(|source| ArchiveError::Trust {
                        suite: suite.name.clone(),
                        base_url: suite.shown_base(),
                        source,
                    })?;
                let release =
                    Release::parse(&signed.text).map_err(|source| ArchiveError::Release {
                        suite: suite.name.clone(),
                        source,
                    })?;
                (release, kept.map(|kept| kept.release.date))
            }
        };
        if !release.answers_to(&suite.name) {
            return Err(ArchiveError::WrongSuite {
                suite: suite.name.clone(),
                found: release.name().to_owned(),
                base_url: suite.shown_base(),
            });
        }
        if let Some(known) = known.filter(|known| *known > release.date) {
            return Err(ArchiveError::Rollback {
                suite: suite.name.clone(),
                base_url: suite.shown_base(),
                offered: release.date,
                known,
                remembered: cache.release_path(suite),
            });
        }
        release.check_validity(now, accept_expired)?;
        Ok(Some(Verified {
            files: self.files_of(suite, &release)?,
            address: suite.clone(),
            bytes,
            release,
        }))
    }

    fn files_of(
        &self,
        suite: &SuiteAddress,
        release: &Release,
    ) -> Result<Vec<(String, PackagesFile)>, ArchiveError> {
        let architecture = &self.settings.architecture;
        let mut files = Vec::new();
        for component in &self.settings.components {
            match PackagesFile::find(release, component, architecture) {
                Some(file) => files.push((component.clone(), file)),
                None if suite.optional => {}
                None => {
                    return Err(ArchiveError::NoPackages {
                        suite: suite.name.clone(),
                        component: component.clone(),
                        architecture: architecture.clone(),
                        components: release.components.join(", "),
                        architectures: release.architectures.join(", "),
                    });
                }
            }
        }
        Ok(files)
    }
}

impl SuiteAddress {
    /// The base address without user name and password.
    fn shown_base(&self) -> String {
        match (self.base_url.split_once("://"), self.base_url.rfind('@')) {
            (Some((scheme, _)), Some(at)) => format!("{scheme}://{}", &self.base_url[at + 1..]),
            _ => self.base_url.clone(),
        }
    }
}

/// An index file that is whole. A damaged one counts as none, and is made anew.
fn open_sound(path: &Path) -> Option<Index> {
    let index = Index::open(path).ok()?;
    index.verify().ok()?;
    Some(index)
}

fn index_error(suite: &SuiteAddress, source: IndexError) -> ArchiveError {
    ArchiveError::Index {
        suite: suite.name.clone(),
        source,
    }
}

/// Fetches a list of packages and builds its index.
async fn make_index(
    suite: &Verified,
    file: &PackagesFile,
    fetcher: &Fetcher,
    cache: &Cache<'_>,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    let address = &suite.address;
    let below = format!("{}/dists/{}", address.base_url, address.name);
    let mut urls = Vec::new();
    if suite.release.acquire_by_hash {
        let directory = file
            .path
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        let digest = file.served.sha256;
        urls.push(format!("{below}/{directory}/by-hash/SHA256/{digest}"));
    }
    urls.push(format!("{below}/{}", file.path));
    let wanted = Download {
        what: format!("the list of packages of suite {}", address.name),
        urls,
        size: file.served.size,
        sha256: file.served.sha256,
    };
    let partial = cache.partial();
    for _ in 0..RACES {
        let packed = fetcher
            .download(&wanted, &partial, Phase::Index, progress)
            .await?;
        match build_in_background(address, file, cache, packed).await {
            Err(ArchiveError::Cache { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if open_sound(&cache.index_path(file.key())).is_some() {
                    return Ok(());
                }
            }
            other => return other,
        }
    }
    Err(ArchiveError::Cache {
        step: "keep the lists of packages in",
        path: partial,
        source: io::ErrorKind::NotFound.into(),
    })
}

async fn build_in_background(
    address: &SuiteAddress,
    file: &PackagesFile,
    cache: &Cache<'_>,
    packed: PathBuf,
) -> Result<(), ArchiveError> {
    let job = Job {
        suite: address.clone(),
        cache: cache.0.to_owned(),
        key: file.key(),
        unpacked: file
            .unpacked
            .map(|unpacked| (unpacked.size, unpacked.sha256)),
        packing: file.packing,
        packed,
    };
    let path = job.packed.clone();
    tokio::task::spawn_blocking(move || job.run())
        .await
        .map_err(|e| ArchiveError::Cache {
            step: "unpack",
            path,
            source: io::Error::other(e),
        })?
}

/// Unpacking and reading one list of packages, which takes up to a second.
struct Job {
    suite: SuiteAddress,
    cache: PathBuf,
    packed: PathBuf,
    key: Digest,
    packing: Packing,
    /// Size and digest that the unpacked list must have.
    unpacked: Option<(u64, Digest)>,
}

impl Job {
    fn run(self) -> Result<(), ArchiveError> {
        let packed = File::open(&self.packed).map_err(|source| ArchiveError::Cache {
            step: "open",
            path: self.packed.clone(),
            source,
        })?;
        let packed = BufReader::with_capacity(256 << 10, packed);
        let plain: Box<dyn Read> = match self.packing {
            Packing::Xz => Box::new(liblzma::bufread::XzDecoder::new(packed)),
            Packing::Gzip => Box::new(flate2::bufread::GzDecoder::new(packed)),
            Packing::Plain => Box::new(packed),
        };
        let mut measured = Measured {
            reader: plain,
            hasher: Hasher::default(),
            left: self.unpacked.map_or(UNPACKED_LIMIT, |(size, _)| size),
        };
        let cache = Cache(&self.cache);
        let path = cache.index_path(self.key);
        cache.write(&path, false, |out| {
            Index::build(&mut measured, out).map_err(|e| index_error(&self.suite, e))?;
            let found = measured.hasher.clone().finish().0;
            match self.unpacked {
                Some((_, expected)) if expected != found => Err(ArchiveError::WrongPackages {
                    suite: self.suite.name.clone(),
                    expected,
                    found,
                }),
                _ => Ok(()),
            }
        })?;
        // It was only on the way; a leftover is pruned.
        let _ = fs::remove_file(&self.packed);
        Ok(())
    }
}

/// Hashes what passes, and stops where more comes than there may be.
struct Measured<R> {
    reader: R,
    hasher: Hasher,
    left: u64,
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than the signed index says"))?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl ArchiveError {
    /// Whether it failed for being offline, so that what is cached may do.
    pub fn is_offline(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Offline { .. }))
    }
}
