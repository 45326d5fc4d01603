//! What went wrong, told to a model: each failure says what to do next.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a call was not carried out. A command's own exit status is never one of these: it is a result.
///
/// Something that belongs to another owner is told as something that does not exist.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Failure {
    /// The arguments have the right types and make no sense.
    #[error("{field}: {problem}")]
    Invalid {
        /// The argument.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        expected: String,
    },
    /// There is no such environment, command or snapshot, or it is another owner's.
    #[error("there is no {kind} {handle}")]
    NoSuchHandle {
        /// `environment`, `command` or `snapshot`.
        kind: String,
        /// The handle that was given.
        handle: String,
    },
    /// The kept output is gone, or never was.
    #[error("there is no resource {uri}")]
    NoSuchResource {
        /// The address that was asked for.
        uri: String,
    },
    /// No such path inside the environment.
    #[error("{path}: no such file or directory in the environment")]
    NoSuchFile {
        /// The path as given.
        path: String,
    },
    /// The path is something else than this call needs.
    #[error("{path}: is a {found}, not a {expected}")]
    WrongKind {
        /// The path as given.
        path: String,
        /// What it is.
        found: String,
        /// What the call needs.
        expected: String,
    },
    /// The text to be replaced is not in the file exactly once.
    #[error("{path}: edit {edit}: the old text is there {found} times")]
    EditMismatch {
        /// The file.
        path: String,
        /// Which of the edits, from 1.
        edit: usize,
        /// How often the old text was found.
        found: usize,
    },
    /// The program is not in the environment.
    #[error("{program}: command not found in the environment")]
    CommandNotFound {
        /// The program that was asked for.
        program: String,
        /// Packages that would bring it.
        packages: Vec<String>,
    },
    /// No package of that name in any channel.
    #[error("there is no package {name}")]
    NoSuchPackage {
        /// The name that was asked for.
        name: String,
        /// Names that are like it.
        nearest: Vec<String>,
    },
    /// The packages cannot all be had together.
    #[error("these packages do not go together: {explanation}")]
    Unsolvable {
        /// The solver's explanation, in package names.
        explanation: String,
    },
    /// Policy says no.
    #[error("denied by the rule {rule}: {what}")]
    Denied {
        /// What was attempted.
        what: String,
        /// The rule, with where it comes from.
        rule: String,
        /// What the person who owns the machine would have to change.
        ask: String,
    },
    /// A limit of the environment or of its project was reached.
    #[error("limit reached: {limit} is {value}")]
    LimitReached {
        /// Which limit.
        limit: String,
        /// Its value, with its unit.
        value: String,
    },
    /// The project changed underneath, where the environment changed it too.
    #[error("the project has moved: {}", paths.join(", "))]
    ProjectMoved {
        /// What changed on both sides.
        paths: Vec<String>,
    },
    /// This machine cannot do it.
    #[error("this machine cannot {what}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// How to make it possible.
        fix: String,
    },
    /// envd itself failed.
    #[error("{step} failed: {reason}")]
    Internal {
        /// The step that failed, with its operand.
        step: String,
        /// Why, as far as known.
        reason: String,
    },
}

impl Failure {
    /// An environment that is not there, or not this owner's.
    pub fn no_such_environment(handle: &super::EnvironmentId) -> Self {
        Self::NoSuchHandle {
            kind: "environment".to_owned(),
            handle: handle.to_string(),
        }
    }

    /// A command that is not there, or not this owner's.
    pub fn no_such_command(handle: &super::CommandId) -> Self {
        Self::NoSuchHandle {
            kind: "command".to_owned(),
            handle: handle.to_string(),
        }
    }

    /// A snapshot that is not there, or not this owner's.
    pub fn no_such_snapshot(handle: &super::SnapshotId) -> Self {
        Self::NoSuchHandle {
            kind: "snapshot".to_owned(),
            handle: handle.to_string(),
        }
    }

    /// What to do next, as one sentence for a model.
    pub fn next_step(&self) -> String {
        match self {
            Self::Invalid { expected, .. } => format!("Call again with {expected}."),
            Self::NoSuchHandle { kind, .. } if kind == "environment" => {
                "Call environment_list for what is there, or environment_create for a new one.".to_owned()
            }
            Self::NoSuchHandle { kind, .. } if kind == "command" => {
                "Outputs are kept until their environment is destroyed; start the command again with command_run or command_start.".to_owned()
            }
            Self::NoSuchHandle { .. } => {
                "Take a new one with environment_snapshot; snapshots end with their owner.".to_owned()
            }
            Self::NoSuchResource { .. } => {
                "List the resources for what is kept; outputs are kept until their environment is destroyed.".to_owned()
            }
            Self::NoSuchFile { .. } => {
                "Look with file_list; relative paths begin at the project's directory.".to_owned()
            }
            Self::WrongKind { expected, .. } if expected == "directory" => {
                "Use file_read for a file.".to_owned()
            }
            Self::WrongKind { .. } => "Use file_list for a directory.".to_owned(),
            Self::EditMismatch { found: 0, .. } => {
                "Read the file again with file_read and give the old text exactly, white space included.".to_owned()
            }
            Self::EditMismatch { .. } => {
                "Give more of the surrounding lines so that the old text is unique, or set all to true.".to_owned()
            }
            Self::CommandNotFound { program, packages } if packages.is_empty() => {
                format!("Find what brings {program} with package_search, then add it with package_add.")
            }
            Self::CommandNotFound { packages, .. } => {
                format!("Add it with package_add: {}.", packages.join(" or "))
            }
            Self::NoSuchPackage { nearest, .. } if nearest.is_empty() => {
                "Look for it with package_search.".to_owned()
            }
            Self::NoSuchPackage { nearest, .. } => {
                format!("Did you mean {}? Otherwise use package_search.", nearest.join(" or "))
            }
            Self::Unsolvable { .. } => {
                "Ask for fewer or looser versions, or make two environments.".to_owned()
            }
            Self::Denied { ask, .. } => {
                format!("Do not try to get around it. Tell the user what is needed: {ask}")
            }
            Self::LimitReached { .. } => {
                "Free what is no longer needed (environment_destroy, command_signal), or ask the user for a higher limit.".to_owned()
            }
            Self::ProjectMoved { .. } => {
                "Read these files in the project's present state, bring your changes into line with them, and apply again.".to_owned()
            }
            Self::Unsupported { fix, .. } => fix.clone(),
            Self::Internal { .. } => {
                "Try once more; if it fails again, tell the user and have them run `envd doctor`.".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_owners_environment_reads_like_one_that_never_was() {
        let handle = super::super::EnvironmentId::random();
        let failure = Failure::no_such_environment(&handle);
        assert_eq!(
            failure.to_string(),
            format!("there is no environment {handle}")
        );
        assert!(failure.next_step().contains("environment_list"));
    }

    #[test]
    fn a_missing_command_names_the_package_that_brings_it() {
        let failure = Failure::CommandNotFound {
            program: "gcc".to_owned(),
            packages: vec!["gcc".to_owned()],
        };
        assert_eq!(failure.next_step(), "Add it with package_add: gcc.");
    }

    #[test]
    fn a_denial_says_what_to_ask_for_and_not_to_get_around_it() {
        let failure = Failure::Denied {
            what: "connect to example.org:443".to_owned(),
            rule: "network = [\"pypi.org\"] (project)".to_owned(),
            ask: "add \"example.org\" to [agent] network.".to_owned(),
        };
        let next = failure.next_step();
        assert!(next.contains("Tell the user") && next.contains("example.org"));
    }
}
