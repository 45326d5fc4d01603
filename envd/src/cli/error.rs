//! Failures as people and programs see them: one message, what caused it, what to do next, and an exit code by kind.
//! Libraries have errors of their own; only here do they become this.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::{
    config::{ConfigError, WriteError, edit::EditError},
    environment::{Shadow, caches::CacheError},
    project::ProjectError,
    settings::SettingsError,
};

/// Whose matter a failure is. The exit code says it, see [`Kind::code`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Anything else, and the answer "no".
    Other,
    /// The command line, `envd.toml`, the settings.
    Usage,
    /// Nothing satisfies what is asked for.
    Resolve,
    /// A download did not succeed.
    Fetch,
    /// Something is not what its signature, digest or lock says.
    Integrity,
    /// This machine cannot do what is needed.
    Host,
    /// The store is damaged, full or out of reach.
    Store,
    /// Whoever read our output has stopped.
    BrokenPipe,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Resolve => 3,
            Self::Fetch => 4,
            Self::Integrity => 5,
            Self::Host => 6,
            Self::Store => 7,
            // As if SIGPIPE had ended us, which is what the rest of a pipeline expects.
            Self::BrokenPipe => 141,
        }
    }
}

/// Why a command did not do what it should.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Whose matter it is.
    pub kind: Kind,
    /// What happened. May have several lines.
    pub message: String,
    /// What caused it, outermost first, without what the message says already.
    pub causes: Vec<String>,
    /// What to do next.
    pub help: Option<String>,
}

impl Failure {
    /// A failure without a cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            help: None,
        }
    }

    /// A library's error with all its causes.
    pub fn of(kind: Kind, error: &dyn Error) -> Self {
        let mut failure = Self::new(kind, error.to_string());
        let mut said = failure.message.clone();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors quote their source in their own message.
            if !said.contains(&text) {
                said.clone_from(&text);
                failure.causes.push(text);
            }
            source = cause.source();
        }
        failure
    }

    /// There is no shell to open.
    pub fn no_shell() -> Self {
        Self::new(Kind::Usage, "the environment has no shell").help("`envd add bash`")
    }

    /// The same with what to do next.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(Kind::Usage, &error)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::of(Kind::Usage, &error)
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        let failure = Self::of(Kind::Usage, &error);
        match error {
            EditError::Present { name, .. } => {
                failure.help(format!("edit that line, or `envd remove {name}` first"))
            }
            _ => failure,
        }
    }
}

impl From<ProjectError> for Failure {
    fn from(error: ProjectError) -> Self {
        let failure = Self::of(Kind::Usage, &error);
        match error {
            ProjectError::NotFound { .. } | ProjectError::NotHere { .. } => {
                failure.help("`envd init` writes one; `envd x PACKAGE -- COMMAND` needs none")
            }
            _ => failure,
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::of(Kind::Other, &error)
    }
}

impl From<Shadow> for Failure {
    fn from(error: Shadow) -> Self {
        Self::of(Kind::Usage, &error).help("keep the project in a directory of its own")
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::of(Kind::Store, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot fetch hello: {0}")]
    struct Quoting(#[source] Plain);

    #[derive(Debug, thiserror::Error)]
    #[error("connection lost")]
    struct Plain(#[source] std::io::Error);

    #[test]
    fn each_cause_is_said_once() {
        let error = Quoting(Plain(std::io::Error::other("reset by peer")));
        let failure = Failure::of(Kind::Fetch, &error);
        assert_eq!(failure.message, "cannot fetch hello: connection lost");
        assert_eq!(failure.causes, ["reset by peer"]);
    }

    #[test]
    fn exit_codes_stay_what_they_were_documented_to_be() {
        let kinds = [
            Kind::Other,
            Kind::Usage,
            Kind::Resolve,
            Kind::Fetch,
            Kind::Integrity,
            Kind::Host,
            Kind::Store,
        ];
        assert_eq!(kinds.map(Kind::code), [1, 2, 3, 4, 5, 6, 7]);
    }
}
