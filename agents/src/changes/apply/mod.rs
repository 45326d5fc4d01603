//! Putting chosen changes into the project.
//!
//! First everything is judged and nothing touched: what the rules protect, what a project cannot have from a session, and
//! whether the project is still what the session changed ([`check`]). Then the new files are written into a directory of our
//! own at the top of the project, under names of our own, and their contents compared with what was judged ([`stage`]). Only
//! then are they renamed into their places, each atomically, the old ones into our directory; when one fails, all go back
//! ([`commit`]).

mod check;
mod commit;
mod error;
mod report;
mod select;
mod stage;

use envd_store::TreePath;

use super::{Base, BaseContent, ChangeKind, Changes, Layers, Stamp, protected::Protected};

pub use error::{ApplyError, Conflict, ConflictKind, Refusal};
pub use report::{AppliedPath, AppliedReport, RefusalKind, RefusalReport};

/// Which changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Chosen {
    /// All.
    All,
    /// Those at these paths and below them. New directories above come along.
    Paths(Vec<TreePath>),
}

/// What may be applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guard {
    /// What is protected.
    pub protected: Protected,
    /// What the owner allows all the same: these paths and all below.
    pub allow: Vec<TreePath>,
    /// Symbolic links that are absolute or lead out of the project, too.
    pub outside_links: bool,
    /// Also where the project has changed since the session began: the session's state wins. What changed since the changes
    /// were looked at stays refused.
    pub overwrite: bool,
    /// What becomes of the others where some are refused.
    pub refused: OfRefused,
    /// Whether new contents are on the disk before the first rename, so that a power cut leaves either state of each file.
    pub durable: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            protected: Protected::default(),
            allow: Vec::new(),
            outside_links: false,
            overwrite: false,
            refused: OfRefused::Stop,
            durable: true,
        }
    }
}

/// What becomes of the others where some changes are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfRefused {
    /// Nothing is applied.
    Stop,
    /// The others are applied, and the refused ones reported.
    LeaveOut,
}

/// What was done.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Applied {
    /// In the order of their paths.
    pub paths: Vec<(TreePath, ChangeKind)>,
    /// Those of them that were merged with changes of the project's own.
    pub merged: Vec<TreePath>,
    /// What was not applied and why.
    pub refused: Vec<Refusal>,
    /// A directory of ours at the top of the project that could not be removed.
    pub leftover: Option<String>,
    /// What was put there, and the directories it was put into.
    pub(super) stamps: Vec<(TreePath, Stamp)>,
    pub(super) top: Option<Stamp>,
}

/// What is to be done to the project, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Takes a file, link or special file away.
    Remove { path: TreePath, stamp: Stamp },
    /// Takes an empty directory away.
    RemoveDirectory { path: TreePath },
    /// Makes a directory.
    MakeDirectory { path: TreePath },
    /// Puts a staged file or link where nothing is, or in the place of what has this stamp.
    Put {
        path: TreePath,
        node: Node,
        replaces: Option<Stamp>,
    },
    /// Changes a directory's permissions. Its set-group-ID bit stays as it is.
    SetMode { path: TreePath, mode: u16 },
}

/// What is put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Node {
    /// The session's file, by its place among the changes.
    File { change: usize, mode: u16 },
    /// A merged text.
    Merged { text: Vec<u8>, mode: u16 },
    /// A symbolic link.
    Link { target: Box<[u8]> },
}

impl Layers {
    /// What [`Layers::apply`] would do, as far as that can be known: nothing is touched.
    pub fn judge(
        &self,
        changes: &Changes,
        chosen: &Chosen,
        guard: &Guard,
        base: &Base,
        contents: &dyn BaseContent,
    ) -> Result<Applied, ApplyError> {
        let (_, judged) = self.checked(changes, chosen, guard, base, contents)?;
        Ok(judged)
    }

    /// Puts chosen changes into the project. `changes` are those of these layers; a file that the session has changed since is
    /// refused, so that what is applied is what was looked at.
    pub fn apply(
        &self,
        changes: &Changes,
        chosen: &Chosen,
        guard: &Guard,
        base: &Base,
        contents: &dyn BaseContent,
    ) -> Result<Applied, ApplyError> {
        let (steps, judged) = self.checked(changes, chosen, guard, base, contents)?;
        let done = commit::commit(self, changes, &steps, guard.durable)?;
        Ok(Applied {
            leftover: done.leftover,
            stamps: done.stamps,
            top: done.top,
            ..judged
        })
    }

    fn checked(
        &self,
        changes: &Changes,
        chosen: &Chosen,
        guard: &Guard,
        base: &Base,
        contents: &dyn BaseContent,
    ) -> Result<(Vec<Step>, Applied), ApplyError> {
        let selection = select::select(changes, chosen);
        let checked = check::check(self, changes, selection, guard, base, contents);
        if guard.refused == OfRefused::Stop && checked.must_stop {
            return Err(ApplyError::Refused(checked.refused));
        }
        let accepted = checked.accepted.iter();
        let applied = Applied {
            paths: accepted
                .map(|&at| (changes.entries[at].path.clone(), changes.entries[at].kind))
                .collect(),
            merged: checked.merged,
            refused: checked.refused,
            ..Applied::default()
        };
        Ok((checked.steps, applied))
    }
}
