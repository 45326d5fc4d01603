//! Layers that a daemon's environments share ([`envd_shims::Skeleton`]): each is laid once, and gone with the daemon.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::PathBuf,
};

use envd_shims::{Plan, Skeleton};
use envd_store::Digest;

/// Where they are.
#[derive(Debug)]
pub struct Skeletons {
    directory: PathBuf,
}

impl Skeletons {
    /// In a directory of the daemon's alone. What a killed one has left there goes.
    pub fn new(directory: PathBuf) -> Self {
        let skeletons = Self { directory };
        skeletons.clear();
        skeletons
    }

    /// The plan for environments that share what they can. Where that cannot be laid, they make it again each.
    pub fn plan(&self, plan: &Plan) -> Plan {
        let Some(skeleton) = Skeleton::of(plan) else {
            return plan.clone();
        };
        match self.lay(&skeleton) {
            Ok(layer) => skeleton.plan(&layer),
            Err(error) => {
                let directory = self.directory.display();
                tracing::warn!(%error, "environments share no files: {directory} cannot be used");
                plan.clone()
            }
        }
    }

    /// Lays a layer, if there is none that is the same; gives its directory.
    fn lay(&self, skeleton: &Skeleton) -> io::Result<PathBuf> {
        let things = serde_json::to_vec(skeleton.things())?;
        let name = Digest::of(&things).to_string();
        let layer = self.directory.join(&name[..16]);
        if layer.is_dir() {
            return Ok(layer);
        }
        let new = layer.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
        skeleton.lay(&new)?;
        // Who lives on it may look into it. The way to it on this machine stays closed.
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        fs::rename(&new, &layer)?;
        Ok(layer)
    }

    fn clear(&self) {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "{} stays", self.directory.display());
            }
            _ => {}
        }
    }
}

impl Drop for Skeletons {
    fn drop(&mut self) {
        self.clear();
    }
}
