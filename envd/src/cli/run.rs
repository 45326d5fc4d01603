//! `envd run`

use std::{ffi::OsString, process::ExitCode};

use envd_shims::Exit;

use super::{
    Context, Failure, Kind,
    entering::{Entering, Inside},
    handing_over::{Wanted, run_if_there, start_daemon},
    operations::Operations,
};
use crate::{
    config::Manifest,
    environment::{Caller, Workplace, git::repository_of_worktree, working_directory},
    project::Project,
};

/// Run a command in the project's environment
///
/// The first time this locks, downloads and unpacks; later it takes milliseconds. Inside, the project is at its own path and
/// writable; /tmp, /run and the home directory are private; the rest of this machine is not there. The command's exit code
/// is ours.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd run -- make test\n  envd run --project examples/python -- python3 main.py\n  envd run --no-network --env CI=1 -- npm test"
)]
pub struct Arguments {
    /// The command and its arguments; everything from its first word on
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
    /// Do not use the project's daemon, should it run
    #[arg(long)]
    pub no_daemon: bool,
    /// Start the project's daemon if it does not run
    #[arg(long, hide = true, conflicts_with = "no_daemon")]
    pub start_daemon: bool,
    /// Fail where the environment is not realised yet
    #[arg(long, hide = true)]
    pub ready: bool,
    /// About the inside
    #[command(flatten)]
    pub inside: Inside,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let (inside, command) = (&arguments.inside, &arguments.command);
    if arguments.ready {
        refuse_unrealised(context, operations)?;
    }
    if arguments.start_daemon {
        start_daemon(context, operations)?;
    }
    if !arguments.no_daemon
        && let Some(exit) = run_if_there(inside, context, operations, Wanted::Command(command))?
    {
        return Ok(exit.into());
    }
    let exit = in_project(inside, context, operations, false, |_| Ok(command.clone()))?;
    Ok(exit.into())
}

/// For shims: an editor that looks for a compiler must not begin to download one.
fn refuse_unrealised(context: &Context, operations: &dyn Operations) -> Result<(), Failure> {
    let project = context.project()?;
    let manifest = context.manifest(&project)?;
    match operations.ready(&project, &manifest)? {
        Some(_) => Ok(()),
        None => {
            let place = project.root.display();
            let message = format!("the environment of {place} is not realised");
            let help = format!("run `envd run --project {place} -- true` once");
            Err(Failure::new(Kind::Usage, message).help(help))
        }
    }
}

/// Realises the project's environment and enters it.
pub(super) fn in_project(
    inside: &Inside,
    context: &Context,
    operations: &dyn Operations,
    prompt: bool,
    command: impl FnOnce(&crate::environment::RootFacts) -> Result<Vec<OsString>, Failure>,
) -> Result<Exit, Failure> {
    let project: Project = context.project()?;
    let manifest: Manifest = context.manifest(&project)?;
    let caller = Caller::of_this_process(&context.variables);
    let workplace = Workplace::project(&project.root, &caller.home)?;
    operations.require(&inside.require)?;
    let environment = {
        let progress = context.progress();
        operations.realise(&project, &manifest, &progress)?
    };
    let writable: Vec<_> = repository_of_worktree(&project.root).into_iter().collect();
    let name = project.name();
    Entering {
        context,
        operations,
        inside,
        section: &manifest.environment,
        environment: &environment,
        caller: &caller,
        project: Some(&project.root),
        workplace: &workplace,
        writable: &writable,
        readable: &[],
        directory: &working_directory(&context.directory, &project.root),
        prompt: prompt.then_some(&name),
    }
    .enter(command)
}
