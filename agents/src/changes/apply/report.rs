//! What was applied and what was not, as programs read it.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Applied, ApplyError, Refusal};
use crate::changes::{ChangeKind, escape};

/// What was done, and what not.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct AppliedReport {
    /// What is in the project now as the session has it.
    pub applied: Vec<AppliedPath>,
    /// What is not, and why.
    pub refused: Vec<RefusalReport>,
    /// A directory at the top of the project that is left over and can be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leftover: Option<String>,
}

/// One change that was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct AppliedPath {
    /// Where, written as in the list of changes.
    pub path: String,
    /// In which way the project differed.
    pub change: ChangeKind,
    /// Whether the project's own changes of the same file were kept, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub merged: bool,
}

/// One change that was not made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct RefusalReport {
    /// Where, written as in the list of changes.
    pub path: String,
    /// What kind of reason.
    pub kind: RefusalKind,
    /// The rule that protects it, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The reason and what can be done, in words.
    pub message: String,
}

/// Kinds of reasons for which a change is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// A rule protects the path; only the owner can allow it.
    Protected,
    /// The project has changed, too.
    Conflict,
    /// The project cannot have such a thing from a session.
    Unfit,
    /// Nothing differs there.
    NotChanged,
    /// It could not be judged.
    Skipped,
    /// It makes no sense without another change that was not made.
    Dependent,
}

impl From<&Refusal> for RefusalReport {
    fn from(refusal: &Refusal) -> Self {
        let (kind, rule) = match refusal {
            Refusal::Protected(denial) => (RefusalKind::Protected, Some(denial.rule.clone())),
            Refusal::Conflict(_) => (RefusalKind::Conflict, None),
            Refusal::Special { .. } | Refusal::SetId { .. } | Refusal::Link { .. } => {
                (RefusalKind::Unfit, None)
            }
            Refusal::NotChanged { .. } => (RefusalKind::NotChanged, None),
            Refusal::Skipped { .. } => (RefusalKind::Skipped, None),
            Refusal::Needs { .. } => (RefusalKind::Dependent, None),
        };
        Self {
            path: escape::name(refusal.path().as_bytes()),
            kind,
            rule,
            message: refusal.to_string(),
        }
    }
}

impl Applied {
    /// The same for programs.
    pub fn report(&self) -> AppliedReport {
        let applied = self.paths.iter().map(|(path, change)| AppliedPath {
            path: escape::name(path.as_bytes()),
            change: *change,
            merged: self.merged.binary_search(path).is_ok(),
        });
        AppliedReport {
            applied: applied.collect(),
            refused: self.refused.iter().map(RefusalReport::from).collect(),
            leftover: self.leftover.clone(),
        }
    }
}

impl ApplyError {
    /// What was refused, for programs. Nothing where another failure is the reason.
    pub fn refusals(&self) -> Vec<RefusalReport> {
        match self {
            ApplyError::Refused(refused) => refused.iter().map(RefusalReport::from).collect(),
            _ => Vec::new(),
        }
    }
}
