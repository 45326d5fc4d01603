//! Why a set of services cannot be supervised.

use std::fmt;

use crate::{Name, graph::GraphError};

/// Why a set of services cannot be supervised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SupervisorError {
    /// Two have one name.
    Twice(Name),
    /// One contradicts itself.
    Service {
        /// Which.
        service: Name,
        /// How.
        problem: &'static str,
    },
    /// What they need does not work out.
    Graph(GraphError),
}

impl fmt::Display for SupervisorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice(name) => write!(f, "there are two services `{name}`; rename one"),
            Self::Service { service, problem } => {
                write!(f, "the service `{service}` cannot be: {problem}")
            }
            Self::Graph(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SupervisorError {}

impl From<GraphError> for SupervisorError {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
    }
}
