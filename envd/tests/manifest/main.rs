//! `envd.toml` as people get it wrong, and as editors are told it is.

mod errors;
mod schema;
mod services;
mod tasks;

use envd::config::{ConfigError, Manifest, Source};

fn parse(text: &str) -> Result<Manifest, ConfigError> {
    Manifest::parse(Source {
        path: "envd.toml".into(),
        text: text.into(),
    })
}
