//! `envd x`: an environment of no project. Its lock is kept in the store, by what was asked for, so that the same tool is
//! the same version for a while, and there at once.

use envd_store::{Digest, Root, RootKind, Session};

use super::{Local, documents, locking, realising};
use crate::{
    cli::{Failure, Kind, lock, operations::Environment},
    config::EnvironmentSection,
    lock::Lock,
    progress::Progress,
    project::LOCK_NAME,
    realise::{RealiseError, key::memo_key},
};

/// After this many seconds the versions are chosen anew: a week.
const CHOSEN_FOR: u64 = 7 * 24 * 3600;

/// Realises what was asked for, the smallest root first: without Essential packages where no script needs them.
pub(super) fn realise(
    local: &Local,
    section: &EnvironmentSection,
    progress: &dyn Progress,
) -> Result<Environment, Failure> {
    let mut section = section.clone();
    let wanted = locking::Wanted::of(&section)?;
    let inputs = wanted.inputs()?.digest();
    let name = format!("tool-{}", &inputs.to_string()[..32]);
    let ready = memo_key(&["tool", &inputs.to_string()]);
    let kept = local.store()?.root(&name)?;
    let fresh = kept
        .as_ref()
        .is_some_and(|root| root.created + CHOSEN_FOR > local.seconds());
    if (fresh || local.settings.offline)
        && let Some(root) = local.store()?.memo(&ready)
        && let Some(entered) = local.entered(&root)?
    {
        return Ok(local.keep(entered));
    }
    let session = local.session()?;
    let mut attempt = attempt(local, &session, &section, progress)?;
    if attempt.is_none() && !section.essential {
        section.essential = true;
        attempt = self::attempt(local, &session, &section, progress)?;
    }
    let Some((lock, realised)) = attempt else {
        return Err(Failure::new(
            Kind::Resolve,
            "the packages need scripts to be run, but bring no dpkg or shell",
        ));
    };
    let mut trees = realised.trees;
    trees.push(documents::keep(&session, &[(LOCK_NAME, &lock.to_text())])?);
    session.set_root(&Root {
        name,
        kind: RootKind::Tool,
        path: None,
        lock: Some(Digest::of(lock.to_text().as_bytes())),
        trees,
        fetch: Vec::new(),
        created: local.seconds(),
    })?;
    session.set_memo(&ready, &realised.root)?;
    realising::held(local, &realised.root)
}

/// Locks and realises; `None` when scripts have to be run and nothing is there to run them.
fn attempt(
    local: &Local,
    session: &Session,
    section: &EnvironmentSection,
    progress: &dyn Progress,
) -> Result<Option<(Lock, crate::realise::Realised)>, Failure> {
    let wanted = locking::Wanted::of(section)?;
    let lock = locking::resolve(
        local,
        section,
        &wanted,
        None,
        &lock::Update::Nothing,
        progress,
    )?;
    match realising::realise_packages(local, session, &lock, progress)? {
        Ok(realised) => Ok(Some((lock, realised))),
        Err(RealiseError::NoShell { .. }) if !section.essential => Ok(None),
        Err(error) => Err(error.into()),
    }
}
