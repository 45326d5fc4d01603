//! `envd agent install`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use envd_agents::install::{Client, Reach, Scope, installation};
use serde::Serialize;

use super::super::{Context, Failure, Kind};
use crate::environment::Caller;

/// Tell an agent's program of envd
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
    /// The program: claude-code, codex, cursor or vscode
    #[arg(value_name = "CLIENT", value_parser = parse_client)]
    pub client: Client,
    /// For all that you do instead of for this project alone
    #[arg(long)]
    pub user: bool,
    /// Print the entry and write nothing
    #[arg(long)]
    pub print: bool,
}

fn parse_client(text: &str) -> Result<Client, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// What was written.
#[derive(Serialize)]
struct Installed<'a> {
    file: &'a Path,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let (scope, envd) = if arguments.user {
        let caller = Caller::of_this_process(&context.variables);
        let program = std::env::current_exe()
            .map_err(|error| Failure::of(Kind::Host, &error).help("where envd is, is not known"))?;
        (Scope::User(caller.home), program)
    } else {
        // The file is for others, too, whose envd is elsewhere.
        let root = context
            .project()
            .map_or_else(|_| context.new_project_root(), |project| project.root);
        (Scope::Project(root), PathBuf::from("envd"))
    };
    let entry = installation(arguments.client, &scope, &Reach::Start { envd });
    if arguments.print {
        context.output.raw(&entry.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cannot = |doing: &str, error: std::io::Error| {
        Failure::of(Kind::Other, &error).help(format!(
            "{} could not be {doing}; --print shows the entry",
            entry.file.display()
        ))
    };
    let existing = match std::fs::read_to_string(&entry.file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(cannot("read", error)),
    };
    let text = entry
        .merged(existing.as_deref())
        .map_err(|error| Failure::of(Kind::Usage, &error))?;
    if let Some(parent) = entry.file.parent() {
        std::fs::create_dir_all(parent).map_err(|error| cannot("made", error))?;
    }
    std::fs::write(&entry.file, text).map_err(|error| cannot("written", error))?;
    let installed = Installed { file: &entry.file };
    context.output.result(&installed, |out, _| {
        writeln!(out, "wrote {}", entry.file.display())
    })?;
    Ok(ExitCode::SUCCESS)
}
