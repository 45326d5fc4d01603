//! `envd schema`

use std::process::ExitCode;

use super::{Context, Failure, Kind};
use crate::config;

/// Print the JSON Schema of envd.toml
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd schema > envd.schema.json   # and in envd.toml: #:schema ./envd.schema.json"
)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let schema = config::schema::schema();
    let mut text =
        serde_json::to_string_pretty(&schema).map_err(|e| Failure::of(Kind::Other, &e))?;
    text.push('\n');
    context.output.raw(&text)?;
    Ok(ExitCode::SUCCESS)
}
