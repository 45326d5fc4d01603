//! Manifests in the store.

use std::{ffi::CString, os::fd::AsFd};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with},
    io::Errno,
};

use super::{
    Context, Result, Session, Store, StoreError, objects::ObjectName, read_file, write_all,
};
use crate::{Digest, Node, Tree, TreeId};

impl Store {
    /// Whether the store has this tree, and so all its content.
    pub fn has_tree(&self, id: &TreeId) -> bool {
        let name = format!("trees/{id}");
        rustix::fs::statat(self.fd(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Loads a tree; its manifest is hashed again first.
    pub fn tree(&self, id: &TreeId) -> Result<Tree> {
        let manifest = self.manifest(id)?;
        Tree::parse(&manifest).map_err(|source| StoreError::Manifest {
            path: self.tree_path(id),
            source,
        })
    }

    pub(super) fn tree_path(&self, id: &TreeId) -> std::path::PathBuf {
        self.path("trees").join(id.to_string())
    }

    /// A manifest that has the digest it should have.
    pub(super) fn manifest(&self, id: &TreeId) -> Result<Vec<u8>> {
        let name = CString::new(format!("trees/{id}")).unwrap_or_default();
        let manifest = match read_file(self.fd(), &name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::TreeMissing { id: *id });
            }
            manifest => manifest.context("read the manifest", || self.tree_path(id))?,
        };
        if Digest::of(&manifest) != id.0 {
            return Err(StoreError::TreeDamaged {
                path: self.tree_path(id),
            });
        }
        Ok(manifest)
    }
}

impl Session {
    /// Adds a tree, all of whose content must be in the store.
    pub fn add_tree(&self, tree: &Tree) -> Result<TreeId> {
        for (path, entry) in tree {
            if let Node::File { digest, .. } = entry.node
                && !self.has_object(&ObjectName::new(digest, entry.meta.mode))?
            {
                return Err(StoreError::ObjectMissing {
                    path: path.clone(),
                    digest,
                });
            }
        }
        let manifest = tree.to_manifest();
        let id = TreeId(Digest::of(&manifest));
        let store = self.store();
        if store.has_tree(&id) {
            return Ok(id);
        }
        let to = || store.tree_path(&id);
        let new = self.fresh("tree");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file =
            openat(self.fd(), &*new, flags, Mode::RUSR | Mode::WUSR).context("create", to)?;
        write_all(file.as_fd(), &manifest).context("write", to)?;
        let name = CString::new(format!("trees/{id}")).unwrap_or_default();
        let guard = self.publishing()?;
        let moved =
            match renameat_with(self.fd(), &*new, store.fd(), &*name, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL) => rustix::fs::renameat(self.fd(), &*new, store.fd(), &*name),
                other => other,
            };
        drop(guard);
        match moved {
            Ok(()) | Err(Errno::EXIST) => Ok(id),
            Err(error) => Err(error).context("publish", to),
        }
    }
}
