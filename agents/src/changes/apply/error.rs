//! Why changes were not applied.

use std::io;

use envd_store::TreePath;

use crate::changes::{
    Kind, Reason,
    escape::{self, Shown},
    protected::Denial,
};

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Some changes are refused. Nothing was touched.
    #[error("nothing was applied: {}", list(.0))]
    Refused(Vec<Refusal>),
    /// The new files could not be made ready. Nothing was touched.
    #[error("nothing was applied: cannot {step} {}", Shown(.path))]
    Stage {
        /// What was tried.
        step: &'static str,
        /// For which path.
        path: TreePath,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The directory for the new files could not be made. Nothing was touched.
    #[error("nothing was applied: cannot {step} the directory {name} at the top of the project")]
    Stages {
        /// What was tried.
        step: &'static str,
        /// Its name.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// One change failed half-way, and all were undone.
    #[error("nothing was applied, all was put back: cannot {step} {}", Shown(.path))]
    Undone {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: TreePath,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// One change failed half-way, and not all could be undone.
    #[error(
        "cannot {step} {}, and not everything could be put back: {}. What was there before is in {stage}, at the top of the project",
        Shown(.path),
        .lost.join("; ")
    )]
    Torn {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: TreePath,
        /// The system's answer.
        #[source]
        source: io::Error,
        /// What could not be undone.
        lost: Vec<String>,
        /// The directory that keeps what was there.
        stage: String,
    },
}

/// The first few, and how many more.
fn list(refused: &[Refusal]) -> String {
    let shown: Vec<String> = refused.iter().take(10).map(Refusal::to_string).collect();
    let more = match refused.len().saturating_sub(shown.len()) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    shown.join("; ") + &more
}

/// Why one change was not applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// A rule forbids it.
    #[error(transparent)]
    Protected(#[from] Denial),
    /// The project is not what the session changed.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Nothing that a project may have from a session.
    #[error("{} is a {}, and only files, directories and links are applied", Shown(.path), .kind.describe())]
    Special {
        /// Where.
        path: TreePath,
        /// What it is.
        kind: Kind,
    },
    /// It would run as its owner or group.
    #[error("{} is set-user-ID or set-group-ID (mode {mode:04o}): take the bit away inside the session", Shown(.path))]
    SetId {
        /// Where.
        path: TreePath,
        /// Its permissions.
        mode: u16,
    },
    /// A link that leads out, or may.
    #[error(
        "{} is a link to {}, which {problem}; the owner can allow links like it",
        Shown(.path),
        escape::name(.target)
    )]
    Link {
        /// Where.
        path: TreePath,
        /// Where it points.
        target: Box<[u8]>,
        /// What is wrong with that.
        problem: &'static str,
    },
    /// Nothing differs there.
    #[error("{} is not among the changes", Shown(.path))]
    NotChanged {
        /// What was asked for.
        path: TreePath,
    },
    /// It could not be judged.
    #[error("{} {reason}", Shown(.path))]
    Skipped {
        /// Where.
        path: TreePath,
        /// Why.
        reason: Reason,
    },
    /// It makes no sense without another change.
    #[error("{} cannot be applied without {}", Shown(.path), Shown(.other))]
    Needs {
        /// Where.
        path: TreePath,
        /// The other.
        other: TreePath,
    },
}

impl Refusal {
    /// Where.
    pub fn path(&self) -> &TreePath {
        match self {
            Refusal::Protected(denial) => &denial.path,
            Refusal::Conflict(conflict) => &conflict.path,
            Refusal::Special { path, .. }
            | Refusal::SetId { path, .. }
            | Refusal::Link { path, .. }
            | Refusal::NotChanged { path }
            | Refusal::Skipped { path, .. }
            | Refusal::Needs { path, .. } => path,
        }
    }
}

/// A path where the project and the session have gone different ways.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} {kind} (the project has {project}, the session {session})", Shown(.path))]
pub struct Conflict {
    /// Where.
    pub path: TreePath,
    /// In which way.
    pub kind: ConflictKind,
    /// What the project has.
    pub project: String,
    /// What the session has.
    pub session: String,
}

/// In which way project and session conflict.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConflictKind {
    /// The project's file changed since the session began.
    #[error(
        "has changed in the project since the session began: look at both and apply with --overwrite, or change it inside"
    )]
    Moved,
    /// Both changed the same lines.
    #[error(
        "was changed on both sides, in the same lines: look at both and apply with --overwrite, or change it inside"
    )]
    Lines,
    /// It was in the project when the session began.
    #[error(
        "was in the project when the session changed it and has been removed since: apply with --overwrite to bring it back"
    )]
    Removed,
    /// Something changed between looking and applying.
    #[error("has changed in the project since the changes were looked at: look again")]
    MovedAgain,
    /// A directory that is to go holds something that the session has not removed.
    #[error("cannot be removed: it holds {0}, which is not among what is removed")]
    Holds(String),
    /// The directory it belongs in is not there, or is no directory.
    #[error("has no directory to be put into: the project has changed there")]
    NoParent,
    /// It is not on the project's file system.
    #[error("lies on another file system than the project's top, where a rename cannot reach")]
    OtherFileSystem,
    /// It cannot be looked at.
    #[error("cannot be looked at in the project: {0}")]
    Unreadable(String),
}
