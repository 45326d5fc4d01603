//! `envd agent rm`

use std::process::ExitCode;

use envd_agents::service::{
    EnvironmentId, SnapshotId,
    environment::{EnvironmentDestroy, EnvironmentDestroyed},
};
use serde::Serialize;

use super::{
    super::{Context, Failure},
    connection::{Sessions, Which},
    failure::no_such,
};
use crate::daemon::lending::{RELEASE, SNAPSHOT_DESTROY, SnapshotDestroy};

/// End environments with all that runs in them, and let go of snapshots
///
/// What was changed inside and not applied is lost. When this has ended, nothing of them is left.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Examples\n  envd agent rm try before\n  envd agent rm --all")]
pub struct Arguments {
    /// Environments and snapshots
    #[arg(
        value_name = "WHICH",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub which: Vec<String>,
    /// All there are
    #[arg(long)]
    pub all: bool,
}

/// What is gone.
#[derive(Serialize, Default)]
struct Removed {
    environments: Vec<EnvironmentDestroyed>,
    snapshots: Vec<SnapshotId>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let removed = match arguments.all {
        true => all(context)?,
        false => some(&arguments.which, context)?,
    };
    context.output.result(&removed, |out, _| {
        for one in &removed.environments {
            write!(out, "{} is gone", one.environment)?;
            if one.killed_commands > 0 {
                write!(out, ", {} commands were killed", one.killed_commands)?;
            }
            if one.discarded_changes > 0 {
                write!(out, ", {} changes are lost", one.discarded_changes)?;
            }
            writeln!(out)?;
        }
        for one in &removed.snapshots {
            writeln!(out, "{one} is gone")?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where one of them is not there, none is removed.
fn some(which: &[String], context: &Context) -> Result<Removed, Failure> {
    let Some(sessions) = Sessions::existing(context)? else {
        let first = which.first().map_or("", |first| first);
        return Err(no_such("environment or snapshot", first));
    };
    let mut environments: Vec<EnvironmentId> = Vec::new();
    let mut snapshots: Vec<SnapshotId> = Vec::new();
    for operand in which {
        match sessions.environment_or_snapshot(operand)? {
            Which::Environment(environment) => environments.push(environment),
            Which::Snapshot(snapshot) => snapshots.push(snapshot),
        }
    }
    environments.sort();
    snapshots.sort();
    environments.dedup();
    snapshots.dedup();
    let mut removed = Removed::default();
    for environment in environments {
        removed.environments.push(destroy(&sessions, environment)?);
    }
    for snapshot in snapshots {
        let request = SnapshotDestroy { snapshot };
        let () = sessions.ask_own(SNAPSHOT_DESTROY, &request)?;
        removed.snapshots.push(request.snapshot);
    }
    Ok(removed)
}

fn destroy(
    sessions: &Sessions,
    environment: EnvironmentId,
) -> Result<EnvironmentDestroyed, Failure> {
    let wish = EnvironmentDestroy { environment };
    sessions.ask(|service, call| service.environment_destroy(call, wish))
}

fn all(context: &Context) -> Result<Removed, Failure> {
    let mut removed = Removed::default();
    let Some(sessions) = Sessions::existing(context)? else {
        return Ok(removed);
    };
    let there = sessions.list()?;
    for one in there.environments {
        // One that came to its end by itself meanwhile is as gone.
        removed
            .environments
            .extend(destroy(&sessions, one.environment).ok());
    }
    removed.snapshots = there
        .snapshots
        .into_iter()
        .map(|one| one.snapshot)
        .collect();
    let () = sessions.ask_own(RELEASE, &())?;
    Ok(removed)
}
