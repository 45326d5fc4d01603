//! What a task's result depends on, as digests.

use envd_store::Digest;

use super::Task;
use crate::{config::CommandLine, realise::key::KeyHasher};

/// What a task's result depends on. Two runs with the same record would do the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// What `envd.toml` says of it.
    pub definition: Digest,
    /// The lock of the environment.
    pub lock: Digest,
    /// The tasks that it needs.
    pub needs: Digest,
    /// Its inputs.
    pub inputs: Digest,
}

impl Record {
    /// The key of the task.
    pub fn key(&self) -> Digest {
        let mut hasher = KeyHasher::new("envd-task 1");
        for part in self.parts() {
            hasher.word(part.as_bytes());
        }
        hasher.finish()
    }

    pub fn parts(&self) -> [Digest; 4] {
        [self.definition, self.lock, self.needs, self.inputs]
    }
}

/// The digest of what `envd.toml` says of a task. Ports are names here: their numbers do not outlive a daemon.
pub(super) fn definition(task: &Task<'_>) -> Digest {
    let section = task.section;
    let mut hasher = KeyHasher::new("envd-task-definition 1");
    hasher.word(match section.run {
        CommandLine::Shell(_) => b"shell",
        CommandLine::Exec(_) => b"exec",
    });
    let mut list = |words: Vec<&str>| {
        hasher.word(&(words.len() as u64).to_le_bytes());
        for word in words {
            hasher.word(word.as_bytes());
        }
    };
    list(section.run.as_written());
    let variables = section.variables.iter();
    list(
        variables
            .flat_map(|(name, value)| [name.as_str(), value.as_written()])
            .collect(),
    );
    let patterns: Vec<String> = section
        .inputs
        .iter()
        .flatten()
        .map(|pattern| pattern.get_ref().to_string())
        .collect();
    list(patterns.iter().map(String::as_str).collect());
    list(section.outputs.iter().map(String::as_str).collect());
    hasher.finish()
}

/// The digest of the keys of the tasks that one needs, with their names.
pub(super) fn needs<'a>(keys: impl Iterator<Item = (&'a str, Digest)>) -> Digest {
    let mut hasher = KeyHasher::new("envd-task-needs 1");
    for (name, key) in keys {
        hasher.word(name.as_bytes());
        hasher.word(key.as_bytes());
    }
    hasher.finish()
}
