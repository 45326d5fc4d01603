//! What a session changed in its project, and putting it back.
//!
//! A session sees its project through an overlay: all that it writes goes to an upper directory outside. Reading that
//! directory ([`Layers`]) gives [`Changes`], a value. Whoever wrote there is hostile: nothing is opened before its type is
//! known, no link is followed, no mark of overlayfs other than those of our own mounts is obeyed, and no name or line
//! reaches a terminal as it is.
// Putting changes back uses the rest.
#![allow(dead_code)]

mod beneath;
mod change;
mod content;
mod error;
pub mod escape;
mod hunks;
mod layers;
mod marks;
mod report;
mod scan;

pub use change::{Change, ChangeKind, Changes, Kind, Moment, Reason, Skipped, Stamp, State};
pub use error::ChangesError;
pub use hunks::Hunk;
pub use layers::{Layers, Limits, Scope};
pub use report::{FileReport, Rendering, Report, SideReport, SkippedReport};
