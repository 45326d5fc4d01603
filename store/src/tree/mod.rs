//! A tree: the complete description of a directory hierarchy, with its contents named by digest.

mod apply;
mod builder;
mod links;
mod manifest;
mod merge;

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    ops::Bound,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{Digest, DigestError, TreePath};

pub use builder::{TreeBuilder, TreeError};
pub use manifest::ManifestError;
pub(crate) use manifest::files as manifest_files;
pub use merge::{MergeError, merge};

/// The identity of a tree: the digest of its canonical manifest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TreeId(pub Digest);

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TreeId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

/// Extended attributes: values by full name.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What every entry has beside its kind. There is no time: it is always 1 second after the epoch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: `0o0000..=0o7777`. Symbolic links have `0o777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name (`security.capability`, `user.…`).
    pub xattrs: Xattrs,
}

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// A directory. The root of the tree itself is no entry: it is 0755, 0:0.
    Directory,
    /// A regular file, its content in the object store.
    File {
        /// SHA-256 of the content.
        digest: Digest,
        /// Length in bytes.
        size: u64,
    },
    /// A symbolic link with its target as written.
    Symlink {
        /// The target: non-empty, no NUL.
        target: Box<[u8]>,
    },
    /// One more name of the regular file at another path, which must be a [`Node::File`] of the same tree.
    HardLink {
        /// The path that holds the file.
        target: TreePath,
    },
    /// Only in layers: what is below it has no entry of this name.
    Whiteout,
}

/// One entry of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Permissions, owner and extended attributes. Of a hard link: equal to its target's. Of a whiteout: default.
    pub meta: Meta,
    /// Kind and content.
    pub node: Node,
}

/// A validated tree: every parent is a directory of the tree, every hard link's target a file of it that sorts before the
/// link. A *layer* is a tree to be [applied](Tree::apply) to another: it may have whiteouts, and lacks the parents that it does
/// not change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<TreePath, Entry>,
    layer: bool,
}

impl Tree {
    /// Starts a tree.
    pub fn builder() -> TreeBuilder {
        TreeBuilder::default()
    }

    /// All entries; a directory comes before what it contains, which follows it directly.
    pub fn iter(&self) -> btree_map::Iter<'_, TreePath, Entry> {
        self.entries.iter()
    }

    /// The entry of this very path (no symbolic link is followed).
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it is a layer.
    pub fn is_layer(&self) -> bool {
        self.layer
    }

    /// What lies below `directory`, in order, without the directory itself.
    pub fn below<'a>(
        &'a self,
        directory: &'a TreePath,
    ) -> impl Iterator<Item = (&'a TreePath, &'a Entry)> {
        self.entries
            .range((Bound::Excluded(directory), Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(directory))
    }

    /// Digest and length of the regular file at `path`, through a hard link if it is one.
    pub fn content(&self, path: &TreePath) -> Option<(Digest, u64)> {
        self.content_of(self.get(path)?)
    }

    /// Digest and length of an entry of this tree, through a hard link if it is one.
    pub fn content_of(&self, entry: &Entry) -> Option<(Digest, u64)> {
        match &entry.node {
            Node::File { digest, size } => Some((*digest, *size)),
            Node::HardLink { target } => match self.get(target)?.node {
                Node::File { digest, size } => Some((digest, size)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The lengths of all regular files, in bytes; hard-linked ones count once.
    pub fn total_size(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| match entry.node {
                Node::File { size, .. } => size,
                _ => 0,
            })
            .sum()
    }

    /// Its identity. This writes and hashes the manifest: some milliseconds for 50,000 entries.
    pub fn id(&self) -> TreeId {
        TreeId(Digest::of(&self.to_manifest()))
    }
}

impl<'a> IntoIterator for &'a Tree {
    type Item = (&'a TreePath, &'a Entry);
    type IntoIter = btree_map::Iter<'a, TreePath, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Meta {
    /// What a directory has that nobody said anything about: 0755, owned by root.
    pub fn directory() -> Self {
        Self {
            mode: 0o755,
            ..Self::default()
        }
    }
}

impl Entry {
    /// A directory.
    pub fn directory(meta: Meta) -> Self {
        Self {
            meta,
            node: Node::Directory,
        }
    }

    /// A symbolic link owned by root.
    pub fn symlink(target: impl AsRef<[u8]>) -> Self {
        Self {
            meta: Meta {
                mode: 0o777,
                ..Meta::default()
            },
            node: Node::Symlink {
                target: target.as_ref().into(),
            },
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.node == Node::Directory
    }
}

/// The permission bits that a regular file of manifest mode `mode` has in objects and views: set-id and sticky bits are dropped, and
/// the owner may read whatever the manifest says, since else an ordinary user's store could not be verified.
pub fn file_mode_on_disk(mode: u16) -> u16 {
    mode & 0o777 | 0o400
}

/// The permission bits that a directory of manifest mode `mode` has in views: set-id bits are dropped, and the owner keeps full access,
/// since else an ordinary user's view could not be removed.
pub fn directory_mode_on_disk(mode: u16) -> u16 {
    mode & 0o1777 | 0o700
}
