//! Judging chosen changes against the rules and against the project as it is now. Nothing is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use envd_store::TreePath;
use rustix::{fs::FileType, io::Errno};

use super::{Conflict, ConflictKind, Guard, Node, Refusal, Step, select::Selection};
use crate::changes::{
    Base, BaseContent, BaseState, Change, ChangeKind, Changes, Kind, Layers, Stamp, State,
    beneath::Found,
    content,
    merge::merge,
    protected::{self, Contents},
};

/// Largest text that is merged, in bytes.
const MERGED: u64 = 4 << 20;

/// How long the shortest difference is looked for in a merge.
const EFFORT: Duration = Duration::from_secs(1);

/// What the judgement came to.
pub(super) struct Checked {
    /// Changes to be applied, by their places in the list.
    pub(super) accepted: BTreeSet<usize>,
    pub(super) merged: Vec<TreePath>,
    pub(super) steps: Vec<Step>,
    pub(super) refused: Vec<Refusal>,
    /// Whether something was refused that was asked for.
    pub(super) must_stop: bool,
}

/// What is to become of one path.
enum Outcome {
    /// As the session has it.
    Session,
    /// Both sides' changes together.
    Merged(Vec<u8>),
    /// It already is as it should be.
    Nothing,
}

pub(super) fn check(
    layers: &Layers,
    changes: &Changes,
    selection: Selection,
    guard: &Guard,
    base: &Base,
    contents: &dyn BaseContent,
) -> Checked {
    let check = Check {
        layers,
        changes,
        guard,
        base,
        contents,
        device: rustix::fs::fstat(&layers.project)
            .map(|stat| stat.st_dev)
            .ok(),
    };
    let mut accepted = selection.changes;
    let mut refused = selection.refused;
    let mut outcomes = BTreeMap::new();

    let judged: Vec<&Change> = accepted.iter().map(|&at| &changes.entries[at]).collect();
    let denials = guard.protected.judge(&judged, layers);
    let allowed = |path: &TreePath| guard.allow.iter().any(|allowed| path.starts_with(allowed));
    let mut denied: BTreeMap<_, _> = denials
        .into_iter()
        .filter(|denial| !allowed(&denial.path))
        .map(|denial| (denial.path.clone(), denial))
        .collect();
    for &at in &accepted.clone() {
        let change = &changes.entries[at];
        let outcome = match denied.remove(&change.path) {
            Some(denial) => Err(denial.into()),
            None => check.one(change, &accepted),
        };
        match outcome {
            Ok(outcome) => {
                outcomes.insert(at, outcome);
            }
            Err(refusal) => {
                refused.push(refusal);
                accepted.remove(&at);
            }
        }
    }
    check.drop_dependents(&mut accepted, &mut refused);
    outcomes.retain(|at, _| accepted.contains(at));
    let must_stop = !refused.is_empty();
    refused.extend(selection.skipped);
    refused.sort_by(|a, b| a.path().cmp(b.path()));
    let merged = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Merged(_)))
        .map(|(&at, _)| changes.entries[at].path.clone())
        .collect();
    Checked {
        accepted,
        merged,
        steps: steps(changes, outcomes),
        refused,
        must_stop,
    }
}

struct Check<'a> {
    layers: &'a Layers,
    changes: &'a Changes,
    guard: &'a Guard,
    base: &'a Base,
    contents: &'a dyn BaseContent,
    device: Option<u64>,
}

