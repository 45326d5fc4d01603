//! Shims that cannot be made or removed.

use std::{io, path::PathBuf};

/// Why shims were not made or removed. What was there before still is, as far as the step had not come to it.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// Somebody else's file is where ours should be.
    #[error("{} is no shim of envd's, and so is not touched", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A directory of the project is a link: a project must not make envd write outside of it.
    #[error("{} is no directory, so no shims are put there", path.display())]
    NoDirectory {
        /// What is there.
        path: PathBuf,
    },
    /// The directory belongs to another project's shims.
    #[error("{} holds the shims of {}", directory.display(), project.display())]
    Taken {
        /// The directory.
        directory: PathBuf,
        /// The other project.
        project: PathBuf,
    },
    /// The directory cannot be written down in a line.
    #[error("{} has a line break in its name, or lies in the directory of another project's shims", directory.display())]
    Unsuitable {
        /// The directory.
        directory: PathBuf,
    },
    /// A step failed.
    #[error("cannot {step} {}", path.display())]
    Step {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl ShimError {
    /// What to do next.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => {
                "move it away, or choose another directory: envd shim install --dir DIR"
            }
            Self::NoDirectory { .. } => "remove it; envd makes the directory",
            Self::Taken { .. } => "choose another directory, or remove those shims there first",
            Self::Unsuitable { .. } => "choose another directory",
            Self::Step { .. } => "the next `envd shim install` carries on",
        }
    }
}

/// Puts the step and its operand to an error of the system's.
pub(super) trait Step<T> {
    fn step(self, step: &'static str, path: &std::path::Path) -> Result<T, ShimError>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &'static str, path: &std::path::Path) -> Result<T, ShimError> {
        self.map_err(|source| ShimError::Step {
            step,
            path: path.to_owned(),
            source,
        })
    }
}
