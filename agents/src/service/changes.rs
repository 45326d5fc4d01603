//! What an environment changed in its project, and bringing it back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    EnvironmentId,
    command::{MOST_OUTPUT_BYTES, at_most},
    excerpt::Excerpt,
};

/// What happened to a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content is another.
    Modified,
    /// It is gone.
    Deleted,
    /// Only its permissions are others.
    Mode,
    /// It is another kind of thing, for instance a link instead of a file.
    Type,
}

/// One changed path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The path, relative to the project.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Whether it is no text, so that the diff does not show it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub binary: bool,
    /// The rule by which applying it needs the user, when there is one (hooks, agent settings, continuous integration).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_by: Option<String>,
}

/// See what an environment changed in its project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangesDiff {
    /// The environment.
    pub environment: EnvironmentId,
    /// Only these paths and what is below them, relative to the project. All unless stated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Most bytes of the unified diff in the answer, up to a million; the whole is kept as a resource.
    #[serde(
        default = "diff_bytes",
        deserialize_with = "at_most::<_, MOST_OUTPUT_BYTES>"
    )]
    pub diff_bytes: u64,
}

fn diff_bytes() -> u64 {
    32 * 1024
}

/// What an environment changed in its project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// The environment.
    pub environment: EnvironmentId,
    /// Changed paths, sorted.
    pub changes: Vec<Change>,
    /// Changed paths that are not in the list because it would be too long.
    pub omitted_changes: u64,
    /// The same as a unified diff.
    pub diff: Excerpt,
}

/// Most changed paths in one answer.
pub const MOST_CHANGES: usize = 1000;

/// Bring changes back into the project outside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangesApply {
    /// The environment.
    pub environment: EnvironmentId,
    /// Only these paths and what is below them, relative to the project. All unless stated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Whether commits made inside are to be brought too, as a branch of the project's repository (never hooks or
    /// configuration), with what they record of submodules.
    #[serde(default)]
    pub git: bool,
    /// Whether commits are all that is to be brought: the project's files stay as they are.
    #[serde(default)]
    pub commits_only: bool,
    /// The branch for the commits, below envd/. The default is the environment's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Whether only to say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// A path that was not applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NotApplied {
    /// The path, relative to the project.
    pub path: String,
    /// Why: the rule that refuses it, or how the project moved underneath.
    pub reason: String,
}

/// Commits of a submodule that came with those of the project.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SubmoduleCommits {
    /// The submodule, relative to the project.
    pub path: String,
    /// Commits that were brought to its repository, oldest first.
    pub commits: Vec<String>,
    /// The branch there that leads to them.
    pub branch: String,
}

/// What was brought back. Either everything that was asked for, or nothing and the reasons.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChangesApplied {
    /// The environment.
    pub environment: EnvironmentId,
    /// Paths that are now in the project as they are inside, or would be in a dry run.
    pub applied: Vec<String>,
    /// Texts that were changed on both sides and merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<String>,
    /// Paths that changed on both sides and could not be merged. When there are any, nothing was applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<NotApplied>,
    /// Paths that only the user may apply. When there are any, nothing was applied; leave them out with `paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<NotApplied>,
    /// Commits that were brought, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commits: Vec<String>,
    /// The branch that leads to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What came of submodules with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub submodules: Vec<SubmoduleCommits>,
    /// Whether this was only a dry run.
    pub dry_run: bool,
}
