//! What a recorder noted while an unprivileged process changed a tree: what the kernel would not let it do.

use std::collections::HashMap;

use crate::TreePath;

/// What was asked for of one file.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Note {
    /// The owner, when it was set.
    pub uid: Option<u32>,
    /// The group, when it was set.
    pub gid: Option<u32>,
    /// The value of `security.capability`, when it was set.
    pub capability: Option<Vec<u8>>,
    /// It was made as a device, FIFO or socket: what stands there is left out of the tree.
    pub device: bool,
}

/// All notes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ownership {
    /// By device and inode, as `lstat` shows them in the merged directory.
    pub by_inode: HashMap<(u64, u64), Note>,
    /// By path; these come before those by inode.
    pub by_path: HashMap<TreePath, Note>,
}
