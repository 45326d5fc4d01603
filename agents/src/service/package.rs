//! Packages: finding them, and giving one more to a live environment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EnvironmentId, environment::Environment};

/// Search the channels for packages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageSearch {
    /// Words that the name or the description must have, or a command that the package must bring.
    pub query: String,
    /// Most packages in the answer.
    #[serde(default = "twenty")]
    pub limit: u32,
}

fn twenty() -> u32 {
    20
}

/// A package that can be had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Package {
    /// Its name, as package_add and environment_create take it.
    pub name: String,
    /// The version that would be taken.
    pub version: String,
    /// The channel it comes from.
    pub channel: String,
    /// What it is, in one line.
    pub summary: String,
}

/// Packages that were found, best first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Packages {
    /// The packages.
    pub packages: Vec<Package>,
    /// Whether there are more than the limit.
    pub more: bool,
}

/// Give a live environment more packages. Its files stay. Nothing may run in it meanwhile.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageAdd {
    /// The environment.
    pub environment: EnvironmentId,
    /// Requirements, for instance `["cmake", "python3@3.11"]`.
    pub packages: Vec<String>,
}

/// What was added.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PackagesAdded {
    /// The packages that are new, with what they need, as `name version`.
    pub added: Vec<String>,
    /// The environment as it is now.
    pub environment: Environment,
}
