//! `envd task`

use std::{ffi::OsString, process::ExitCode};

use envd_shims::Exit;
use envd_store::Digest;
use envd_supervision::{ExitStatus, Name, Signal};

use super::{
    Context, Failure, Kind,
    entering::Inside,
    handing_over::{Handing, Wanted, run_if_there},
    operations::Operations,
    run::in_project,
    up,
};
use crate::{
    config::Manifest,
    daemon::{Place, household::ServicesState},
    tasks::{self, BoxError, Outcome, Plan, Runner, Task, TaskError, Why},
};

/// Run a task of envd.toml, after those that it needs
///
/// A task that names its `inputs` is skipped while neither they nor what it needs have changed since it last succeeded.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd task test\n  envd task build test\n  envd task --force test"
)]
pub struct Arguments {
    /// The tasks; without any, says which there are
    #[arg(value_name = "NAME")]
    pub names: Vec<Name>,
    /// Run them whether or not anything has changed
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let manifest = context.manifest(&project)?;
    if arguments.names.is_empty() {
        return list(context, &manifest);
    }
    let plan = Plan::new(&manifest.tasks, &arguments.names)
        .map_err(|error| Failure::of(Kind::Usage, &error))?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let inside = Inside::default();
    let handing = Handing {
        context,
        operations,
        project: &project,
        place: &place,
        inside: &inside,
        wanted: Wanted::Command(&[]),
    };
    handing.realise()?;
    let services = services(&plan);
    let asks = plan
        .tasks()
        .iter()
        .any(|task| task.section.ports().next().is_some());
    let state = match (&services[..], asks) {
        ([], false) => ServicesState::default(),
        ([], true) => ServicesState::of(
            handing
                .connect_or_start()?
                .ask(crate::daemon::message::Request::Ps)?,
        )?,
        (services, _) => up::up(&handing, services)?,
    };
    let places = place.services(&context.settings.store);
    places.make().map_err(|error| {
        Failure::of(Kind::Store, &error).help(format!("{} cannot be made", places.all.display()))
    })?;
    let lock = std::fs::read(project.lock()).unwrap_or_default();
    let memory = places.tasks();
    let at = tasks::Place {
        project: &project.root,
        lock: Digest::of(&lock),
        memory: &memory,
        force: arguments.force,
    };
    // Wherever one is, they run in the project's directory.
    let context_there = context.at(&project);
    let mut runner = InEnvironment {
        context: &context_there,
        operations,
        state: &state,
        failed: None,
    };
    match tasks::run(&plan, &arguments.names, &at, &mut runner) {
        Ok(outcomes) => {
            let outcomes: Vec<_> = outcomes.into_iter().map(described).collect();
            if context.output.json {
                context.output.result(&outcomes, |_, _| Ok(()))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(TaskError::Failed { task, status }) => {
            context
                .output
                .warn(&format!("the task `{task}` failed: {status}"));
            Ok(match status {
                ExitStatus::Code(code) => code.into(),
                ExitStatus::Signal(signal) => {
                    ExitCode::from(128u8.wrapping_add(signal.number() as u8))
                }
            })
        }
        Err(error) => Err(runner
            .failed
            .take()
            .unwrap_or_else(|| Failure::of(Kind::Other, &error))),
    }
}

fn list(context: &Context, manifest: &Manifest) -> Result<ExitCode, Failure> {
    let names: Vec<&str> = manifest.tasks.keys().map(Name::as_str).collect();
    context.output.result(&names, |out, _| {
        if names.is_empty() {
            return writeln!(out, "envd.toml has no [task.NAME]");
        }
        names.iter().try_for_each(|name| writeln!(out, "{name}"))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The services that must be up for any of the tasks.
fn services(plan: &Plan<'_>) -> Vec<String> {
    let names = plan.services().into_iter();
    names.map(|name| name.as_str().to_owned()).collect()
}

fn described((name, outcome): (&Name, Outcome)) -> serde_json::Value {
    match outcome {
        Outcome::Ran(why) => {
            serde_json::json!({ "task": name.as_str(), "ran": true, "why": why.to_string() })
        }
        Outcome::Skipped => serde_json::json!({ "task": name.as_str(), "ran": false }),
    }
}

/// Runs each task as `envd run` runs a command.
struct InEnvironment<'a> {
    context: &'a Context,
    operations: &'a dyn Operations,
    state: &'a ServicesState,
    /// Why one could not be run.
    failed: Option<Failure>,
}

impl Runner for InEnvironment<'_> {
    fn run(&mut self, task: &Task<'_>, why: &Why) -> Result<ExitStatus, BoxError> {
        self.context
            .output
            .note(&format!("task {}: {why}", task.name));
        let port = |name: &Name| {
            self.state
                .ports
                .get(name.as_str())
                .copied()
                .unwrap_or_default()
        };
        let words = task.section.run.arguments(port);
        let command: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        let variables = task.section.variables.iter();
        let inside = Inside {
            variables: variables
                .map(|(name, value)| format!("{name}={}", value.fill(port)).into())
                .collect(),
            ..Inside::default()
        };
        match self.start(&inside, &command) {
            Ok(exit) => Ok(status(exit)),
            Err(failure) => {
                let message = failure.message.clone();
                self.failed = Some(failure);
                Err(message.into())
            }
        }
    }

    fn skip(&mut self, task: &Task<'_>) {
        self.context
            .output
            .note(&format!("task {}: up to date", task.name));
    }
}

impl InEnvironment<'_> {
    fn start(&self, inside: &Inside, command: &[OsString]) -> Result<Exit, Failure> {
        let (context, operations) = (self.context, self.operations);
        match run_if_there(inside, context, operations, Wanted::Command(command))? {
            Some(exit) => Ok(exit),
            None => in_project(inside, context, operations, false, |_| Ok(command.to_vec())),
        }
    }
}

fn status(exit: Exit) -> ExitStatus {
    match exit {
        Exit::Code(code) => ExitStatus::Code(code),
        Exit::Signal(signal) => Signal::from_number(signal)
            .map_or(ExitStatus::Code(exit.shell_code()), ExitStatus::Signal),
    }
}
