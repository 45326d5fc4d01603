//! A command of the project, handed over to its daemon.

use std::{collections::BTreeMap, ffi::OsString};

use envd_shims::{Exit, plan::Command};

use super::{Context, Failure, Kind, entering, entering::Inside, operations::Operations};
use crate::{
    daemon::{
        Place,
        client::{Client, ClientError, Starter},
        message::{Ending, Event, Reason},
        order::SHELL,
        running::{self, Job, Outcome},
    },
    environment,
    project::Project,
};

/// How a command that was handed over ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// By itself.
    Exit(Exit),
    /// With its lease.
    Lease(Ending),
}

/// What is handed over, and on whose behalf.
pub(super) struct Handing<'a> {
    pub context: &'a Context,
    pub operations: &'a dyn Operations,
    pub project: &'a Project,
    pub place: &'a Place,
    pub inside: &'a Inside,
    pub wanted: Wanted<'a>,
}

/// What is to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted<'a> {
    /// A program and its arguments.
    Command(&'a [OsString]),
    /// The environment's shell.
    Shell,
}

impl<'a> Handing<'a> {
    /// On behalf of a project, and of no command.
    pub fn of_project(
        context: &'a Context,
        operations: &'a dyn Operations,
        project: &'a Project,
        place: &'a Place,
    ) -> Self {
        Self {
            context,
            operations,
            project,
            place,
            inside: Inside::AS_IT_IS,
            wanted: Wanted::Command(&[]),
        }
    }

    /// Whether the daemon's way is the same as one's own: what it has no word for is done here.
    pub fn is_possible(inside: &Inside) -> bool {
        inside.require.is_empty() && inside.home.is_none() && !inside.print_plan
    }

    /// A connection to the daemon, started if it is not there.
    pub fn connect_or_start(&self) -> Result<Client, Failure> {
        Ok(self.starter().connect()?)
    }

    fn starter(&self) -> Starter<'_> {
        Starter {
            place: self.place,
            project: &self.project.root,
            store: &self.context.settings.store,
            variables: &self.context.variables,
        }
    }

    /// Runs the command. `None` if the daemon cannot, though this process may.
    pub fn run(&self, mut client: Client) -> Result<Option<Ended>, Failure> {
        let extra = entering::variables(&self.inside.variables, self.context)?;
        let command = self.described(&extra);
        let shell = match self.wanted {
            Wanted::Shell => SHELL,
            Wanted::Command(_) => 0,
        };
        let job = Job {
            way: running::way(),
            inside: self.inside.flags() | shell,
            extra: &extra,
            command: &command,
        };
        let output = self.context.output;
        let mut told = |event: &Event| {
            if let Event::Downgrade { message } = event {
                output.warn(message);
            }
        };
        // Realised once and replaced once: who still refuses then has another reason.
        for attempt in 0..3 {
            let refusal = match job.run(&client, &mut told)? {
                Outcome::Exit(exit) => return Ok(Some(Ended::Exit(exit))),
                Outcome::Ended(why) => return Ok(Some(Ended::Lease(why))),
                Outcome::Refused(refusal) => refusal,
            };
            match refusal.kind {
                Reason::Failure(_) => return Err(refusal.into()),
                Reason::NotRealised if attempt < 2 => self.realise()?,
                Reason::OtherVersion if attempt < 2 => match self.replace()? {
                    Some(other) => client = other,
                    None => return Ok(None),
                },
                _ => {
                    tracing::info!("the daemon does not run it: {}", refusal.message);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Realises here, where there may be a terminal to show how far that is.
    pub fn realise(&self) -> Result<(), Failure> {
        let manifest = self.context.manifest(self.project)?;
        let progress = self.context.progress();
        let realised = self
            .operations
            .realise(self.project, &manifest, &progress)
            .map(drop);
        drop(progress);
        realised
    }

    /// A daemon of our own instead of one of another version; `None`, said, where something runs in that.
    fn replace(&self) -> Result<Option<Client>, Failure> {
        match self.starter().connect() {
            Ok(client) => {
                let note = "the project's daemon was of another version and has been replaced";
                self.context.output.note(note);
                Ok(Some(client))
            }
            Err(error @ ClientError::Version(_)) => {
                let warning = format!("{error}: this command runs without it");
                self.context.output.warn(&warning);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The command as its caller has it; what is inside the daemon knows.
    fn described(&self, extra: &[(String, OsString)]) -> Command {
        let variables = self.context.variables.iter();
        let mut variables: BTreeMap<String, OsString> = variables
            .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_owned())))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        // For messages: what it is looked up in.
        let path = extra.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map_or_else(|| environment::PATH.into(), |(_, value)| value.clone());
        variables.insert("PATH".to_owned(), path);
        let (program, arguments) = match self.wanted {
            Wanted::Command([program, arguments @ ..]) => (program.clone(), arguments.to_vec()),
            Wanted::Command([]) => (OsString::new(), Vec::new()),
            // Which one it is the daemon knows.
            Wanted::Shell => ("sh".into(), Vec::new()),
        };
        Command {
            program,
            arguments,
            environment: variables,
            directory: self.context.directory.clone(),
            umask: Some(own_umask()),
            new_session: true,
            terminal: false,
        }
    }
}

/// There is no way to ask for it but to set it.
fn own_umask() -> u32 {
    let umask = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    rustix::process::umask(umask);
    umask.as_raw_mode()
}

/// Runs a command in the daemon if there is one; `None` if it is to be run here.
pub(super) fn run_if_there(
    inside: &Inside,
    context: &Context,
    operations: &dyn Operations,
    wanted: Wanted<'_>,
) -> Result<Option<Exit>, Failure> {
    if !Handing::is_possible(inside) {
        return Ok(None);
    }
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let client = match Client::connect(&place) {
        Ok(Some(client)) => client,
        Ok(None) => return Ok(None),
        // It is for whoever wants the daemon to hear of.
        Err(error) => {
            tracing::info!("{error}");
            return Ok(None);
        }
    };
    let handing = Handing {
        context,
        operations,
        project: &project,
        place: &place,
        inside,
        wanted,
    };
    match handing.run(client)? {
        Some(Ended::Exit(exit)) => Ok(Some(exit)),
        Some(Ended::Lease(_)) => Err(Failure::new(Kind::Other, "the daemon was stopped")),
        None => Ok(None),
    }
}

/// Starts the project's daemon if it is not there. That it cannot be is no reason not to run a command.
pub(super) fn start_daemon(context: &Context, operations: &dyn Operations) -> Result<(), Failure> {
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let handing = Handing::of_project(context, operations, &project, &place);
    if let Err(failure) = handing.connect_or_start() {
        tracing::info!("no daemon: {}", failure.message);
    }
    Ok(())
}
