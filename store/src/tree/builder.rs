//! How a tree is made: entries in any order, then one check of the whole.

use std::collections::{BTreeMap, btree_map};

use super::{Entry, Meta, Node, Tree, links};
use crate::TreePath;

/// Why some entries are no tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// The same path twice, and not both times a directory.
    #[error("{path} appears twice")]
    Duplicate {
        /// The path.
        path: TreePath,
    },
    /// Something below an entry that is no directory. Following a symbolic link would leave the tree.
    #[error("{path} lies below {parent}, which is no directory")]
    NotDirectory {
        /// The entry.
        path: TreePath,
        /// What is in its way.
        parent: TreePath,
    },
    /// A hard link to nothing, to no regular file, or in a circle.
    #[error("{path} is a hard link to {target}, which is no regular file of the tree")]
    LinkTarget {
        /// The link.
        path: TreePath,
        /// Where it points.
        target: TreePath,
    },
    /// A symbolic link without a target, or with one that no kernel would take.
    #[error(
        "the symbolic link {path} has an empty target, or one with a NUL byte or over 4095 bytes"
    )]
    SymlinkTarget {
        /// The link.
        path: TreePath,
    },
    /// A removal where nothing can be removed.
    #[error("{path} is a whiteout, which only a layer may have")]
    Whiteout {
        /// The path.
        path: TreePath,
    },
    /// More than permission bits.
    #[error("{path} has mode {mode:o}, which has bits outside 7777")]
    Mode {
        /// The path.
        path: TreePath,
        /// The mode.
        mode: u16,
    },
    /// A layer applied to what lacks the directories it builds on.
    #[error("the layer changes {path}, but {parent} is not in the tree it is applied to")]
    NoParent {
        /// The entry.
        path: TreePath,
        /// The missing directory.
        parent: TreePath,
    },
    /// The arguments of an application are the wrong way round.
    #[error("only a layer can be applied, and only to a tree that is no layer")]
    NotLayer,
    /// An attribute that cannot be.
    #[error("{path} has an extended attribute with an empty name or one over 255 bytes")]
    Attribute {
        /// The path.
        path: TreePath,
    },
}

/// A tree in the making.
#[derive(Default, Debug)]
pub struct TreeBuilder {
    entries: BTreeMap<TreePath, Entry>,
    layer: bool,
}

impl TreeBuilder {
    /// Makes it a layer: whiteouts are allowed, and parents are not added.
    pub fn layer(mut self) -> Self {
        self.layer = true;
        self
    }

    /// The number of entries so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry inserted at this path.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Adds an entry. A directory may come several times, as in archives: its last metadata counts.
    pub fn insert(&mut self, path: TreePath, mut entry: Entry) -> Result<(), TreeError> {
        if let Some(problem) = self.refuse(&path, &entry) {
            return Err(problem);
        }
        match entry.node {
            Node::Symlink { .. } => entry.meta.mode = 0o777,
            Node::Whiteout => entry.meta = Meta::default(),
            _ => {}
        }
        match self.entries.entry(path) {
            btree_map::Entry::Vacant(slot) => {
                slot.insert(entry);
                Ok(())
            }
            btree_map::Entry::Occupied(mut slot)
                if slot.get().is_directory() && entry.is_directory() =>
            {
                slot.insert(entry);
                Ok(())
            }
            btree_map::Entry::Occupied(slot) => Err(TreeError::Duplicate {
                path: slot.key().clone(),
            }),
        }
    }

    fn refuse(&self, path: &TreePath, entry: &Entry) -> Option<TreeError> {
        let path = || path.clone();
        match &entry.node {
            Node::Symlink { target } if !is_target(target) => {
                return Some(TreeError::SymlinkTarget { path: path() });
            }
            Node::Whiteout if !self.layer => return Some(TreeError::Whiteout { path: path() }),
            _ => {}
        }
        if entry.meta.mode > 0o7777 {
            return Some(TreeError::Mode {
                path: path(),
                mode: entry.meta.mode,
            });
        }
        let names = entry.meta.xattrs.keys();
        (!names.into_iter().all(|name| is_attribute(name)))
            .then(|| TreeError::Attribute { path: path() })
    }

    /// Checks the whole, adds missing parents as 0755 owned by root (not in a layer) and brings hard links into canonical form.
    pub fn finish(mut self) -> Result<Tree, TreeError> {
        let missing = check_parents(&self.entries)?;
        if !self.layer {
            for path in missing {
                self.entries
                    .insert(path, Entry::directory(Meta::directory()));
            }
        }
        links::canonicalise(&mut self.entries)?;
        Ok(Tree {
            entries: self.entries,
            layer: self.layer,
        })
    }
}

/// Whether the kernel would take these bytes as a symbolic link's target.
pub(super) fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() <= 4095 && !target.contains(&0)
}

/// Whether the kernel would take these bytes as an attribute's name.
pub(super) fn is_attribute(name: &[u8]) -> bool {
    (1..=255).contains(&name.len()) && !name.contains(&0)
}

/// Refuses what lies below a non-directory, and names the parents that have no entry (each once, outermost first).
pub(super) fn check_parents(
    entries: &BTreeMap<TreePath, Entry>,
) -> Result<Vec<TreePath>, TreeError> {
    let mut chain = Chain::default();
    let mut missing = Vec::new();
    for (path, entry) in entries {
        while let Some(parent) = chain.enter(path, entry)? {
            missing.push(parent);
        }
    }
    Ok(missing)
}

