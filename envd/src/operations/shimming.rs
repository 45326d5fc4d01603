//! Shims follow the environment, and say whose a tool is.

use std::path::Path;

use envd_store::TreePath;

use super::{Local, locking, realising};
use crate::{
    cli::{Failure, shim},
    project::Project,
    shims::Shims,
};

/// Brings a project's shims up to a new root, if it has any. That they cannot be is said, but is no reason not to run.
pub(super) fn follow(project: &Project, view: &Path) {
    let shims = Shims::of(&project.root);
    if !shims.installed() {
        return;
    }
    let updated =
        shim::commands(view).and_then(|commands| Ok(shims.update(&commands, &shim::own_path()?)?));
    match updated {
        Ok(updated) => {
            for installed in updated {
                let (directory, commands) = (installed.directory, installed.commands);
                tracing::info!(directory = %directory.display(), commands, "the shims are up to date");
            }
        }
        Err(failure) => {
            let message = failure.message;
            tracing::warn!(
                "the shims are not up to date: {message}; `envd shim install` tries again"
            );
        }
    }
}

/// The package, with its version, that a file of the realised environment is of. Nothing for files that the configuration made.
pub(super) fn package_of(
    local: &Local,
    project: &Project,
    file: &Path,
) -> Result<Option<String>, Failure> {
    let store = local.store()?;
    let (Some(lock), Some(root)) = (
        locking::existing(project)?,
        store.root(&realising::root_name(project))?,
    ) else {
        return Ok(None);
    };
    let below = [b"data", file.as_os_str().as_encoded_bytes()].concat();
    let Ok(path) = TreePath::new(&below) else {
        return Ok(None);
    };
    // The packages' trees come first, in the lock's order.
    for (locked, tree) in lock.artifacts.iter().zip(&root.trees) {
        if store.tree(tree)?.get(&path).is_some() {
            let artifact = &locked.artifact;
            return Ok(Some(format!("{} {}", artifact.name, artifact.version)));
        }
    }
    Ok(None)
}