impl Check<'_> {
    fn one(&self, change: &Change, chosen: &BTreeSet<usize>) -> Result<Outcome, Refusal> {
        let path = &change.path;
        if let Some(new) = &change.new {
            self.fit(path, new)?;
        }
        let now = self
            .layers
            .project
            .look(path.as_bytes())
            .map_err(|error| self.unreadable(change, error))?;
        self.as_it_was(change, now.as_ref())?;
        match &now {
            None => {
                self.parent(change, chosen)?;
                if change.copied_up {
                    self.removed(change)?;
                }
                Ok(Outcome::Session)
            }
            Some(now) => {
                if Some(now.stat.st_dev) != self.device {
                    return Err(conflict(change, ConflictKind::OtherFileSystem));
                }
                if now.kind() == FileType::Directory {
                    if change.new.as_ref().map(|new| new.kind) != Some(Kind::Directory) {
                        self.emptied(change, chosen)?;
                    }
                    return Ok(Outcome::Session);
                }
                if self.guard.overwrite || !self.base.moved(Some(path), &Stamp::of(&now.stat)) {
                    return Ok(Outcome::Session);
                }
                self.moved(change, now)
            }
        }
    }

    /// Whether a project may have such a thing from a session.
    fn fit(&self, path: &TreePath, new: &State) -> Result<(), Refusal> {
        match new.kind {
            Kind::Directory => Ok(()),
            Kind::File if new.mode & 0o6000 != 0 => Err(Refusal::SetId {
                path: path.clone(),
                mode: new.mode,
            }),
            Kind::File => Ok(()),
            Kind::Symlink => {
                let target = new.target.as_deref().unwrap_or_default();
                match leads_out(path, target) {
                    Some(problem) if !self.guard.outside_links => Err(Refusal::Link {
                        path: path.clone(),
                        target: target.into(),
                        problem,
                    }),
                    _ => Ok(()),
                }
            }
            kind => Err(Refusal::Special {
                path: path.clone(),
                kind,
            }),
        }
    }

    /// Whether the project has at the path what it had when the changes were looked at.
    fn as_it_was(&self, change: &Change, now: Option<&Found>) -> Result<(), Refusal> {
        let same = match (&change.old, now) {
            (None, None) => true,
            (Some(old), Some(now)) if old.kind == Kind::Directory => {
                now.kind() == FileType::Directory
                    && u32::from(old.mode) == now.stat.st_mode & 0o7777
            }
            (Some(old), Some(now)) => old.stamp == Stamp::of(&now.stat),
            _ => false,
        };
        if same {
            return Ok(());
        }
        Err(conflict(change, ConflictKind::MovedAgain))
    }

    /// Whether there is, or will be, a directory to put something new into.
    fn parent(&self, change: &Change, chosen: &BTreeSet<usize>) -> Result<(), Refusal> {
        let Some(parent) = change.path.parent() else {
            return Ok(());
        };
        if let Some(at) = self.place(&parent)
            && chosen.contains(&at)
            && self.changes.entries[at]
                .new
                .as_ref()
                .is_some_and(|new| new.kind == Kind::Directory)
        {
            return Ok(());
        }
        match self.layers.project.look(parent.as_bytes()) {
            Ok(Some(found)) if found.kind() == FileType::Directory => {
                match Some(found.stat.st_dev) == self.device {
                    true => Ok(()),
                    false => Err(conflict(change, ConflictKind::OtherFileSystem)),
                }
            }
            Ok(_) => Err(conflict(change, ConflictKind::NoParent)),
            Err(error) => Err(self.unreadable(change, error)),
        }
    }

    /// Whether something that the session changed was there when it began and was removed from the project since: a copy of it
    /// says that the session had it, if not whether under this name.
    fn removed(&self, change: &Change) -> Result<(), Refusal> {
        if self.guard.overwrite {
            return Ok(());
        }
        let is_file = change
            .new
            .as_ref()
            .is_some_and(|new| new.kind == Kind::File);
        let removed = !is_file
            || match self.contents.content(&change.path, MERGED) {
                BaseState::File(_) => true,
                BaseState::Absent => false,
                // Nothing was removed from a directory that has not changed.
                BaseState::Unknown => {
                    let parent = change.path.parent();
                    let name = parent.as_ref().map_or(&b"."[..], TreePath::as_bytes);
                    match self.layers.project.look(name) {
                        Ok(Some(found)) => {
                            self.base.moved(parent.as_ref(), &Stamp::of(&found.stat))
                        }
                        _ => true,
                    }
                }
            };
        match removed {
            true => Err(conflict(change, ConflictKind::Removed)),
            false => Ok(()),
        }
    }

    /// Whether all that is in a directory that is to go is to go, too.
    fn emptied(&self, change: &Change, chosen: &BTreeSet<usize>) -> Result<(), Refusal> {
        let directory = self
            .layers
            .project
            .below(Some(&change.path))
            .map_err(|error| self.unreadable(change, error))?;
        let mut held = None;
        let listed = directory.names(|name| {
            let goes = change.path.join(name.to_bytes()).ok().is_some_and(|path| {
                self.place(&path).is_some_and(|at| {
                    chosen.contains(&at) && self.changes.entries[at].new.is_none()
                })
            });
            if goes {
                return Ok(());
            }
            held = Some(crate::changes::escape::name(name.to_bytes()));
            Err(Errno::NOTEMPTY)
        });
        match (held, listed) {
            (Some(held), _) => Err(conflict(change, ConflictKind::Holds(held))),
            (None, Err(error)) => Err(self.unreadable(change, error)),
            (None, Ok(())) => Ok(()),
        }
    }

    /// What becomes of a file that the project changed, too.
    fn moved(&self, change: &Change, now: &Found) -> Result<Outcome, Refusal> {
        let moved = || conflict(change, ConflictKind::Moved);
        let is_file =
            |state: &Option<State>| state.as_ref().is_none_or(|state| state.kind == Kind::File);
        if change.kind == ChangeKind::ModeChanged || !is_file(&change.old) || !is_file(&change.new)
        {
            return Err(moved());
        }
        let BaseState::File(before) = self.contents.content(&change.path, MERGED) else {
            return Err(moved());
        };
        let project = now.content(MERGED).ok().flatten().ok_or_else(moved)?;
        if project == before {
            // Only its times, names or permissions changed.
            return Ok(Outcome::Session);
        }
        if change.new.is_none() {
            return Err(moved());
        }
        let session = self.layers.new_content(change, MERGED).ok_or_else(moved)?;
        if [&before, &project, &session]
            .iter()
            .any(|text| content::is_binary(text))
        {
            return Err(moved());
        }
        let deadline = Instant::now().checked_add(EFFORT);
        match merge(&before, &project, &session, deadline) {
            Some(text) if text == project => Ok(Outcome::Nothing),
            Some(text) => Ok(Outcome::Merged(text)),
            None => Err(conflict(change, ConflictKind::Lines)),
        }
    }

    /// Takes out what cannot be without what was refused.
    fn drop_dependents(&self, accepted: &mut BTreeSet<usize>, refused: &mut Vec<Refusal>) {
        // A path is refused with all that must go before it, and with all that was to come in its place.
        let mut waiting: Vec<TreePath> = refused
            .iter()
            .map(|refusal| refusal.path().clone())
            .collect();
        while let Some(path) = waiting.pop() {
            let mut drop = |at: usize| {
                if accepted.remove(&at) {
                    let dropped = self.changes.entries[at].path.clone();
                    refused.push(Refusal::Needs {
                        path: dropped.clone(),
                        other: path.clone(),
                    });
                    waiting.push(dropped);
                }
            };
            let own = self.place(&path).map(|at| &self.changes.entries[at]);
            let own_kind = own.map(|change| change.kind);
            if matches!(own_kind, Some(ChangeKind::Added | ChangeKind::TypeChanged)) {
                let start = self
                    .changes
                    .entries
                    .partition_point(|change| change.path <= path);
                let below = self.changes.at_and_below(&path).len().saturating_sub(1);
                (start..start + below).for_each(&mut drop);
            }
            let stays = own.is_none_or(|change| change.old.is_some());
            if stays
                && let Some(parent) = path.parent()
                && let Some(at) = self.place(&parent)
            {
                let above = &self.changes.entries[at];
                let was_directory = above
                    .old
                    .as_ref()
                    .is_some_and(|old| old.kind == Kind::Directory);
                let is_directory = above
                    .new
                    .as_ref()
                    .is_some_and(|new| new.kind == Kind::Directory);
                if was_directory && !is_directory {
                    drop(at);
                }
            }
        }
    }

    fn place(&self, path: &TreePath) -> Option<usize> {
        let entries = &self.changes.entries;
        entries
            .binary_search_by(|change| change.path.cmp(path))
            .ok()
    }

    fn unreadable(&self, change: &Change, error: Errno) -> Refusal {
        let text = std::io::Error::from(error).to_string();
        conflict(change, ConflictKind::Unreadable(text))
    }
}

