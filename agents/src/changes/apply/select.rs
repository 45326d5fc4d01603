//! From what was asked for to the changes that are meant.

use std::collections::BTreeSet;

use super::{Chosen, Refusal};
use crate::changes::{ChangeKind, Changes, Kind};

/// The changes that are meant, by their places in the list.
pub(super) struct Selection {
    pub(super) changes: BTreeSet<usize>,
    /// What was asked for and is not there.
    pub(super) refused: Vec<Refusal>,
    /// What was met on the way and could not be judged.
    pub(super) skipped: Vec<Refusal>,
}

pub(super) fn select(changes: &Changes, chosen: &Chosen) -> Selection {
    let mut selection = Selection {
        changes: BTreeSet::new(),
        refused: Vec::new(),
        skipped: Vec::new(),
    };
    let skipped = changes.skipped.iter().map(|skipped| Refusal::Skipped {
        path: skipped.path.clone(),
        reason: skipped.reason.clone(),
    });
    let Chosen::Paths(paths) = chosen else {
        selection.changes = (0..changes.entries.len()).collect();
        selection.skipped = skipped.collect();
        return selection;
    };
    for path in paths {
        let start = changes
            .entries
            .partition_point(|change| change.path < *path);
        let count = changes.at_and_below(path).len();
        selection.changes.extend(start..start + count);
        let mut unjudged: Vec<_> = skipped
            .clone()
            .filter(|refusal| refusal.path().starts_with(path))
            .collect();
        // What was named itself must be told apart from what lies below it.
        match unjudged.iter().position(|refusal| refusal.path() == path) {
            Some(at) => selection.refused.push(unjudged.swap_remove(at)),
            None if count == 0 && unjudged.is_empty() => {
                selection
                    .refused
                    .push(Refusal::NotChanged { path: path.clone() });
            }
            None => {}
        }
        selection.skipped.extend(unjudged);
    }
    let (mut above, mut lost) = (BTreeSet::new(), BTreeSet::new());
    for &at in &selection.changes {
        let change = &changes.entries[at];
        if change.new.is_none() {
            continue;
        }
        for directory in change.path.ancestors() {
            let entry = changes
                .entries
                .binary_search_by(|change| change.path.cmp(&directory));
            let Ok(entry) = entry else { continue };
            let parent = &changes.entries[entry];
            let is_directory = parent
                .new
                .as_ref()
                .is_some_and(|new| new.kind == Kind::Directory);
            match parent.kind {
                ChangeKind::Added if is_directory => {
                    above.insert(entry);
                }
                // Something of the project's is in the way: it must be asked for by name.
                ChangeKind::TypeChanged if !selection.changes.contains(&entry) => {
                    lost.insert(at);
                    selection.refused.push(Refusal::Needs {
                        path: change.path.clone(),
                        other: directory,
                    });
                }
                _ => {}
            }
        }
    }
    selection.changes.extend(above);
    selection.changes.retain(|at| !lost.contains(at));
    selection
}
