//! `envd search`

use std::{io::Write, process::ExitCode};

use serde::Serialize;

use super::{
    Context, Failure,
    operations::Operations,
    output::{Style, plain},
};
use crate::{config::EnvironmentSection, provider::Channel};

/// Find packages by name and description
///
/// Looks through the project's channels, or Debian's current stable where there is no project. Every word has to match.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd search json\n  envd search python yaml --limit 5\n  envd search gcc --channel debian:sid"
)]
pub struct Arguments {
    /// Words to look for
    #[arg(required = true, value_name = "WORD")]
    pub words: Vec<String>,
    /// Print so many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Look through this channel instead (may be given several times)
    #[arg(long = "channel", value_name = "CHANNEL")]
    pub channels: Vec<Channel>,
}

/// What to look for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// All of these.
    pub words: Vec<String>,
    /// In these, the first preferred.
    pub channels: Vec<Channel>,
    /// So many at most.
    pub limit: usize,
}

/// A package that matches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Hit {
    /// Its name.
    pub name: String,
    /// One line about it.
    pub description: String,
    /// Where it is to be had, in the order of the channels. Never empty.
    pub versions: Vec<Offer>,
}

/// A version in a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Offer {
    /// The channel.
    pub channel: Channel,
    /// The version.
    pub version: String,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let channels = if arguments.channels.is_empty() {
        let section = match context.project_if_any()? {
            Some((_, manifest)) => manifest.environment,
            None => EnvironmentSection::one_off(Vec::new()),
        };
        section
            .channels
            .into_iter()
            .map(|c| c.into_inner())
            .collect()
    } else {
        arguments.channels.clone()
    };
    let request = Request {
        words: arguments.words.clone(),
        channels,
        limit: arguments.limit,
    };
    let hits = operations.search(&request, &context.progress())?;
    context
        .output
        .result(&hits, |out, style| print(out, style, &hits))?;
    if hits.is_empty() {
        context
            .output
            .note(&format!("nothing matches {}", arguments.words.join(" ")));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut dyn Write, style: Style, hits: &[Hit]) -> std::io::Result<()> {
    for hit in hits {
        let versions: Vec<String> = hit
            .versions
            .iter()
            .map(|offer| format!("{} ({})", offer.version, offer.channel.suite))
            .collect();
        writeln!(
            out,
            "{}  {}",
            style.strong(&hit.name),
            style.faint(&versions.join(", "))
        )?;
        writeln!(out, "    {}", plain(&hit.description))?;
    }
    Ok(())
}
