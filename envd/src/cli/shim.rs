//! `envd shim`

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use serde::Serialize;

use super::{Context, Failure, Kind, operations::Operations, output::Style};
use crate::{
    daemon::{Place, client::Client},
    environment::{Caller, RootFacts, Workplace},
    project::Project,
    shims::{Installed, ShimError, Shims, editors},
};

/// Make files named like the tools, for editors, hooks and cron
///
/// A shim is a path to a tool of the environment: whatever runs it runs the tool inside, from any directory and with any
/// variables. They follow the lock; nothing is downloaded on the way.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd shim install\n  .envd/bin/python3 --version\n  envd shim vscode >> .vscode/settings.json"
)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do about shims.
#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Make one for each command of the environment, which is realised first if it is not yet
    Install {
        /// Put them there instead of into .envd/bin
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Remove them all, and what else install made
    Remove,
    /// Say what a shim runs
    Explain {
        /// The tool
        tool: OsString,
    },
    /// Print settings for Visual Studio Code
    Vscode,
    /// Print what to paste into JetBrains' editors, and where
    Jetbrains,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    match &arguments.command {
        Command::Install { dir } => install(dir.as_deref(), &project, context, operations)?,
        Command::Remove => remove(&project, context)?,
        Command::Explain { tool } => explain(tool, &project, context, operations)?,
        Command::Vscode => {
            let settings = editors::vscode(&tools(&project)?);
            let mut text = serde_json::to_string_pretty(&settings)
                .map_err(|e| Failure::of(Kind::Other, &e))?;
            text.push('\n');
            context.output.raw(&text)?;
        }
        Command::Jetbrains => {
            let fields = editors::jetbrains(&tools(&project)?);
            context.output.result(&fields, |out, style| {
                for field in &fields {
                    writeln!(out, "{}  {}", style.strong(field.product), field.place)?;
                    writeln!(out, "  {}: {}", field.field, field.value)?;
                }
                Ok(())
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What an install did.
#[derive(Serialize)]
struct Report {
    directory: PathBuf,
    commands: usize,
    made: Vec<String>,
    replaced: Vec<String>,
    removed: Vec<String>,
}

impl Report {
    fn of(installed: &Installed) -> Self {
        let text = |names: &[OsString]| {
            let names = names.iter();
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        };
        Self {
            directory: installed.directory.clone(),
            commands: installed.commands,
            made: text(&installed.plan.make),
            replaced: text(&installed.plan.replace),
            removed: text(&installed.plan.remove),
        }
    }
}

fn install(
    directory: Option<&Path>,
    project: &Project,
    context: &Context,
    operations: &dyn Operations,
) -> Result<(), Failure> {
    let manifest = context.manifest(project)?;
    let caller = Caller::of_this_process(&context.variables);
    // What could never be run needs no shims.
    Workplace::project(&project.root, &caller.home)?;
    let environment = {
        let progress = context.progress();
        operations.realise(project, &manifest, &progress)?
    };
    let commands = commands(&environment.view)?;
    let directory = directory.map(|directory| context.directory.join(directory));
    let envd = own_path()?;
    let installed = Shims::of(&project.root).install(directory.as_deref(), &commands, &envd)?;
    let report = Report::of(&installed);
    context.output.result(&report, |out, style| {
        writeln!(
            out,
            "{}: {} commands, {} new, {} gone",
            style.strong(&report.directory.display().to_string()),
            report.commands,
            report.made.len(),
            report.removed.len()
        )
    })
}

/// The names of the commands that a root offers.
pub fn commands(view: &Path) -> Result<BTreeSet<OsString>, Failure> {
    let commands = RootFacts::of(view).and_then(|root| root.commands());
    let commands = commands.map_err(|e| {
        Failure::of(Kind::Store, &e).help(format!(
            "{} cannot be read; run `envd store verify`",
            view.display()
        ))
    })?;
    Ok(commands.into_keys().collect())
}

/// Where this envd is, for shims to start it when there is no daemon.
pub fn own_path() -> Result<PathBuf, Failure> {
    let unknown = |e: std::io::Error| {
        Failure::of(Kind::Host, &e).help("the shims must know where envd is: start it from a file")
    };
    std::fs::read_link("/proc/self/exe")
        .and_then(std::fs::canonicalize)
        .map_err(unknown)
}

#[derive(Serialize)]
struct Gone {
    directory: PathBuf,
    shims: usize,
}

fn remove(project: &Project, context: &Context) -> Result<(), Failure> {
    let removed = Shims::of(&project.root).remove()?;
    let report: Vec<Gone> = removed
        .into_iter()
        .map(|removed| Gone {
            directory: removed.directory,
            shims: removed.shims,
        })
        .collect();
    context.output.result(&report, |out, _| {
        if report.is_empty() {
            return writeln!(out, "there are no shims");
        }
        for Gone { directory, shims } in &report {
            writeln!(out, "{}: {shims} shims removed", directory.display())?;
        }
        Ok(())
    })
}

/// The paths of the shims that are there, to ask by name.
fn tools(project: &Project) -> Result<impl Fn(&str) -> Option<PathBuf>, Failure> {
    let shims = Shims::of(&project.root);
    if !shims.installed() {
        return Err(no_shims());
    }
    Ok(move |tool: &str| shims.shim_of(OsStr::new(tool)).ok().flatten())
}

fn no_shims() -> Failure {
    Failure::new(Kind::Usage, "this project has no shims").help("`envd shim install` makes them")
}

/// What a shim runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Explanation {
    tool: String,
    project: PathBuf,
    /// Its shim, if there is one.
    shim: Option<PathBuf>,
    /// Whether the environment is realised. What follows is known only then.
    realised: bool,
    /// Its path inside.
    path: Option<PathBuf>,
    /// The file that links there lead to, if there are any.
    file: Option<PathBuf>,
    /// The package that the file is of, with its version.
    package: Option<String>,
    /// Whether the project's daemon runs.
    daemon: bool,
    /// What comes to the same.
    command: String,
}

fn explain(
    tool: &OsStr,
    project: &Project,
    context: &Context,
    operations: &dyn Operations,
) -> Result<(), Failure> {
    let manifest = context.manifest(project)?;
    let shims = Shims::of(&project.root);
    let place = Place::of(&context.settings, context.uid, &project.root);
    let shown = tool.to_string_lossy().into_owned();
    let mut explanation = Explanation {
        shim: shims.shim_of(tool)?,
        realised: false,
        path: None,
        file: None,
        package: None,
        daemon: Client::connect(&place).is_ok_and(|client| client.is_some()),
        command: format!("envd run --project {} -- {shown} …", project.root.display()),
        project: project.root.clone(),
        tool: shown,
    };
    if let Some(ready) = operations.ready(project, &manifest)? {
        explanation.realised = true;
        let view = &ready.environment.view;
        let root = RootFacts::of(view).map_err(|e| Failure::of(Kind::Store, &e))?;
        let commands = root.commands().map_err(|e| Failure::of(Kind::Store, &e))?;
        let Some(path) = commands.get(tool) else {
            return Err(Failure::new(
                Kind::Usage,
                format!("the environment has no command `{}`", explanation.tool),
            )
            .help("`envd search` finds packages, `envd add` adds them"));
        };
        let file = root.resolved(path);
        explanation.package = operations.package_of(project, &file)?;
        explanation.file = (file != *path).then_some(file);
        explanation.path = Some(path.clone());
    }
    context
        .output
        .result(&explanation, |out, style| print(out, style, &explanation))
}

fn print(out: &mut dyn Write, style: Style, it: &Explanation) -> std::io::Result<()> {
    let shown = |path: &PathBuf| path.display().to_string();
    let inside = match (&it.path, &it.file) {
        (Some(path), Some(file)) => format!("{}, which leads to {}", shown(path), shown(file)),
        (Some(path), None) => shown(path),
        (None, _) => "known once the environment is realised".to_owned(),
    };
    let shim = match &it.shim {
        Some(shim) => shown(shim),
        None => style.warning("none; `envd shim install` makes them"),
    };
    let realised = match it.realised {
        true => "yes".to_owned(),
        false => style.warning("no; `envd run -- true` realises it, and a shim never does"),
    };
    let daemon = match it.daemon {
        true => "runs, and is asked",
        false => "does not run; the shim starts it",
    };
    let package = it.package.as_deref();
    for (what, value) in [
        ("project", Some(&*shown(&it.project))),
        ("shim", Some(&*shim)),
        ("inside", Some(&*inside)),
        ("package", package),
        ("realised", Some(&*realised)),
        ("daemon", Some(daemon)),
        ("runs", Some(&*it.command)),
    ] {
        if let Some(value) = value {
            writeln!(out, "{} {value}", style.strong(&format!("{what:8}")))?;
        }
    }
    Ok(())
}

impl From<ShimError> for Failure {
    fn from(error: ShimError) -> Self {
        let kind = match error {
            ShimError::Step { .. } => Kind::Other,
            _ => Kind::Usage,
        };
        Self::of(kind, &error).help(error.help())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_says_what_runs_and_what_stands_in_the_way() {
        let mut it = Explanation {
            tool: "awk".into(),
            project: "/p".into(),
            shim: Some("/p/.envd/bin/awk".into()),
            realised: true,
            path: Some("/usr/bin/awk".into()),
            file: Some("/usr/bin/mawk".into()),
            package: Some("mawk 1.3.4".into()),
            daemon: true,
            command: "envd run --project /p -- awk …".into(),
        };
        let text = |it: &Explanation| {
            let mut out = Vec::new();
            print(&mut out, Style::on(false), it).unwrap();
            String::from_utf8(out).unwrap()
        };
        insta::assert_snapshot!(text(&it), @"
        project  /p
        shim     /p/.envd/bin/awk
        inside   /usr/bin/awk, which leads to /usr/bin/mawk
        package  mawk 1.3.4
        realised yes
        daemon   runs, and is asked
        runs     envd run --project /p -- awk …
        ");
        it.shim = None;
        it.realised = false;
        it.path = None;
        it.package = None;
        it.daemon = false;
        insta::assert_snapshot!(text(&it), @"
        project  /p
        shim     none; `envd shim install` makes them
        inside   known once the environment is realised
        realised no; `envd run -- true` realises it, and a shim never does
        daemon   does not run; the shim starts it
        runs     envd run --project /p -- awk …
        ");
    }
}
