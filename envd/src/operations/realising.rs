//! A project's environment: on the warm path a few file reads, else locked, realised, and kept by a root.

use envd_store::{Digest, Root, RootKind, Session, TreeId};

use super::{Local, generations, locking, shimming, source::Locked};
use crate::{
    cli::{
        Failure, Kind,
        operations::{Environment, Ready},
    },
    config::Manifest,
    lock::Lock,
    progress::Progress,
    project::Project,
    realise::{self, RealiseError, Realised, key::memo_key},
};

/// `envd run` and `envd enter`.
pub(super) fn project(
    local: &Local,
    project: &Project,
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<Environment, Failure> {
    if let Some(ready) = ready(local, project, manifest)? {
        return Ok(local.keep(ready));
    }
    let mut lock = locking::current(local, project, manifest, progress)?;
    let session = local.session()?;
    let realised = realise_lock(local, &session, &lock, progress)?;
    if lock.root.is_none() {
        lock.root = Some(realised.root);
        lock.save(&project.lock())?;
    }
    keep(local, &session, project, manifest, &lock, realised.trees)?;
    shimming::follow(project, &realised.view);
    held(local, &realised.root)
}

/// Keeps the trees of a realised lock, the root last, as the project's environment and as a generation of it, and notes that it is ready.
fn keep(
    local: &Local,
    session: &Session,
    project: &Project,
    manifest: &Manifest,
    lock: &Lock,
    trees: Vec<TreeId>,
) -> Result<(), Failure> {
    let text = lock.to_text();
    if let Some(root) = trees.last() {
        generations::record(local, session, project, manifest, lock, &trees)?;
        session.set_memo(&key(project, manifest, text.as_bytes())?, root)?;
    }
    Ok(session.set_root(&Root {
        name: root_name(project),
        kind: RootKind::Project,
        path: Some(project.root.clone()),
        lock: Some(Digest::of(text.as_bytes())),
        trees,
        fetch: Vec::new(),
        created: local.seconds(),
    })?)
}

/// What the store's root of a project is called.
pub(super) fn root_name(project: &Project) -> String {
    let path = project.root.as_os_str().as_encoded_bytes();
    format!("project-{}", &Digest::of(path).to_string()[..32])
}

/// The project's environment if there is nothing to be done for it.
pub(super) fn ready(
    local: &Local,
    project: &Project,
    manifest: &Manifest,
) -> Result<Option<Ready>, Failure> {
    let Some(bytes) = locking::bytes(&project.lock())? else {
        return Ok(None);
    };
    let known = local.store()?.memo(&key(project, manifest, &bytes)?);
    let root = match known {
        Some(root) => Some(root),
        None => shared(local, project, manifest, &bytes)?,
    };
    root.map_or(Ok(None), |root| local.entered(&root))
}

/// The root of the very same lock that was realised before: by another work tree of the same repository, or by this one before the lock
/// went away and came back. From now on it is kept for this project, too.
fn shared(
    local: &Local,
    project: &Project,
    manifest: &Manifest,
    bytes: &[u8],
) -> Result<Option<TreeId>, Failure> {
    let store = local.store()?;
    let digest = Digest::of(bytes);
    let same = |root: &Root| {
        root.lock == Some(digest) && matches!(root.kind, RootKind::Project | RootKind::Generation)
    };
    // What cannot be read is said by whoever needs it.
    let roots = store.roots().unwrap_or_default().into_iter();
    let Some(other) = roots.map(|state| state.root).find(same) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let inputs = locking::Wanted::of(&manifest.environment)?;
    let lock = match Lock::parse(text, &project.lock()) {
        Ok(lock) if lock.is_current_for(&inputs.inputs()?) => lock,
        _ => return Ok(None),
    };
    let mut trees = other.trees;
    if other.kind == RootKind::Generation {
        trees.pop();
    }
    let session = local.session()?;
    let root = lock.root.filter(|root| trees.last() == Some(root));
    // Looked at while gc cannot come between.
    let Some(view) = root.and_then(|root| session.store().view_path(&root)) else {
        return Ok(None);
    };
    keep(local, &session, project, manifest, &lock, trees)?;
    shimming::follow(project, &view);
    Ok(root)
}

/// The memo that names the root. The bytes of the lock decide, so that whatever was changed in it is looked at again.
fn key(project: &Project, manifest: &Manifest, lock: &[u8]) -> Result<Digest, Failure> {
    let wanted = locking::Wanted::of(&manifest.environment)?;
    Ok(key_of(project, &wanted.inputs()?.digest(), lock))
}

/// The same where only the digest of what the manifest asks for is known.
pub(super) fn key_of(project: &Project, inputs: &Digest, lock: &[u8]) -> Digest {
    memo_key(&[
        "ready",
        &project.root.to_string_lossy(),
        &Digest::of(lock).to_string(),
        &inputs.to_string(),
    ])
}

/// Realises a lock, and refuses a root that is not the one it names.
pub(super) fn realise_lock(
    local: &Local,
    session: &Session,
    lock: &Lock,
    progress: &dyn Progress,
) -> Result<Realised, Failure> {
    let realised = realise_packages(local, session, lock, progress)??;
    match lock.root {
        Some(expected) if expected != realised.root => Err(Failure::new(
            Kind::Integrity,
            format!(
                "the packages of envd.lock make the root {}, but it names {expected}",
                realised.root
            ),
        )
        .help(
            "if you trust the packages it lists, delete its line `root` and run the command again",
        )),
        _ => Ok(realised),
    }
}

/// The same of a lock that names no root; why not is told apart from what keeps it from being tried.
pub(super) fn realise_packages(
    local: &Local,
    session: &Session,
    lock: &Lock,
    progress: &dyn Progress,
) -> Result<Result<Realised, RealiseError>, Failure> {
    let source = Locked::new(lock, &local.archive()?, local.fetcher());
    let artifacts: Vec<_> = lock
        .artifacts
        .iter()
        .map(|locked| locked.artifact.clone())
        .collect();
    let request = realise::Request {
        artifacts: &artifacts,
        ahead: &lock.essentials(),
    };
    let program = &local.program;
    Ok(realise::realise(
        session, &request, &source, program, progress,
    ))
}

/// The environment with its view held. The session that made it is alive, so gc cannot have come between.
pub(super) fn held(local: &Local, root: &TreeId) -> Result<Environment, Failure> {
    let ready = local.entered(root)?.ok_or_else(|| {
        Failure::new(
            Kind::Store,
            format!("the view of {root} vanished while it was needed"),
        )
        .help("run the command again")
    })?;
    Ok(local.keep(ready))
}
