//! From locked artifacts to package trees: downloads, several at a time, and unpacking, one thread a core, overlap. What
//! the store has already is neither fetched nor unpacked.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
};

use envd_store::{Digest, Session, TreeId};

use super::{RealiseError, Source, compose::Package, key::memo_key};
use crate::{
    progress::{Phase, Progress},
    provider::{Artifact, debian::deb},
};

/// Raised whenever the tree of the same package file may change.
const UNPACK_VERSION: &str = "1";

/// The tree of a package file that was unpacked before.
fn known(session: &Session, artifact: &Artifact) -> Option<TreeId> {
    let key = memo_key(&["deb", UNPACK_VERSION, &artifact.sha256.to_string()]);
    session.store().memo(&key)
}

/// All artifacts as packages, in their own order.
pub fn packages(
    session: &Session,
    artifacts: &[Artifact],
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<Vec<Package>, RealiseError> {
    let missing: Vec<&Artifact> = artifacts
        .iter()
        .filter(|a| known(session, a).is_none())
        .collect();
    if !missing.is_empty() {
        fetch_and_unpack(session, missing, source, progress)?;
    }
    artifacts
        .iter()
        .map(|artifact| load(session, artifact))
        .collect()
}

fn load(session: &Session, artifact: &Artifact) -> Result<Package, RealiseError> {
    let id = known(session, artifact).ok_or_else(|| RealiseError::Vanished {
        name: artifact.name.clone(),
    })?;
    let tree = session.store().tree(&id)?;
    let package = Package::load(session.store(), id, tree)?;
    let says = (&package.name, &package.version, &package.architecture);
    if says != (&artifact.name, &artifact.version, &artifact.architecture) {
        return Err(RealiseError::Mislabelled {
            locked: format!(
                "{} {} {}",
                artifact.name, artifact.version, artifact.architecture
            ),
            found: format!("{} {} {}", says.0, says.1, says.2),
        });
    }
    Ok(package)
}

fn fetch_and_unpack(
    session: &Session,
    mut missing: Vec<&Artifact>,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<(), RealiseError> {
    // The largest first, so that the last thread to finish has little left.
    missing.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    progress.started(Phase::Unpack, missing.iter().map(|a| a.size).sum());
    let (sender, receiver) = mpsc::channel::<(usize, PathBuf)>();
    let receiver = Mutex::new(receiver);
    let failure = Mutex::new(None::<RealiseError>);
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = receiver
                        .lock()
                        .ok()
                        .and_then(|receiver| receiver.recv().ok());
                    let Some((number, path)) = next else { return };
                    let failed = |slot: &Mutex<Option<RealiseError>>| {
                        slot.lock().is_ok_and(|slot| slot.is_some())
                    };
                    if failed(&failure) {
                        continue;
                    }
                    match unpack(session, missing[number], &path) {
                        Ok(()) => progress.advance(Phase::Unpack, missing[number].size),
                        Err(error) => {
                            if let Ok(mut slot) = failure.lock() {
                                slot.get_or_insert(error);
                            }
                        }
                    }
                }
            });
        }
        let fetched = source.fetch_all(
            &missing,
            &session.store().path("fetch"),
            progress,
            &|number, path| {
                // A closed channel means that every worker has ended: the failure slot says why.
                let _ = sender.send((number, path));
                failure.lock().is_ok_and(|slot| slot.is_none())
            },
        );
        drop(sender);
        fetched.map_err(RealiseError::Fetch)
    })?;
    progress.finished(Phase::Unpack);
    match failure.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

fn unpack(session: &Session, artifact: &Artifact, path: &Path) -> Result<(), RealiseError> {
    let refused = |source: deb::DebError| RealiseError::Unpack {
        name: artifact.name.clone(),
        version: artifact.version.clone(),
        source: Box::new(source),
    };
    // The file was checked when it came; whatever happened to it since is found here, at a thousandth of the cost of what follows.
    let found = std::fs::File::open(path).and_then(|mut file| Digest::of_reader(&mut file));
    let (found, _) = found.map_err(|e| refused(deb::DebError::Read(e)))?;
    if found != artifact.sha256 {
        // So that the next command fetches it again.
        let _ = std::fs::remove_file(path);
        return Err(refused(deb::DebError::Digest {
            expected: artifact.sha256,
            found,
        }));
    }
    let tree = deb::unpack(session, path).map_err(refused)?;
    let id = session.add_tree(&tree)?;
    let key = memo_key(&["deb", UNPACK_VERSION, &artifact.sha256.to_string()]);
    Ok(session.set_memo(&key, &id)?)
}
