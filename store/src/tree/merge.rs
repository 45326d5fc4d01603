//! The strict union of trees.

use std::collections::BTreeMap;

use super::{Entry, Meta, Tree, builder, links};
use crate::TreePath;

/// Why some trees have no union.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MergeError {
    /// The same path with different content, and no part says that it replaces the other.
    #[error(
        "{first} and {second} both have {path}, with different content, and neither replaces the other: leave one of them out"
    )]
    Conflict {
        /// The path.
        path: TreePath,
        /// One part's label.
        first: String,
        /// The other part's label.
        second: String,
    },
    /// One part has something below what is no directory in another part.
    #[error(
        "{first} has {path}, but in {second} the entry {parent} is no directory: leave one of them out"
    )]
    NotDirectory {
        /// The entry below.
        path: TreePath,
        /// The label of the part that has it.
        first: String,
        /// What is no directory.
        parent: TreePath,
        /// The label of the part that has that.
        second: String,
    },
    /// Layers say what changes; they have no union.
    #[error("{label} is a layer, which can only be applied")]
    Layer {
        /// The part's label.
        label: String,
    },
}

/// The union of `parts`, each with a label for messages. It does not depend on their order.
///
/// The same path with different content is an error unless `replaces(winner, loser)` says of one part that it replaces all others
/// there (of several such, the first by label wins). Of a directory's metadata, what differs from 0755 owned by root counts; if
/// several do, the first by label. A directory replaces nothing and is replaced by nothing.
pub fn merge(
    parts: &[(String, &Tree)],
    replaces: &dyn Fn(&str, &str) -> bool,
) -> Result<Tree, MergeError> {
    let mut parts: Vec<(&str, &Tree)> = parts
        .iter()
        .map(|(label, tree)| (label.as_str(), *tree))
        .collect();
    // Even a label given twice leads to one result.
    parts.sort_by(|a, b| {
        a.0.cmp(b.0)
            .then_with(|| a.1.to_manifest().cmp(&b.1.to_manifest()))
    });
    if let Some((label, _)) = parts.iter().find(|(_, tree)| tree.layer) {
        return Err(MergeError::Layer {
            label: (*label).to_owned(),
        });
    }
    // For each path the first part that has it, and any others.
    let mut candidates: BTreeMap<&TreePath, (usize, Vec<usize>)> = BTreeMap::new();
    for (index, (_, tree)) in parts.iter().enumerate() {
        for (path, _) in *tree {
            candidates
                .entry(path)
                .and_modify(|(_, others)| others.push(index))
                .or_insert((index, Vec::new()));
        }
    }
    let mut picked: BTreeMap<TreePath, (usize, Entry)> = BTreeMap::new();
    for (path, (first, others)) in candidates {
        let (winner, entry) = if others.is_empty() {
            (first, parts[first].1.entries[path].clone())
        } else {
            let all: Vec<usize> = std::iter::once(first).chain(others).collect();
            pick(&parts, path, &all, replaces)?
        };
        picked.insert(path.clone(), (winner, entry));
    }
    check(&parts, &picked)?;
    let entries = links::regroup(picked, |part, file| {
        parts[part].1.get(file).map(|entry| entry.node.clone())
    });
    Ok(Tree {
        entries,
        layer: false,
    })
}

/// Which part's entry stands at a path that several parts have.
fn pick(
    parts: &[(&str, &Tree)],
    path: &TreePath,
    all: &[usize],
    replaces: &dyn Fn(&str, &str) -> bool,
) -> Result<(usize, Entry), MergeError> {
    let entry = |part: usize| &parts[part].1.entries[path];
    if all.iter().all(|&part| entry(part).is_directory()) {
        let plain = Meta::directory();
        let chosen = all
            .iter()
            .find(|&&part| entry(part).meta != plain)
            .unwrap_or(&all[0]);
        return Ok((*chosen, entry(*chosen).clone()));
    }
    let same = |a: usize, b: usize| {
        let (left, right) = (entry(a), entry(b));
        left.meta == right.meta
            && match (parts[a].1.content_of(left), parts[b].1.content_of(right)) {
                (Some(left), Some(right)) => left == right,
                (None, None) => left.node == right.node,
                _ => false,
            }
    };
    let beats = |a: usize, b: usize| {
        same(a, b)
            || !entry(a).is_directory()
                && !entry(b).is_directory()
                && replaces(parts[a].0, parts[b].0)
    };
    if let Some(&winner) = all
        .iter()
        .find(|&&a| all.iter().all(|&b| a == b || beats(a, b)))
    {
        return Ok((winner, entry(winner).clone()));
    }
    // Name a pair that stands in each other's way; if each of them is replaced by some third, name the first two.
    let pairs = || {
        all.iter()
            .flat_map(|&a| all.iter().map(move |&b| (a, b)))
            .filter(|(a, b)| a < b)
    };
    let (first, second) = pairs()
        .find(|&(a, b)| !beats(a, b) && !beats(b, a))
        .unwrap_or((all[0], all[1]));
    Err(MergeError::Conflict {
        path: path.clone(),
        first: parts[first].0.to_owned(),
        second: parts[second].0.to_owned(),
    })
}

