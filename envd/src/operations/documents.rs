//! Trees that are a few documents, so that a text is kept, collected and verified like everything else in the store.

use std::io::Read as _;

use envd_store::{Digest, Entry, Meta, Node, Session, Store, StoreError, Tree, TreeId, TreePath};

use crate::cli::{Failure, Kind};

/// Permission bits of a document.
const MODE: u16 = 0o644;

/// Keeps documents, each with its name.
pub(super) fn keep(session: &Session, documents: &[(&str, &str)]) -> Result<TreeId, Failure> {
    let mut builder = Tree::builder();
    for (name, text) in documents {
        let (digest, size) = session.put(text.as_bytes(), MODE)?;
        let path = TreePath::new(name.as_bytes()).map_err(|e| Failure::of(Kind::Other, &e))?;
        let meta = Meta {
            mode: MODE,
            ..Meta::default()
        };
        let node = Node::File { digest, size };
        builder
            .insert(path, Entry { meta, node })
            .map_err(|e| Failure::of(Kind::Other, &e))?;
    }
    let tree = builder.finish();
    Ok(session.add_tree(&tree.map_err(|e| Failure::of(Kind::Other, &e))?)?)
}

/// A document of a tree, if it has one of this name.
pub(super) fn read(store: &Store, tree: &TreeId, name: &str) -> Result<Option<String>, Failure> {
    let path = TreePath::new(name.as_bytes()).map_err(|e| Failure::of(Kind::Other, &e))?;
    let Some((digest, _)) = store.tree(tree)?.content(&path) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let mut file = store.object(&digest, MODE)?;
    let place = || store.object_path(&digest, MODE);
    let read = file.read_to_end(&mut bytes);
    read.map_err(|e| {
        Failure::of(Kind::Store, &e).help(format!("{} cannot be read", place().display()))
    })?;
    if Digest::of(&bytes) != digest {
        return Err(StoreError::ObjectDamaged { path: place() }.into());
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|e| Failure::of(Kind::Integrity, &e))
}
