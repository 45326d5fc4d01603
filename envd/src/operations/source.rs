//! Where locked packages come from: the mirror, and what it no longer carries, the snapshot service.

use std::{
    collections::HashMap,
    error::Error,
    path::{Path, PathBuf},
};

use envd_store::Digest;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::{
    cli::{Failure, Kind},
    fetch::{Download, FetchError, Fetcher},
    lock::Lock,
    progress::{Phase, Progress},
    provider::{Artifact, debian::archive::Archive, debian::release::Moment},
    realise::Source,
};

/// The packages of a lock.
pub(super) struct Locked {
    fetcher: Fetcher,
    /// Where each may be, by its digest.
    urls: HashMap<Digest, Vec<String>>,
}

/// A locked file that is nowhere any more.
#[derive(Debug, thiserror::Error)]
#[error("package {name} {version} is no longer to be had")]
pub(super) struct Missing {
    name: String,
    version: String,
    #[source]
    source: FetchError,
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        Self::of(Kind::Fetch, &missing).help(format!(
            "`envd update {}` locks a version that the archive has",
            missing.name
        ))
    }
}

impl Locked {
    pub fn new(lock: &Lock, archive: &Archive, fetcher: Fetcher) -> Self {
        let urls = lock.artifacts.iter().filter_map(|locked| {
            let suite = lock.suite_of(locked)?;
            let date = Moment::from_unix(suite.date.to_unix());
            let urls =
                archive.artifact_urls(&locked.channel, &locked.suite, &locked.artifact.path, date);
            Some((locked.artifact.sha256, urls))
        });
        Self {
            urls: urls.collect(),
            fetcher,
        }
    }
}

impl Source for Locked {
    fn fetch_all(
        &self,
        wanted: &[&Artifact],
        directory: &Path,
        progress: &dyn Progress,
        arrived: &(dyn Fn(usize, PathBuf) -> bool + Sync),
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        progress.started(
            Phase::Download,
            wanted.iter().map(|artifact| artifact.size).sum(),
        );
        let transfers: FuturesUnordered<_> = wanted
            .iter()
            .enumerate()
            .map(|(number, artifact)| async move {
                let download = Download {
                    what: format!(
                        "{} {} ({})",
                        artifact.name, artifact.version, artifact.architecture
                    ),
                    urls: self.urls.get(&artifact.sha256).cloned().unwrap_or_default(),
                    size: artifact.size,
                    sha256: artifact.sha256,
                };
                let fetched = self
                    .fetcher
                    .download(&download, directory, Phase::Download, progress)
                    .await;
                (number, fetched)
            })
            .collect();
        let result = runtime.block_on(async {
            let mut transfers = transfers;
            while let Some((number, fetched)) = transfers.next().await {
                match fetched {
                    Ok(path) => {
                        if !arrived(number, path) {
                            // The receiver knows why.
                            break;
                        }
                    }
                    Err(source) if source.is_missing() => {
                        let artifact = wanted[number];
                        let (name, version) = (artifact.name.clone(), artifact.version.clone());
                        return Err(Box::new(Missing {
                            name,
                            version,
                            source,
                        }) as Box<dyn Error + Send + Sync>);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        });
        progress.finished(Phase::Download);
        result
    }
}
