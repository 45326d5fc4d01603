//! What a session changed in its project, and putting it back.
//!
//! A session sees its project through an overlay: all that it writes goes to an upper directory outside. Reading that
//! directory ([`Layers`]) gives [`Changes`], a value. Whoever wrote there is hostile: nothing is opened before its type is
//! known, no link is followed, no mark of overlayfs other than those of our own mounts is obeyed, and no name or line
//! reaches a terminal as it is.
mod apply;
mod base;
mod beneath;
mod change;
mod commits;
mod content;
mod copy;
mod error;
pub mod escape;
mod git;
mod hunks;
mod layers;
mod marks;
mod merge;
pub mod protected;
mod remove;
mod report;
mod scan;
mod snapshot;
mod spread;

pub use apply::{
    Applied, AppliedPath, AppliedReport, ApplyError, Chosen, Conflict, ConflictKind, Guard,
    OfRefused, Refusal, RefusalKind, RefusalReport,
};
pub use base::{Base, BaseContent, BaseState, NoBaseContent};
pub use change::{Change, ChangeKind, Changes, Kind, Moment, Reason, Skipped, Stamp, State};
pub use commits::{
    Branch, CommitsError, Find, NoObjectName, ObjectName, Repository, Submodule, Taken, Written,
};
pub use copy::{Size, copy_tree, fits};
pub use error::ChangesError;
pub use git::GitBase;
pub use hunks::Hunk;
pub use layers::{Layers, Limits, Scope};
pub use remove::remove_tree;
pub use report::{FileReport, Rendering, Report, SideReport, SkippedReport};
pub use snapshot::{Names, SnapshotError, freeze, renew_work, set_aside};
