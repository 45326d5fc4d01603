//! Reading the upper layers: what of the project looks different through them.
//!
//! One directory at a time, with at most one descriptor a layer. The project is looked at only where an upper layer names
//! something, and walked only where a layer hides or removes a whole directory.

use std::{
    ffi::{CStr, CString},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use envd_store::TreePath;
use rustix::{fs::FileType, io::Errno};

use super::{
    Change, ChangeKind, Changes, ChangesError, Kind, Reason, Scope, Skipped, Stamp, State,
    beneath::{Directory, Found},
    content::{self, Buffers},
    layers::Layers,
    marks::{DirectoryMarks, FileMarks, is_whiteout},
    spread::spread,
};

/// A directory that is still to be looked at.
struct Pending {
    path: Option<TreePath>,
    depth: usize,
    /// The upper layers that have it, the topmost first.
    uppers: Vec<usize>,
    /// Whether the project's directory shows through them.
    shows: bool,
    /// Whether the project has it.
    old: bool,
}

/// One of a directory's appearances in the upper layers.
struct Opened {
    layer: usize,
    directory: Directory,
    marks: DirectoryMarks,
}

/// What the layers make of one name.
struct Resolved {
    new: Option<(usize, Found)>,
    /// The layers whose directories of this name add up.
    uppers: Vec<usize>,
    /// Whether what the project has would still show.
    shows: bool,
    /// Whether only one upper layer has it, so that a copy in it must be one of what the project has.
    alone: bool,
}

pub(super) fn scan(layers: &Layers, scope: &Scope) -> Result<Changes, ChangesError> {
    let (entries, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let make = || Scan {
        layers,
        scope,
        changes: Changes::default(),
        buffers: Buffers::default(),
        entries: &entries,
        bytes: &bytes,
    };
    let top = Pending {
        path: None,
        depth: 0,
        uppers: (0..layers.uppers.len()).collect(),
        shows: true,
        old: true,
    };
    let scans = spread(top, make, |scan, directory, more| {
        scan.directory(&directory, more)
    })?;
    let mut changes = Changes::default();
    for scan in scans {
        changes.entries.extend(scan.changes.entries);
        changes.skipped.extend(scan.changes.skipped);
        changes.left_out.extend(scan.changes.left_out);
    }
    changes.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    changes.skipped.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    changes.left_out.sort_unstable();
    Ok(changes)
}

/// One thread's part.
struct Scan<'a> {
    layers: &'a Layers,
    scope: &'a Scope,
    changes: Changes,
    buffers: Buffers,
    /// Names met, by all threads.
    entries: &'a AtomicUsize,
    /// Bytes of the session's files, by all threads.
    bytes: &'a AtomicU64,
}

impl Scan<'_> {
    fn directory(
        &mut self,
        pending: &Pending,
        more: &mut Vec<Pending>,
    ) -> Result<(), ChangesError> {
        let here = pending.path.as_ref();
        let Some((uppers, shows)) = self.open_uppers(pending)? else {
            return Ok(());
        };
        if uppers.is_empty() && shows {
            return Ok(());
        }
        let old = if pending.old {
            match self.layers.project.below(here) {
                Ok(directory) => Some(directory),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(error) => match self.cannot_enter(here, error)? {
                    true => return Ok(()),
                    false => None,
                },
            }
        } else {
            None
        };

        let mut names: Vec<(CString, Option<usize>)> = Vec::new();
        for (at, upper) in uppers.iter().enumerate() {
            self.list(here, &upper.directory, Some(at), &mut names)?;
        }
        if let (Some(old), false) = (&old, shows) {
            self.list(here, old, None, &mut names)?;
        }
        names.sort_unstable();
        for group in names.chunk_by(|a, b| a.0 == b.0) {
            let name = &group[0].0;
            let Ok(path) = join(here, name) else {
                self.skip_here(here, Reason::TooDeep);
                continue;
            };
            if !self.in_scope(&path) {
                continue;
            }
            if !self.scope.git && path.name() == b".git" {
                self.changes.left_out.push(path);
                continue;
            }
            let having = group.iter().filter_map(|(_, at)| *at).map(|at| &uppers[at]);
            match self.one(pending, path.clone(), name, having, old.as_ref(), shows) {
                Ok(below) => more.extend(below),
                Err(Failed::Skip(reason)) => self.changes.skipped.push(Skipped { path, reason }),
                Err(Failed::Stop(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Opens the directory in all layers that have it, down to the first that hides the rest. `None` when it was skipped.
    fn open_uppers(
        &mut self,
        pending: &Pending,
    ) -> Result<Option<(Vec<Opened>, bool)>, ChangesError> {
        let here = pending.path.as_ref();
        let mut opened = Vec::new();
        for &layer in &pending.uppers {
            let directory = match self.layers.uppers[layer].below(here) {
                Ok(directory) => directory,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => match self.cannot_enter(here, error)? {
                    true => return Ok(None),
                    false => continue,
                },
            };
            let marks = DirectoryMarks::read(&directory)
                .map_err(|error| io("read the attributes of", here, error))?;
            if marks.redirect {
                self.skip_here(here, Reason::Mark("user.overlay.redirect"));
                return Ok(None);
            }
            opened.push(Opened {
                layer,
                directory,
                marks,
            });
            if marks.opaque {
                return Ok(Some((opened, false)));
            }
        }
        Ok(Some((opened, pending.shows)))
    }

    /// Whether a directory that cannot be opened is to be skipped (else it counts as gone).
    fn cannot_enter(
        &mut self,
        here: Option<&TreePath>,
        error: Errno,
    ) -> Result<bool, ChangesError> {
        let reason = match error {
            Errno::ACCESS | Errno::PERM => Reason::Unreadable,
            Errno::XDEV => Reason::MountPoint,
            Errno::NAMETOOLONG => Reason::TooDeep,
            error => return Err(io("open the directory", here, error)),
        };
        self.skip_here(here, reason);
        Ok(true)
    }

    fn skip_here(&mut self, here: Option<&TreePath>, reason: Reason) {
        let Some(path) = here else { return };
        let skipped = Skipped {
            path: path.clone(),
            reason,
        };
        if self.changes.skipped.last() != Some(&skipped) {
            self.changes.skipped.push(skipped);
        }
    }

    fn list(
        &mut self,
        here: Option<&TreePath>,
        directory: &Directory,
        at: Option<usize>,
        names: &mut Vec<(CString, Option<usize>)>,
    ) -> Result<(), ChangesError> {
        let limit = self.scope.limits.entries;
        // The one error stands for "too many": listing itself does not give it.
        let listed = directory.names(|name| {
            if self.entries.fetch_add(1, Ordering::Relaxed) >= limit {
                return Err(Errno::OVERFLOW);
            }
            names.push((name.to_owned(), at));
            Ok(())
        });
        match listed {
            Err(Errno::OVERFLOW) => Err(ChangesError::TooMany {
                path: here.cloned(),
                limit,
            }),
            listed => listed.map_err(|error| io("list", here, error)),
        }
    }

    fn in_scope(&self, path: &TreePath) -> bool {
        let only = &self.scope.only;
        only.is_empty()
            || only
                .iter()
                .any(|one| path.starts_with(one) || one.starts_with(path))
    }

    /// Judges one name. Gives the directory that is to be looked at next.
    fn one<'b>(
        &mut self,
        parent: &Pending,
        path: TreePath,
        name: &CStr,
        having: impl Iterator<Item = &'b Opened>,
        old: Option<&Directory>,
        shows: bool,
    ) -> Result<Option<Pending>, Failed> {
        let resolved = resolve(name, having, shows)?;
        let old = match old {
            Some(directory) => directory.look(name.to_bytes())?,
            None => None,
        };
        if resolved.new.is_none() && resolved.shows {
            // It went away between listing and looking.
            return Ok(None);
        }
        let old_directory = old
            .as_ref()
            .is_some_and(|old| old.kind() == FileType::Directory);
        let new_directory = !resolved.uppers.is_empty();
        let below = (old_directory || new_directory).then(|| Pending {
            path: Some(path.clone()),
            depth: parent.depth + 1,
            uppers: resolved.uppers,
            shows: resolved.shows && old_directory,
            old: old_directory,
        });
        let only = &self.scope.only;
        if only.is_empty() || only.iter().any(|one| path.starts_with(one)) {
            // Where this fails nothing below is told either: half of a change of types would lose what was there.
            let change = self.compare(path, old, resolved.new, resolved.alone)?;
            self.changes.entries.extend(change);
        }
        match below {
            Some(below) if below.depth > self.scope.limits.depth => {
                Err(Failed::Skip(Reason::TooDeep))
            }
            below => Ok(below),
        }
    }

    fn compare(
        &mut self,
        path: TreePath,
        old: Option<Found>,
        new: Option<(usize, Found)>,
        alone: bool,
    ) -> Result<Option<Change>, Failed> {
        let (layer, new) = match new {
            Some((layer, new)) => (Some(layer), Some(new)),
            None => (None, None),
        };
        let mut copied_up = false;
        let mut same = false;
        let new_state = match &new {
            None => None,
            Some(found) => {
                let mut state = state(found)?;
                if found.kind() == FileType::RegularFile {
                    let read = self.read_new(&path, found, old.as_ref())?;
                    (same, copied_up) = (read.same, read.copied_up);
                    (state.size, state.binary, state.digest) =
                        (read.new.size, read.new.binary, Some(read.new.digest));
                } else if found.kind() == FileType::Directory && old.is_none() {
                    copied_up = found.attribute(c"user.overlay.origin")?.is_some();
                }
                Some(state)
            }
        };
        let old_state = match &old {
            None => None,
            Some(found) => Some(state(found)?),
        };
        let kind = match (&old_state, &new_state) {
            (None, None) => return Ok(None),
            (None, Some(_)) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Deleted,
            (Some(old), Some(new)) if old.kind != new.kind => ChangeKind::TypeChanged,
            (Some(old), Some(new)) => {
                let content = match new.kind {
                    Kind::File => same,
                    Kind::Symlink => old.target == new.target,
                    Kind::Directory => true,
                    // Another FIFO is another one, and neither is ever applied.
                    _ => false,
                };
                match (content, old.mode == new.mode || new.kind == Kind::Symlink) {
                    (true, true) => return Ok(None),
                    (true, false) => ChangeKind::ModeChanged,
                    (false, _) => ChangeKind::Modified,
                }
            }
        };
        let old_state = match (old_state, &old) {
            (Some(mut state), Some(found)) if state.kind == Kind::File => {
                state.binary = match kind {
                    ChangeKind::ModeChanged => new_state.as_ref().is_some_and(|new| new.binary),
                    _ => self.is_old_binary(found)?,
                };
                Some(state)
            }
            (state, _) => state,
        };
        Ok(Some(Change {
            path,
            kind,
            old: old_state,
            new: new_state,
            layer,
            copied_up: copied_up && alone,
        }))
    }

    fn is_old_binary(&self, found: &Found) -> Result<bool, Failed> {
        match found.read() {
            Ok(mut file) => {
                content::is_binary_file(&mut file).map_err(|_| Failed::Skip(Reason::Unsteady))
            }
            // Deleting what cannot be read is possible; it is shown without its content.
            Err(Errno::ACCESS | Errno::PERM) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads one of the session's files, and the project's beside it where they may be the same.
    fn read_new(
        &mut self,
        path: &TreePath,
        found: &Found,
        old: Option<&Found>,
    ) -> Result<New, Failed> {
        let limits = &self.scope.limits;
        let size = found.size();
        if size > limits.file {
            let limit = limits.file;
            return Err(Failed::Skip(Reason::TooLarge { size, limit }));
        }
        // No sum of this many sizes of at most `limits.file` wraps.
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > limits.bytes {
            return Err(Failed::Stop(ChangesError::TooMuch {
                path: path.clone(),
                limit: limits.bytes,
            }));
        }
        let mut file = found.read().map_err(|error| match error {
            Errno::ACCESS | Errno::PERM => Failed::Skip(Reason::Unreadable),
            error => error.into(),
        })?;
        let marks = FileMarks::read(&file)?;
        if marks.metacopy {
            return Err(Failed::Skip(Reason::Mark("user.overlay.metacopy")));
        }
        if marks.redirect {
            return Err(Failed::Skip(Reason::Mark("user.overlay.redirect")));
        }
        // A file of another size, or one that we may not read, is not the same.
        let mut beside = old
            .filter(|old| {
                old.kind() == FileType::RegularFile && old.stat.st_size == found.stat.st_size
            })
            .and_then(|old| old.read().ok());
        let (new, same) = content::read_beside(&mut file, beside.as_mut(), size, &mut self.buffers)
            .map_err(|_| Failed::Skip(Reason::Unsteady))?;
        if new.size != size {
            return Err(Failed::Skip(Reason::Unsteady));
        }
        Ok(New {
            new,
            same,
            copied_up: marks.origin,
        })
    }
}

struct New {
    new: content::Content,
    same: bool,
    copied_up: bool,
}

/// What the upper layers make of a name, by the rules of overlayfs: the topmost layer that has it decides; directories add up,
/// down to the first thing that is none.
fn resolve<'b>(
    name: &CStr,
    having: impl Iterator<Item = &'b Opened>,
    shows: bool,
) -> Result<Resolved, Failed> {
    let mut resolved = Resolved {
        new: None,
        uppers: Vec::new(),
        shows,
        alone: true,
    };
    // Whether a layer has been met that hides the ones below.
    let mut decided = false;
    for upper in having {
        let Some(found) = upper.directory.look(name.to_bytes())? else {
            continue;
        };
        let whiteout = is_whiteout(&found, upper.marks)?;
        if decided {
            resolved.alone &= whiteout;
            break;
        }
        if whiteout {
            resolved.shows = false;
            break;
        }
        if found.kind() == FileType::Directory {
            resolved.uppers.push(upper.layer);
            resolved.alone = resolved.new.is_none();
        } else {
            decided = true;
            resolved.shows = false;
        }
        if resolved.new.is_none() {
            resolved.new = Some((upper.layer, found));
        }
    }
    Ok(resolved)
}

/// A state without what only reading the content tells.
fn state(found: &Found) -> Result<State, Failed> {
    let kind = Kind::of(found.kind());
    Ok(State {
        kind,
        mode: (found.stat.st_mode & 0o7777) as u16,
        size: match kind {
            Kind::File => found.size(),
            _ => 0,
        },
        target: match kind {
            Kind::Symlink => Some(found.target()?),
            _ => None,
        },
        binary: false,
        digest: None,
        stamp: Stamp::of(&found.stat),
    })
}

/// Why one name was not judged.
enum Failed {
    Skip(Reason),
    Stop(ChangesError),
}

impl From<Errno> for Failed {
    fn from(error: Errno) -> Self {
        match error {
            Errno::XDEV => Failed::Skip(Reason::MountPoint),
            Errno::ACCESS | Errno::PERM => Failed::Skip(Reason::Unreadable),
            Errno::NAMETOOLONG => Failed::Skip(Reason::TooDeep),
            // It was exchanged while we looked.
            Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::LOOP | Errno::STALE => {
                Failed::Skip(Reason::Unsteady)
            }
            error => Failed::Stop(io("look at an entry of", None, error)),
        }
    }
}

fn io(step: &'static str, path: Option<&TreePath>, error: Errno) -> ChangesError {
    ChangesError::Io {
        step,
        path: path.cloned(),
        source: error.into(),
    }
}

/// The path of an entry.
fn join(directory: Option<&TreePath>, name: &CStr) -> Result<TreePath, envd_store::PathError> {
    match directory {
        Some(directory) => directory.join(name.to_bytes()),
        None => TreePath::new(name.to_bytes()),
    }
}
