//! A project's environment: on the warm path a few file reads, else locked, realised, and kept by a root.

use envd_store::{Digest, Root, RootKind, TreeId};

use super::{Local, locking, shimming, source::Locked};
use crate::{
    cli::{
        Failure, Kind,
        operations::{Environment, Ready},
    },
    config::Manifest,
    lock::Lock,
    progress::Progress,
    project::Project,
    realise::{self, Realised, key::memo_key},
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
    let text = lock.to_text();
    session.set_root(&Root {
        name: root_name(project),
        kind: RootKind::Project,
        path: Some(project.root.clone()),
        lock: Some(Digest::of(text.as_bytes())),
        trees: realised.trees,
        fetch: Vec::new(),
        created: local.seconds(),
    })?;
    session.set_memo(&key(project, manifest, text.as_bytes())?, &realised.root)?;
    shimming::follow(project, &realised.view);
    held(local, &realised.root)
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
    match local.store()?.memo(&key(project, manifest, &bytes)?) {
        Some(root) => local.entered(&root),
        None => Ok(None),
    }
}

/// The memo that names the root. The bytes of the lock decide, so that whatever was changed in it is looked at again.
fn key(project: &Project, manifest: &Manifest, lock: &[u8]) -> Result<Digest, Failure> {
    let inputs = locking::Wanted::of(&manifest.environment)?
        .inputs()?
        .digest();
    Ok(memo_key(&[
        "ready",
        &project.root.to_string_lossy(),
        &Digest::of(lock).to_string(),
        &inputs.to_string(),
    ]))
}

/// Realises a lock, and refuses a root that is not the one it names.
pub(super) fn realise_lock(
    local: &Local,
    session: &envd_store::Session,
    lock: &Lock,
    progress: &dyn Progress,
) -> Result<Realised, Failure> {
    let source = Locked::new(lock, &local.archive()?, local.fetcher());
    let artifacts: Vec<_> = lock
        .artifacts
        .iter()
        .map(|locked| locked.artifact.clone())
        .collect();
    let realised = realise::realise(session, &artifacts, &source, &local.program, progress)?;
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
