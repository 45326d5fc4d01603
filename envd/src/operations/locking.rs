//! From what `envd.toml` asks for to `envd.lock`, and what the lock answers.

use std::path::Path;

use super::{
    Local, architecture,
    indexes::{self, Freshness, Opened},
    realising,
};
use crate::{
    cli::{Failure, Kind, list, lock, why as answer},
    config::{EnvironmentSection, Manifest},
    lock::{Diff, Inputs, Lock, LockedChannel, LockedSuite, Moment},
    progress::Progress,
    project::Project,
    provider::{Channel, debian::archive::ChannelIndexes},
    resolve::{self, Request, Requirement, Start},
};

/// What is to be resolved, owned.
pub(super) struct Wanted {
    pub requirements: Vec<Requirement>,
    pub channels: Vec<Channel>,
    pub essential: bool,
}

impl Wanted {
    /// What a section asks for.
    pub fn of(section: &EnvironmentSection) -> Result<Self, Failure> {
        let parse = |text: &toml::Spanned<String>| text.get_ref().parse::<Requirement>();
        Ok(Self {
            requirements: section
                .packages
                .iter()
                .map(parse)
                .collect::<Result<_, _>>()?,
            channels: section
                .channels
                .iter()
                .map(|channel| channel.get_ref().clone())
                .collect(),
            essential: section.essential,
        })
    }

    pub fn inputs(&self) -> Result<Inputs<'_>, Failure> {
        Ok(Inputs {
            requirements: &self.requirements,
            channels: &self.channels,
            essential: self.essential,
            architecture: architecture()?,
        })
    }
}

/// The project's lock, if there is one.
pub(super) fn existing(project: &Project) -> Result<Option<Lock>, Failure> {
    let path = project.lock();
    match std::fs::symlink_metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => Ok(Some(Lock::load(&path)?)),
    }
}

/// The lock that the manifest asks for: the one there is while it is current, else a new one, written.
pub(super) fn current(
    local: &Local,
    project: &Project,
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<Lock, Failure> {
    let wanted = Wanted::of(&manifest.environment)?;
    let old = existing(project)?;
    if let Some(lock) = &old
        && (lock.is_current_for(&wanted.inputs()?) || chosen(local, project, &wanted, lock)?)
    {
        return Ok(lock.clone());
    }
    let lock = resolve(
        local,
        &manifest.environment,
        &wanted,
        old.as_ref(),
        &lock::Update::Nothing,
        progress,
    )?;
    lock.save(&project.lock())?;
    Ok(lock)
}

/// Whether somebody went back to this lock although the manifest asks for something else by now. Then it is used until it is locked anew.
fn chosen(local: &Local, project: &Project, wanted: &Wanted, lock: &Lock) -> Result<bool, Failure> {
    let inputs = wanted.inputs()?.digest();
    let key = realising::key_of(project, &inputs, lock.to_text().as_bytes());
    Ok(local.store()?.memo(&key).is_some())
}

/// `envd lock` and `envd update`.
pub(super) fn lock(
    local: &Local,
    project: &Project,
    manifest: &Manifest,
    request: &lock::Request,
    progress: &dyn Progress,
) -> Result<lock::Report, Failure> {
    let wanted = Wanted::of(&manifest.environment)?;
    let old = existing(project)?;
    if let lock::Update::Names(names) = &request.update {
        known(names, old.as_ref())?;
    }
    let keep = request.update == lock::Update::Nothing;
    let new = match &old {
        Some(lock) if keep && lock.is_current_for(&wanted.inputs()?) => lock.clone(),
        _ => resolve(
            local,
            &manifest.environment,
            &wanted,
            old.as_ref(),
            &request.update,
            progress,
        )?,
    };
    let empty;
    let before = match &old {
        Some(lock) => lock,
        None => {
            empty = Lock {
                artifacts: Vec::new(),
                ..new.clone()
            };
            &empty
        }
    };
    let changes = changes(before, &new);
    if !request.check {
        new.save(&project.lock())?;
    }
    Ok(lock::Report {
        path: project.lock().display().to_string(),
        packages: new.artifacts.len(),
        download: new.download_size(),
        changes,
    })
}

/// Refuses to update what is not there.
fn known(names: &[String], old: Option<&Lock>) -> Result<(), Failure> {
    let Some(lock) = old else { return Ok(()) };
    for name in names {
        let asked = || {
            lock.artifacts
                .iter()
                .any(|locked| locked.requested.iter().any(|asked| asked.name == *name))
        };
        if lock.artifact(name).is_none() && !asked() {
            let locked = lock
                .artifacts
                .iter()
                .map(|locked| locked.artifact.name.as_str());
            let near = resolve::nearest(name, locked, 3);
            let failure = Failure::new(Kind::Usage, format!("`{name}` is not in the environment"));
            return Err(match &near[..] {
                [] => failure.help("`envd list` prints what is"),
                near => failure.help(format!("did you mean {}?", near.join(", "))),
            });
        }
    }
    Ok(())
}

/// What leads from one lock to another, by name.
pub(super) fn changes(old: &Lock, new: &Lock) -> Vec<lock::Change> {
    let changes = Diff::between(old, new).changes;
    changes.into_iter().map(change).collect()
}

fn change(change: crate::lock::Change) -> lock::Change {
    use crate::lock::Change;
    match change {
        Change::Added { name, version } => lock::Change {
            name,
            from: None,
            to: Some(version),
        },
        Change::Removed { name, version } => lock::Change {
            name,
            from: Some(version),
            to: None,
        },
        Change::Changed { name, from, to } => lock::Change {
            name,
            from: Some(from),
            to: Some(to),
        },
    }
}

/// Chooses versions.
pub(super) fn resolve(
    local: &Local,
    section: &EnvironmentSection,
    wanted: &Wanted,
    old: Option<&Lock>,
    update: &lock::Update,
    progress: &dyn Progress,
) -> Result<Lock, Failure> {
    let archive = local.archive()?;
    let freshness = match update {
        lock::Update::Nothing => Freshness::Recent,
        lock::Update::Names(_) | lock::Update::All => Freshness::Now,
    };
    let indexes = indexes::open(
        local,
        &archive,
        &wanted.channels,
        &section.accept_expired,
        freshness,
        progress,
    )?;
    let locked = match (old, update) {
        (None, _) | (_, lock::Update::All) => Default::default(),
        (Some(old), lock::Update::Nothing) => old.versions_except(&[]),
        (Some(old), lock::Update::Names(names)) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            // A short name stands for packages of other names.
            let meant = old.artifacts.iter().filter(|locked| {
                locked
                    .requested
                    .iter()
                    .any(|asked| names.contains(&asked.name.as_str()))
            });
            let mut except = names.clone();
            except.extend(meant.map(|locked| locked.artifact.name.as_str()));
            old.versions_except(&except)
        }
    };
    let request = Request {
        requirements: wanted.requirements.clone(),
        essential: wanted.essential,
        architecture: architecture()?,
        locked,
    };
    let resolution = resolve::resolve(&Opened(&indexes), &request)?;
    let channels = indexes
        .iter()
        .map(locked_channel)
        .collect::<Result<_, _>>()?;
    let mut lock = Lock::of(&resolution, channels, &wanted.inputs()?)
        .map_err(|e| Failure::of(Kind::Other, &e))?;
    // The same packages are the same root.
    if let Some(old) = old
        && old.packages_digest() == lock.packages_digest()
    {
        lock.root = old.root;
    }
    Ok(lock)
}

