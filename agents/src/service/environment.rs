//! Environments: what is asked for, and what was lent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EnvironmentId, SnapshotId, port::PublishedPort};

/// Where an environment's tools come from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The project's own lock: exactly the tools that its people use.
    #[default]
    Project,
    /// These packages, for instance `["rustc@>=1.85", "gcc"]`, resolved together.
    Packages(Vec<String>),
    /// No tools at all.
    Empty,
}

/// What an environment may reach over the network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing but its own loopback.
    #[default]
    None,
    /// Only these host names, for instance `["pypi.org", "*.crates.io", "example.org:8443"]`. The port is 443 unless stated.
    Allow(Vec<String>),
    /// Whatever the machine can reach.
    Host,
}

/// Limits of an environment. What is left out is as the policy says; nothing here can loosen the policy.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most memory of all processes together, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Most processes and threads at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Most processor time at a time, in processors; `1.5` is one and a half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processors: Option<f64>,
    /// Most bytes on the machine's disk, of all environments of the same project together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

/// Ask for an environment.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentCreate {
    /// Where its tools come from: "project" (default), {"packages": [...]} or "empty".
    #[serde(default)]
    pub from: Source,
    /// Directory on the machine of the project whose files are to be seen inside, at the same path. The default is the
    /// project in which the server runs. Inside they can be changed freely; outside nothing changes before changes_apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// A name for people, shown in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seconds until it is destroyed on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// What it may reach over the network: "none", {"allow": [...]} or "host". The default is the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Limits of memory, processes, processor time and disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// A lent environment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Its handle, for every other call.
    pub environment: EnvironmentId,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where its tools come from.
    pub from: Source,
    /// Digest of the composed root, the same on every machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Directory in which commands start and relative paths begin.
    pub directory: String,
    /// What it may reach over the network.
    pub network: Network,
    /// Limits that hold.
    pub limits: Limits,
    /// The environment it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<EnvironmentId>,
    /// Seconds until it is destroyed on its own; absent: with its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// Commands that run in it now.
    pub running_commands: u64,
    /// Ports inside that can be reached from the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// Names of secrets that commands may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// What this machine cannot enforce, said rather than silently dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// List what this owner was lent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentList {}

/// What this owner was lent, oldest first.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Environments {
    /// The environments.
    pub environments: Vec<Environment>,
    /// Snapshots that were taken and are still kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Snapshot>,
}

/// Destroy an environment: its processes, its files, its kept outputs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentDestroy {
    /// The environment.
    pub environment: EnvironmentId,
}

/// What a destroyed environment took with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentDestroyed {
    /// The environment that was.
    pub environment: EnvironmentId,
    /// Commands that were still running and were killed.
    pub killed_commands: u64,
    /// Changed paths that were never applied and are lost.
    pub discarded_changes: u64,
}

/// Fork an environment: copies that share everything until they change it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentFork {
    /// The environment to fork. It goes on as it is.
    pub environment: EnvironmentId,
    /// How many forks, 1 unless stated.
    #[serde(default = "one")]
    pub count: u32,
    /// A name for people; several forks get a number behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seconds until the forks are destroyed on their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

fn one() -> u32 {
    1
}

/// Freeze an environment's files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSnapshot {
    /// The environment whose files are to be kept.
    pub environment: EnvironmentId,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Frozen files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Its handle, for environment_restore.
    pub snapshot: SnapshotId,
    /// Whose files these are.
    pub environment: EnvironmentId,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Changed paths in it.
    pub changes: u64,
}

/// Put an environment's files back as they were in a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentRestore {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whether a new environment is to be made from it. Otherwise the snapshot's own environment is put back: its running
    /// commands are killed and its later changes lost.
    #[serde(default)]
    pub as_new: bool,
    /// A name for people for the new environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_for_is_the_project_under_the_policy() {
        let request: EnvironmentCreate = serde_json::from_str("{}").expect("all is optional");
        assert_eq!(request, EnvironmentCreate::default());
        assert_eq!((request.from, request.network), (Source::Project, None));
    }

    #[test]
    fn an_empty_list_of_hosts_is_not_the_same_as_none_given() {
        let request: EnvironmentCreate =
            serde_json::from_str(r#"{"network": {"allow": []}}"#).expect("well-formed");
        assert_eq!(request.network, Some(Network::Allow(Vec::new())));
    }
}
