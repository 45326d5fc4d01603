//! `envd agent diff`

use std::process::ExitCode;

use serde_json::Value;

use super::{
    super::{Context, Failure, Kind, output::Style},
    connection::existing,
};
use crate::{
    agents::ChangesReport,
    daemon::lending::{CHANGES_REPORT, Reported},
};

/// Show what was changed in an environment's copy of the project
///
/// As a unified diff, with control characters made visible; with --json file by file and line by line.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd agent diff try\n  envd agent diff try src Makefile\n  envd agent diff try --stat"
)]
pub struct Arguments {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: String,
    /// Only these and what is below them
    #[arg(value_name = "PATH")]
    pub paths: Vec<std::path::PathBuf>,
    /// Only which files, and how many lines
    #[arg(long)]
    pub stat: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "environment", &arguments.environment)?;
    let environment = sessions.environment(&arguments.environment)?.environment;
    let request = ChangesReport {
        environment,
        paths: in_project(&arguments.paths, context)?,
    };
    let reported: Reported = sessions.ask_own(CHANGES_REPORT, &request)?;
    context.output.result(&reported.report, |out, style| {
        if arguments.stat {
            return stat(out, &reported.report);
        }
        for line in reported.unified.split_inclusive('\n') {
            out.write_all(coloured(line, style).as_bytes())?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn coloured(line: &str, style: Style) -> String {
    let (text, end) = match line.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (line, ""),
    };
    let shown = match text.as_bytes() {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'd', b'i', b'f', b'f', ..] => {
            style.strong(text)
        }
        [b'+', ..] => style.good(text),
        [b'-', ..] => style.error(text),
        [b'@' | b'#', ..] => style.faint(text),
        _ => return line.to_owned(),
    };
    format!("{shown}{end}")
}

/// One line a file: what happened to it, and how many lines came and went.
fn stat(out: &mut dyn std::io::Write, report: &Value) -> std::io::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for file in report["files"].as_array().into_iter().flatten() {
        let change = text(&file["change"]);
        let lines = match file["binary"] == true {
            true => "binary".to_owned(),
            false => format!("+{} -{}", file["added_lines"], file["deleted_lines"]),
        };
        writeln!(out, "{change:<12} {lines:<12} {}", text(&file["path"]))?;
    }
    let files = report["files"].as_array().map_or(0, Vec::len);
    writeln!(
        out,
        "{files} changed, +{} -{}",
        report["added_lines"], report["deleted_lines"]
    )
}

/// Paths as people give them, from where they are, as the service takes them, from the project's directory.
pub(super) fn in_project(
    paths: &[std::path::PathBuf],
    context: &Context,
) -> Result<Vec<String>, Failure> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let root = context.project()?.root;
    let here = match context.directory.starts_with(&root) {
        true => &context.directory,
        false => &root,
    };
    let one = |path: &std::path::PathBuf| {
        let mut whole = std::path::PathBuf::new();
        for part in here.join(path).components() {
            match part {
                std::path::Component::ParentDir => drop(whole.pop()),
                std::path::Component::CurDir => {}
                part => whole.push(part),
            }
        }
        let relative = whole
            .strip_prefix(&root)
            .ok()
            .and_then(|path| path.to_str());
        match relative {
            Some("") => Ok(".".to_owned()),
            Some(relative) => Ok(relative.to_owned()),
            None => {
                let message = format!("{} is not in the project", path.display());
                Err(Failure::new(Kind::Usage, message)
                    .help(format!("name paths below {}", root.display())))
            }
        }
    };
    paths.iter().map(one).collect()
}