fn locked_channel(indexes: &ChannelIndexes) -> Result<LockedChannel, Failure> {
    let suites = indexes.suites.iter().map(|suite| {
        let base = if suite.name.ends_with("-security") {
            "debian-security"
        } else {
            "debian"
        };
        let stamp = suite.release_date.snapshot_stamp();
        Ok(LockedSuite {
            name: suite.name.clone(),
            base: base.to_owned(),
            date: stamp
                .parse::<Moment>()
                .map_err(|e| Failure::of(Kind::Integrity, &e))?,
            in_release: suite.release_digest,
            packages: [(suite.component.clone(), suite.packages_digest)].into(),
        })
    });
    Ok(LockedChannel {
        channel: indexes.channel.clone(),
        suites: suites.collect::<Result<_, Failure>>()?,
    })
}

/// `envd why`.
pub(super) fn why(
    local: &Local,
    project: &Project,
    manifest: &Manifest,
    package: &str,
    progress: &dyn Progress,
) -> Result<Vec<answer::Chain>, Failure> {
    let lock = current(local, project, manifest, progress)?;
    let chains = resolve::why(&lock.links(), package).unwrap_or_default();
    Ok(chains.into_iter().map(|chain| steps(&chain)).collect())
}

fn steps(chain: &resolve::Chain) -> answer::Chain {
    let mut before: Option<&str> = None;
    let mut steps = Vec::with_capacity(chain.packages.len());
    for (name, version) in &chain.packages {
        let reason = match (before, &chain.start) {
            (Some(before), _) => format!("needed by {before}"),
            (None, Start::Requested(words)) => format!("asked for as {}", words.join(", ")),
            (None, Start::Essential) => "Essential".to_owned(),
        };
        steps.push(answer::Step {
            name: name.clone(),
            version: version.clone(),
            reason,
        });
        before = Some(name);
    }
    steps
}

/// `envd list`.
pub(super) fn list(
    local: &Local,
    project: &Project,
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<Vec<list::Package>, Failure> {
    let lock = current(local, project, manifest, progress)?;
    let packages = lock.artifacts.iter().map(|locked| list::Package {
        name: locked.artifact.name.clone(),
        version: locked.artifact.version.clone(),
        architecture: locked.artifact.architecture.clone(),
        channel: locked.channel.to_string(),
        size: locked.artifact.size,
        requested: !locked.requested.is_empty(),
    });
    Ok(packages.collect())
}

/// The bytes of a file, or `None` where there is none.
pub(super) fn bytes(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => {
            Err(Failure::of(Kind::Usage, &e).help(format!("{} cannot be read", path.display())))
        }
    }
}
