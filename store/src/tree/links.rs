//! Hard links in canonical form: of all the names of a file, the first in order holds it and the others point there.

use std::collections::{BTreeMap, HashMap};

use super::{Entry, Node, TreeError};
use crate::TreePath;

/// Follows links to links and makes the first name of each file its holder. Links take their file's metadata.
pub(super) fn canonicalise(entries: &mut BTreeMap<TreePath, Entry>) -> Result<(), TreeError> {
    let links: Vec<(TreePath, TreePath)> = entries
        .iter()
        .filter_map(|(path, entry)| match &entry.node {
            Node::HardLink { target } => Some((path.clone(), target.clone())),
            _ => None,
        })
        .collect();
    let mut groups: HashMap<TreePath, Vec<TreePath>> = HashMap::new();
    for (link, target) in &links {
        let holder = resolve(entries, link, target, links.len())?;
        groups.entry(holder).or_default().push(link.clone());
    }
    for (holder, mut names) in groups {
        names.push(holder.clone());
        names.sort_unstable();
        let Some(file) = entries.get(&holder).cloned() else {
            continue;
        };
        for link in &names[1..] {
            let entry = Entry {
                meta: file.meta.clone(),
                node: Node::HardLink {
                    target: names[0].clone(),
                },
            };
            entries.insert(link.clone(), entry);
        }
        entries.insert(names[0].clone(), file);
    }
    Ok(())
}

fn resolve(
    entries: &BTreeMap<TreePath, Entry>,
    link: &TreePath,
    target: &TreePath,
    links: usize,
) -> Result<TreePath, TreeError> {
    let mut target = target;
    for _ in 0..=links {
        match entries.get(target).map(|entry| &entry.node) {
            Some(Node::File { .. }) => return Ok(target.clone()),
            Some(Node::HardLink { target: next }) => target = next,
            _ => break,
        }
    }
    Err(TreeError::LinkTarget {
        path: link.clone(),
        target: target.clone(),
    })
}

/// Entries picked from several trees, each with the number of the tree it is from, made whole again: links stay within their tree of
/// origin, and where a file's holder was not picked, the first picked link to it becomes the holder.
pub(super) fn regroup(
    picked: BTreeMap<TreePath, (usize, Entry)>,
    content: impl Fn(usize, &TreePath) -> Option<Node>,
) -> BTreeMap<TreePath, Entry> {
    // Only files that have links matter; they are few.
    let mut holders: HashMap<(usize, TreePath), Option<TreePath>> = HashMap::new();
    for (origin, entry) in picked.values() {
        if let Node::HardLink { target } = &entry.node {
            holders.insert((*origin, target.clone()), None);
        }
    }
    if !holders.is_empty() {
        for (path, (origin, entry)) in &picked {
            if let Some(file) = file_of(path, entry)
                && let Some(holder) = holders.get_mut(&(*origin, file))
            {
                holder.get_or_insert_with(|| path.clone());
            }
        }
    }
    picked
        .into_iter()
        .map(|(path, (origin, mut entry))| {
            if !holders.is_empty()
                && let Some(file) = file_of(&path, &entry)
                && let Some(Some(holder)) = holders.get(&(origin, file.clone()))
            {
                if *holder != path {
                    entry.node = Node::HardLink {
                        target: holder.clone(),
                    };
                } else if let Some(node) = content(origin, &file) {
                    entry.node = node;
                }
            }
            (path, entry)
        })
        .collect()
}

/// The path that held the file in its tree of origin.
fn file_of(path: &TreePath, entry: &Entry) -> Option<TreePath> {
    match &entry.node {
        Node::HardLink { target } => Some(target.clone()),
        Node::File { .. } => Some(path.clone()),
        _ => None,
    }
}
