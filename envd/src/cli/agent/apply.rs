//! `envd agent apply`

use std::process::ExitCode;

use envd_agents::service::changes::ChangesApply;

use super::{
    super::{Context, Failure, Kind, output::plain},
    connection::existing,
    diff::in_project,
};

/// Bring what was changed in an environment back into the project
///
/// Everything that was asked for, or nothing and the reasons: conflicts with what changed in the project meanwhile, and paths
/// that only you should change (hooks, agents' settings, continuous integration). Leave those out by naming the others.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd agent apply try --dry-run\n  envd agent apply try src\n  envd agent apply try --commits-only && git log envd/try\n\nExit codes: 1 when nothing was applied because of conflicts or rules."
)]
pub struct Arguments {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: String,
    /// Only these and what is below them
    #[arg(value_name = "PATH")]
    pub paths: Vec<std::path::PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Bring the commits behind the environment's HEAD, too, as a branch, with the commits of submodules that they record; never
    /// hooks or configuration
    #[arg(long)]
    pub git: bool,
    /// Bring only those commits, and leave the files as they are
    #[arg(long, conflicts_with = "paths")]
    pub commits_only: bool,
    /// Call the branch envd/NAME instead of after the environment
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = existing(context, "environment", &arguments.environment)?;
    let wish = ChangesApply {
        environment: sessions.environment(&arguments.environment)?.environment,
        paths: in_project(&arguments.paths, context)?,
        git: arguments.git || arguments.branch.is_some(),
        commits_only: arguments.commits_only,
        branch: arguments.branch.clone(),
        dry_run: arguments.dry_run,
    };
    let applied = sessions.ask(|service, call| service.changes_apply(call, wish))?;
    context.output.result(&applied, |out, style| {
        let verb = if applied.dry_run {
            "would apply"
        } else {
            "applied"
        };
        for path in &applied.applied {
            let merged = match applied.merged.contains(path) {
                true => " (merged)",
                false => "",
            };
            writeln!(out, "{verb} {}{merged}", plain(path))?;
        }
        let brought = if applied.dry_run {
            "would bring"
        } else {
            "brought"
        };
        for commit in &applied.commits {
            writeln!(out, "{brought} commit {commit}")?;
        }
        if let Some(branch) = &applied.branch {
            writeln!(out, "{brought} the branch {branch}")?;
        }
        for submodule in &applied.submodules {
            let (path, branch) = (plain(&submodule.path), &submodule.branch);
            for commit in &submodule.commits {
                writeln!(out, "{brought} commit {commit} of the submodule {path}")?;
            }
            writeln!(out, "{brought} the branch {branch} of the submodule {path}")?;
        }
        for one in &applied.conflicts {
            writeln!(
                out,
                "{} {}: {}",
                style.error("conflict"),
                plain(&one.path),
                plain(&one.reason)
            )?;
        }
        for one in &applied.refused {
            writeln!(
                out,
                "{} {}: {}",
                style.error("refused"),
                plain(&one.path),
                plain(&one.reason)
            )?;
        }
        Ok(())
    })?;
    let held_up = !applied.conflicts.is_empty() || !applied.refused.is_empty();
    if held_up && applied.applied.is_empty() {
        let message = match applied.dry_run {
            true => "nothing would be applied",
            false => "nothing was applied",
        };
        let failure = Failure::new(Kind::Other, message)
            .help("name the paths to be applied without those above");
        // What JSON says needs no repeating.
        return match context.output.json {
            true => Ok(ExitCode::from(Kind::Other.code())),
            false => Err(failure),
        };
    }
    if !context.output.json && applied.applied.is_empty() && applied.commits.is_empty() {
        context.output.note("nothing was changed");
    }
    Ok(ExitCode::SUCCESS)
}
