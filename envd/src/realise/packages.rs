//! From locked artifacts to package trees: downloads, several at a time, and unpacking, one thread a core, overlap. What
//! the store has already is neither fetched nor unpacked.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, mpsc},
};

use envd_store::{Digest, Session, Tree, TreeId};

use super::{
    RealiseError, Request, Source,
    compose::Package,
    key::memo_key,
    schedule::{Milestone, Schedule, Turn},
    strata,
};
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

/// From how many missing packages on it is worth while to configure some before all are unpacked.
const MANY: usize = 20;

/// By how much unpacking gives way to configuring, which is one thing after another and so the longer of the two: nice(2).
const NICE: i32 = 3;

/// All artifacts as packages, in their own order. `ready` is told of those of the first strata when these are unpacked and
/// others are not.
pub fn packages(
    session: &Session,
    request: &Request<'_>,
    source: &dyn Source,
    progress: &dyn Progress,
    ready: mpsc::Sender<Vec<Artifact>>,
) -> Result<Vec<Package>, RealiseError> {
    let artifacts = request.artifacts;
    let missing: Vec<&Artifact> = artifacts
        .iter()
        .filter(|a| known(session, a).is_none())
        .collect();
    if !missing.is_empty() {
        let ahead = (missing.len() >= MANY).then(|| Ahead {
            request,
            ready: Mutex::new(ready),
            second: OnceLock::new(),
        });
        fetch_and_unpack(session, missing, ahead.as_ref(), source, progress)?;
    }
    load_all(session, artifacts)
}

/// What is to be told of what is done, while the rest is being done.
struct Ahead<'a> {
    request: &'a Request<'a>,
    ready: Mutex<mpsc::Sender<Vec<Artifact>>>,
    /// The names of the packages of the first two strata.
    second: OnceLock<BTreeSet<String>>,
}

impl Ahead<'_> {
    /// Which of these files are likely to be of the first two strata, once the control data of all is there.
    fn sort(
        &self,
        session: &Session,
        missing: &[&Artifact],
        controls: &[OnceLock<Tree>],
    ) -> Result<BTreeSet<usize>, RealiseError> {
        let mut packages = Vec::new();
        for artifact in self.request.artifacts {
            let number = missing
                .iter()
                .position(|other| other.sha256 == artifact.sha256);
            match number.and_then(|number| controls[number].get()) {
                Some(control) => {
                    packages.push(Package::load(
                        session.store(),
                        control.id(),
                        control.clone(),
                    )?);
                }
                // It was unpacked before, or is just being.
                None if known(session, artifact).is_some() => {
                    packages.push(load(session, artifact)?)
                }
                None => {}
            }
        }
        let second = strata::likely(&packages);
        let numbers = (0..missing.len()).filter(|&number| second.contains(&missing[number].name));
        let numbers = numbers.collect();
        let _ = self.second.set(second);
        Ok(numbers)
    }

    fn tell(&self, milestone: Milestone) {
        let names = match milestone {
            Milestone::First => Some(self.request.ahead),
            Milestone::Second => self.second.get(),
        };
        let Some(names) = names else { return };
        let artifacts = self.request.artifacts.iter();
        let artifacts = artifacts.filter(|artifact| names.contains(&artifact.name));
        if let Ok(ready) = self.ready.lock() {
            // Where nobody listens nothing is done ahead.
            let _ = ready.send(artifacts.cloned().collect());
        }
    }
}

/// Packages that are in the store.
pub fn load_all(session: &Session, artifacts: &[Artifact]) -> Result<Vec<Package>, RealiseError> {
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
    ahead: Option<&Ahead<'_>>,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<(), RealiseError> {
    // The largest first, so that the last thread to finish has little left.
    missing.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    progress.started(Phase::Unpack, missing.iter().map(|a| a.size).sum());
    let is_first = |artifact: &Artifact| match ahead {
        Some(ahead) => ahead.request.ahead.contains(&artifact.name),
        None => true,
    };
    let first = (0..missing.len()).filter(|&number| is_first(missing[number]));
    let schedule = Schedule::new(missing.len(), &first.collect());
    let controls: Vec<OnceLock<Tree>> = missing.iter().map(|_| OnceLock::new()).collect();
    let failure = Mutex::new(None::<RealiseError>);
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(8);
    let work = |turn: Turn, number: usize, path: PathBuf| -> Result<(), RealiseError> {
        let artifact = missing[number];
        let milestone = match turn {
            Turn::Look => {
                let _ = controls[number].set(control(session, artifact, &path)?);
                match ahead.filter(|_| schedule.looked(number, path)) {
                    Some(ahead) => schedule.sort(&ahead.sort(session, &missing, &controls)?),
                    None => None,
                }
            }
            Turn::Unpack => {
                unpack(session, artifact, &path, controls[number].get())?;
                progress.advance(Phase::Unpack, artifact.size);
                schedule.unpacked(number)
            }
        };
        if let (Some(ahead), Some(milestone)) = (ahead, milestone) {
            ahead.tell(milestone);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                if ahead.is_some() {
                    // It is this thread's own; without it only the order is another.
                    let _ = rustix::process::nice(NICE);
                }
                while let Some((turn, number, path)) = schedule.next() {
                    if failure.lock().is_ok_and(|slot| slot.is_some()) {
                        continue;
                    }
                    if let Err(error) = work(turn, number, path)
                        && let Ok(mut slot) = failure.lock()
                    {
                        slot.get_or_insert(error);
                    }
                }
            });
        }
        let fetched = source.fetch_all(
            &missing,
            &session.store().path("fetch"),
            progress,
            &|number, path| {
                schedule.arrived(number, path);
                failure.lock().is_ok_and(|slot| slot.is_none())
            },
        );
        schedule.end();
        fetched.map_err(RealiseError::Fetch)
    })?;
    progress.finished(Phase::Unpack);
    match failure.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

fn refused(artifact: &Artifact) -> impl Fn(deb::DebError) -> RealiseError {
    |source| RealiseError::Unpack {
        name: artifact.name.clone(),
        version: artifact.version.clone(),
        source: Box::new(source),
    }
}

/// The control data of a package file.
fn control(session: &Session, artifact: &Artifact, path: &Path) -> Result<Tree, RealiseError> {
    let refused = refused(artifact);
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
    deb::control(session, path).map_err(refused)
}

fn unpack(
    session: &Session,
    artifact: &Artifact,
    path: &Path,
    looked_at: Option<&Tree>,
) -> Result<(), RealiseError> {
    let own;
    let control = match looked_at {
        Some(control) => control,
        None => {
            own = control(session, artifact, path)?;
            &own
        }
    };
    let tree = deb::unpack_rest(session, path, control).map_err(refused(artifact))?;
    let id = session.add_tree(&tree)?;
    let key = memo_key(&["deb", UNPACK_VERSION, &artifact.sha256.to_string()]);
    Ok(session.set_memo(&key, &id)?)
}