/// Entries of one part below a non-directory of another.
fn check(
    parts: &[(&str, &Tree)],
    picked: &BTreeMap<TreePath, (usize, Entry)>,
) -> Result<(), MergeError> {
    let mut chain = builder::Chain::default();
    for (path, (part, entry)) in picked {
        // Each part has all its parents, so none is missing here.
        if let Err(builder::TreeError::NotDirectory { path, parent }) = chain.enter(path, entry) {
            let second = picked.get(&parent).map_or("", |(part, _)| parts[*part].0);
            return Err(MergeError::NotDirectory {
                path,
                first: parts[*part].0.to_owned(),
                second: second.to_owned(),
                parent,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Node};

    /// `name=content` a file, `name/` a directory, `name/!` a private one, `name>target` a symbolic link, `name&target` a hard link.
    fn tree(entries: &[&str]) -> Tree {
        let mut builder = Tree::builder();
        for text in entries {
            let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
            let meta = Meta::directory();
            let (name, entry) = if let Some((name, content)) = text.split_once('=') {
                let node = Node::File {
                    digest: Digest::of(content.as_bytes()),
                    size: content.len() as u64,
                };
                (name, Entry { meta, node })
            } else if let Some((name, target)) = text.split_once('>') {
                (name, Entry::symlink(target))
            } else if let Some((name, target)) = text.split_once('&') {
                let node = Node::HardLink {
                    target: path(target),
                };
                (name, Entry { meta, node })
            } else if let Some(name) = text.strip_suffix("/!") {
                let meta = Meta {
                    mode: 0o700,
                    ..meta
                };
                (name, Entry::directory(meta))
            } else {
                (text.trim_end_matches('/'), Entry::directory(meta))
            };
            builder.insert(path(name), entry).unwrap();
        }
        builder.finish().unwrap()
    }

    fn union(parts: &[&[&str]], replaces: &[(&str, &str)]) -> Result<Tree, MergeError> {
        let trees: Vec<Tree> = parts.iter().map(|entries| tree(entries)).collect();
        let mut labelled: Vec<(String, &Tree)> = trees
            .iter()
            .zip('a'..)
            .map(|(tree, label)| (label.to_string(), tree))
            .collect();
        let replaces = |a: &str, b: &str| replaces.contains(&(a, b));
        let forward = merge(&labelled, &replaces);
        labelled.reverse();
        assert_eq!(
            merge(&labelled, &replaces),
            forward,
            "the order of parts shows"
        );
        if let Ok(tree) = &forward {
            assert_eq!(&Tree::parse(&tree.to_manifest()).unwrap(), tree);
        }
        forward
    }

    #[test]
    fn disjoint_and_equal_parts_unite() {
        let found = union(&[&["u/x=1", "u/same=s"], &["u/y=2", "u/same=s"]], &[]).unwrap();
        assert_eq!(found, tree(&["u/x=1", "u/y=2", "u/same=s"]));
    }

    /// Two packages silently overwriting each other is how systems rot.
    #[test]
    fn a_conflict_names_both_parts_and_the_path() {
        let error = union(&[&["u/x=1"], &["u/x=2"]], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a and b both have /u/x, with different content, and neither replaces the other: leave one of them out"
        );
        for other in [&["u>lib"][..], &["u=1"]] {
            assert!(union(&[&["u/"], other], &[]).is_err());
            assert!(union(&[&["u/"], other], &[("a", "b"), ("b", "a")]).is_err());
        }
    }

    #[test]
    fn a_declared_replacement_wins() {
        let parts: [&[&str]; 3] = [&["x=1"], &["x=2"], &["x=3"]];
        assert_eq!(union(&parts[..2], &[("b", "a")]).unwrap(), tree(&["x=2"]));
        assert!(union(&parts, &[("b", "a")]).is_err());
        assert_eq!(
            union(&parts, &[("c", "a"), ("c", "b")]).unwrap(),
            tree(&["x=3"])
        );
    }

    #[test]
    fn special_directory_metadata_wins() {
        let found = union(&[&["d/"], &["d/!"], &["d/"]], &[]).unwrap();
        assert_eq!(found, tree(&["d/!"]));
    }

    /// A link must never come to share the content of the file that replaced its own.
    #[test]
    fn links_keep_their_content() {
        let found = union(&[&["m=old", "z&m"], &["m=new"]], &[("b", "a")]).unwrap();
        assert_eq!(found, tree(&["m=new", "z=old"]));
        let found = union(&[&["m=old", "y&m", "z&m"], &["m=new"]], &[("b", "a")]).unwrap();
        assert_eq!(found, tree(&["m=new", "y=old", "z&y"]));
    }
}