impl Contents for Layers {
    fn both(&self, change: &Change) -> Option<(Vec<u8>, Vec<u8>)> {
        let limit = protected::JUDGED_CONTENT;
        let old = match &change.old {
            None => Vec::new(),
            Some(_) => {
                let found = self.project.look(change.path.as_bytes()).ok()??;
                found.content(limit).ok()??
            }
        };
        let new = match &change.new {
            None => Vec::new(),
            Some(_) => self.new_content(change, limit)?,
        };
        Some((old, new))
    }

    fn kind_in_project(&self, path: &[u8]) -> Option<Kind> {
        let found = self.project.look(path).ok()??;
        Some(Kind::of(found.kind()))
    }
}

fn conflict(change: &Change, kind: ConflictKind) -> Refusal {
    let describe = |state: &Option<State>| match state {
        None => "nothing".to_owned(),
        Some(state) => match state.kind {
            Kind::File => format!(
                "a file of {} bytes with mode {:04o}",
                state.size, state.mode
            ),
            kind => format!("a {}", kind.describe()),
        },
    };
    Refusal::Conflict(Conflict {
        path: change.path.clone(),
        kind,
        project: describe(&change.old),
        session: describe(&change.new),
    })
}

/// What is wrong with a link's target, if anything: it must be relative, and go up before it goes down, so that no link on its
/// way can make it lead elsewhere than it says.
fn leads_out(path: &TreePath, target: &[u8]) -> Option<&'static str> {
    if target.is_empty() || target.starts_with(b"/") {
        return Some("is absolute");
    }
    let mut depth = path.as_bytes().iter().filter(|&&b| b == b'/').count();
    let mut down = false;
    for name in target.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." if down => {
                return Some("goes up after it went down, through what may be another link");
            }
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return Some("leads out of the project"),
            },
            _ => down = true,
        }
    }
    None
}

