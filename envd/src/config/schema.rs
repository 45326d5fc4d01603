//! The shape of `envd.toml` as a JSON Schema, for editors: `envd schema`. A test holds it to what [`super::Manifest`] accepts.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, generate::SchemaSettings};

/// A project's environment, as envd makes it.
#[derive(JsonSchema)]
#[schemars(rename = "envd.toml", deny_unknown_fields)]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct Document {
    /// What the environment is made of, and how it is entered.
    env: EnvironmentTable,
}

/// What the environment is made of, and how it is entered.
#[derive(JsonSchema)]
#[schemars(rename = "env", deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct EnvironmentTable {
    /// Where packages come from, in order of preference: PROVIDER:SUITE, or PROVIDER:SUITE@SNAPSHOT.
    #[schemars(
        default = "default_channels",
        length(min = 1),
        inner(regex(pattern = r"^debian:[a-z][a-z0-9.-]*(@[0-9]{8}T[0-9]{6}Z)?$"))
    )]
    channels: Vec<String>,
    /// Packages: NAME, NAME@CONSTRAINT, NAME+recommends.
    #[schemars(default, inner(regex(pattern = r"^[^\s@]\S*$")))]
    packages: Vec<String>,
    /// Environment variables inside.
    #[schemars(default)]
    vars: BTreeMap<String, String>,
    /// Whether the packages that Debian calls essential are in the environment, asked for or not.
    #[schemars(default = "yes")]
    essential: bool,
    /// Suites whose index is accepted when locking though it has expired; true for all.
    #[schemars(default)]
    accept_expired: AcceptExpired,
    /// What $HOME is inside.
    #[schemars(default)]
    home: Home,
}

/// Suites whose index is accepted when locking though it has expired; true for all.
#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(untagged)]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum AcceptExpired {
    /// All, or none.
    Every(bool),
    /// These.
    Suites(Vec<String>),
}

impl Default for AcceptExpired {
    fn default() -> Self {
        Self::Every(false)
    }
}

/// What $HOME is inside.
#[derive(JsonSchema, serde::Serialize, Default)]
#[schemars(inline)]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum Home {
    /// A fresh directory with the tool caches that persist in the store.
    #[default]
    Private,
    /// The caller's own, readable; what is written is gone at the end.
    Host,
    /// A fresh directory and nothing else.
    Empty,
}

fn default_channels() -> Vec<String> {
    vec![super::manifest::DEFAULT_CHANNEL.to_owned()]
}

fn yes() -> bool {
    true
}

/// The schema.
pub fn schema() -> Schema {
    SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Document>()
}
