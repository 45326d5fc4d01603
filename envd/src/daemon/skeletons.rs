//! Layers that a daemon's environments share ([`envd_shims::Skeleton`]): each is laid once, and gone with the daemon.

use std::{
    cell::OnceCell,
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use envd_shims::{Plan, Skeleton};
use envd_store::{Digest, Place, Store};

/// Where they are: a place of the store, which the next command sweeps should the daemon be killed.
#[derive(Debug)]
pub struct Skeletons {
    store: PathBuf,
    place: OnceCell<Place>,
}

impl Skeletons {
    /// In a store.
    pub fn new(store: &Path) -> Self {
        Self {
            store: store.to_owned(),
            place: OnceCell::new(),
        }
    }

    /// The plan for environments that share what they can. Where that cannot be laid, they make it again each.
    pub fn plan(&self, plan: &Plan) -> Plan {
        let Some(skeleton) = Skeleton::of(plan) else {
            return plan.clone();
        };
        match self.lay(&skeleton) {
            Ok(layer) => skeleton.plan(&layer),
            Err(error) => {
                tracing::warn!(%error, "environments share no files: no layer can be laid");
                plan.clone()
            }
        }
    }

    /// Lays a layer, if there is none that is the same; gives its directory.
    fn lay(&self, skeleton: &Skeleton) -> io::Result<PathBuf> {
        let things = serde_json::to_vec(skeleton.things())?;
        let name = Digest::of(&things).to_string();
        let layer = self.place()?.path().join(&name[..16]);
        if layer.is_dir() {
            return Ok(layer);
        }
        let new = layer.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        DirBuilder::new().mode(0o700).create(&new)?;
        skeleton.lay(&new)?;
        // Who lives on it may look into it. The way to it on this machine stays closed.
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        fs::rename(&new, &layer)?;
        Ok(layer)
    }

    fn place(&self) -> io::Result<&Place> {
        if let Some(place) = self.place.get() {
            return Ok(place);
        }
        let place = Store::open(&self.store).and_then(|store| store.place());
        let place = place.map_err(io::Error::other)?;
        Ok(self.place.get_or_init(|| place))
    }
}