/// Orders what is to be done: away from the bottom, new from the top, the modes of directories at the end, when nothing more is
/// put into them.
fn steps(changes: &Changes, outcomes: BTreeMap<usize, Outcome>) -> Vec<Step> {
    let (mut away, mut new, mut modes) = (Vec::new(), Vec::new(), Vec::new());
    for (at, outcome) in outcomes {
        let change = &changes.entries[at];
        let path = change.path.clone();
        let is_directory =
            |state: &Option<State>| state.as_ref().map(|state| state.kind == Kind::Directory);
        let was = is_directory(&change.old);
        let becomes = is_directory(&change.new);
        if let Outcome::Nothing = outcome {
            continue;
        }
        let stamp = change.old.as_ref().map(|old| old.stamp);
        match (was, becomes) {
            (Some(true), None | Some(false)) => {
                away.push(Step::RemoveDirectory { path: path.clone() });
            }
            (Some(false), None | Some(true)) => away.extend(stamp.map(|stamp| Step::Remove {
                path: path.clone(),
                stamp,
            })),
            _ => {}
        }
        let Some(state) = &change.new else { continue };
        let mode = state.mode & 0o777;
        match state.kind {
            Kind::Directory => {
                if was != Some(true) {
                    new.push(Step::MakeDirectory { path: path.clone() });
                }
                modes.push(Step::SetMode {
                    path,
                    mode: state.mode & 0o1777,
                });
            }
            Kind::File => {
                let node = match outcome {
                    Outcome::Merged(text) => Node::Merged { text, mode },
                    _ => Node::File { change: at, mode },
                };
                new.push(Step::Put {
                    path,
                    node,
                    replaces: stamp.filter(|_| was == Some(false)),
                });
            }
            _ => new.push(Step::Put {
                path,
                node: Node::Link {
                    target: state.target.clone().unwrap_or_default(),
                },
                replaces: stamp.filter(|_| was == Some(false)),
            }),
        }
    }
    away.reverse();
    modes.reverse();
    away.into_iter().chain(new).chain(modes).collect()
}
