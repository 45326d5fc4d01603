//! Ports: something that listens inside, to be reached from the machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EnvironmentId;

/// Publish a port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortPublish {
    /// The environment.
    pub environment: EnvironmentId,
    /// The port inside, on the environment's own loopback. Nothing has to listen there yet.
    pub port: u16,
    /// The port outside, on 127.0.0.1 of the machine. The default is one that is free; others the policy has to list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<u16>,
}

/// A port that can be reached from the machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PublishedPort {
    /// The port inside.
    pub port: u16,
    /// Where it is outside, for instance `127.0.0.1:41753`.
    pub address: String,
}

/// What was published.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PortPublished {
    /// The environment.
    pub environment: EnvironmentId,
    /// The port, and where it is outside.
    #[serde(flatten)]
    pub published: PublishedPort,
}

/// Publish a port no more. Connections to it end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortWithdraw {
    /// The environment.
    pub environment: EnvironmentId,
    /// The port inside.
    pub port: u16,
}

/// What is published no more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PortWithdrawn {
    /// The environment.
    pub environment: EnvironmentId,
    /// The port, and where it was outside.
    #[serde(flatten)]
    pub withdrawn: PublishedPort,
}