/// The directories around the current entry, while a tree is walked in order.
#[derive(Default)]
pub(super) struct Chain {
    /// The innermost directory that is open, as bytes; `ends` are the lengths of it and of all directories around it.
    directory: Vec<u8>,
    ends: Vec<usize>,
    /// The last entry that was no directory: what sorts right after it may lie below it.
    leaf: Option<TreePath>,
}

impl Chain {
    /// Takes the next entry in order. `Some(parent)` is a missing parent, taken as a directory from now on; ask again until `None`.
    pub(super) fn enter(
        &mut self,
        path: &TreePath,
        entry: &Entry,
    ) -> Result<Option<TreePath>, TreeError> {
        let bytes = path.as_bytes();
        let parent = bytes.iter().rposition(|&b| b == b'/').unwrap_or(0);
        while let Some(&end) = self.ends.last() {
            let inside = parent >= end
                && bytes[..end] == self.directory[..end]
                && (parent == end || bytes[end] == b'/');
            if inside {
                break;
            }
            self.ends.pop();
            self.directory
                .truncate(self.ends.last().copied().unwrap_or(0));
        }
        if let Some(leaf) = &self.leaf
            && path.starts_with(leaf)
        {
            return Err(TreeError::NotDirectory {
                path: path.clone(),
                parent: leaf.clone(),
            });
        }
        let end = self.ends.last().copied().unwrap_or(0);
        if end < parent {
            let from = if end == 0 { 0 } else { end + 1 };
            let length = bytes[from..parent].iter().position(|&b| b == b'/');
            let missing = &bytes[..length.map_or(parent, |length| from + length)];
            self.open(missing);
            return Ok(path
                .ancestors()
                .find(|ancestor| ancestor.as_bytes() == missing));
        }
        if entry.is_directory() {
            self.open(bytes);
        } else {
            self.leaf = Some(path.clone());
        }
        Ok(None)
    }

    fn open(&mut self, directory: &[u8]) {
        self.directory.clear();
        self.directory.extend_from_slice(directory);
        self.ends.push(directory.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    fn file(content: &str) -> Entry {
        Entry {
            meta: Meta {
                mode: 0o644,
                ..Meta::default()
            },
            node: Node::File {
                digest: Digest::of(content.as_bytes()),
                size: content.len() as u64,
            },
        }
    }

    fn link(target: &str) -> Entry {
        Entry {
            meta: Meta::default(),
            node: Node::HardLink {
                target: path(target),
            },
        }
    }

    fn build(entries: Vec<(&str, Entry)>) -> Result<Tree, TreeError> {
        let mut builder = Tree::builder();
        for (at, entry) in entries {
            builder.insert(path(at), entry)?;
        }
        builder.finish()
    }

    #[test]
    fn missing_parents_are_made() {
        let tree = build(vec![
            ("usr/share/doc/x", file("1")),
            ("usr/share/y", file("2")),
            ("usr!z", file("3")),
        ])
        .unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(
            paths,
            [
                "/usr",
                "/usr/share",
                "/usr/share/doc",
                "/usr/share/doc/x",
                "/usr/share/y",
                "/usr!z"
            ]
        );
        assert_eq!(
            tree.get(&path("usr/share")),
            Some(&Entry::directory(Meta::directory()))
        );
    }

    /// Without this an archive could write through its own symbolic link to anywhere.
    #[test]
    fn nothing_lies_below_a_link_or_a_file() {
        for parent in [Entry::symlink("/etc"), file("1")] {
            let error = build(vec![("a", parent), ("a/b/c", file("2"))]).unwrap_err();
            assert!(matches!(error, TreeError::NotDirectory { .. }), "{error}");
        }
    }

    #[test]
    fn duplicates_are_refused_but_directories_merge() {
        let error = build(vec![("a", file("1")), ("a", file("1"))]).unwrap_err();
        assert_eq!(error, TreeError::Duplicate { path: path("a") });
        let private = Meta {
            mode: 0o700,
            ..Meta::default()
        };
        let tree = build(vec![
            ("d", Entry::directory(Meta::directory())),
            ("d", Entry::directory(private.clone())),
        ]);
        assert_eq!(tree.unwrap().get(&path("d")).unwrap().meta, private);
    }

    #[test]
    fn hard_links_become_canonical() {
        let tree = build(vec![("b", file("1")), ("c", link("b")), ("a", link("c"))]).unwrap();
        assert_eq!(tree.get(&path("a")), Some(&file("1")));
        for name in ["b", "c"] {
            assert_eq!(tree.get(&path(name)).unwrap().node, link("a").node);
            assert_eq!(tree.get(&path(name)).unwrap().meta, file("1").meta);
        }
        for target in ["nowhere", "x", "d"] {
            let error = build(vec![
                ("x", link(target)),
                ("d", Entry::directory(Meta::directory())),
            ])
            .unwrap_err();
            assert!(matches!(error, TreeError::LinkTarget { .. }));
        }
    }

    #[test]
    fn impossible_targets_and_whiteouts_are_refused() {
        for target in [&b""[..], b"a\0b", &[b'x'; 5000]] {
            let error = build(vec![("l", Entry::symlink(target))]).unwrap_err();
            assert_eq!(error, TreeError::SymlinkTarget { path: path("l") });
        }
        let whiteout = Entry {
            meta: Meta::default(),
            node: Node::Whiteout,
        };
        assert_eq!(
            build(vec![("w", whiteout)]).unwrap_err(),
            TreeError::Whiteout { path: path("w") }
        );
    }
}
