//! A tree: the complete description of a directory hierarchy, with its contents named by digest.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Digest, DigestError, TreePath};

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
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
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

/// A validated tree: every parent is a directory of the tree, every hard link's target a file of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<TreePath, Entry>,
}
