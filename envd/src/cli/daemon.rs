//! `envd daemon`

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::Subcommand;
use nix::unistd::{dup2_stderr, dup2_stdout};

use super::{
    Context, Failure, Kind,
    handing_over::Handing,
    operations::{Operations, Ready},
};
use crate::{
    agents::{Grants, Lender},
    config::Manifest,
    daemon::{
        Place, Recipes, Source,
        client::{Client, READY},
        household::Household,
        lending::Lending,
        maker::Launching,
        message::{Refusal, Request},
        place,
        server::{Daemon, Identity, Status, Use},
        serving::{self, Held, ServeError},
    },
    project::Project,
};

/// Look after the daemon that keeps the project's environments ready
///
/// `up`, `lease` and the shims start it; `run` uses it when it is there. It ends when nobody has used it for ten minutes
/// (ENVD_DAEMON_IDLE), and everything it holds ends with it.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with the daemon.
#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Realise the environment, start the daemon if it does not run, and have an environment ready
    Start,
    /// Say whether it runs, and what runs in it
    Status,
    /// End it and everything that runs in it
    Stop,
    /// Print what it said last
    Logs,
    /// Be it
    #[command(hide = true)]
    Serve,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    match arguments.command {
        Command::Start => start(context, operations, &project, &place),
        Command::Status => status(context, &project, &place),
        Command::Stop => stop(context, &project, &place),
        Command::Logs => logs(context, &project, &place),
        // Taken before: it needs operations that are its own.
        Command::Serve => Ok(ExitCode::FAILURE),
    }
}

fn start(
    context: &Context,
    operations: &dyn Operations,
    project: &Project,
    place: &Place,
) -> Result<ExitCode, Failure> {
    let handing = Handing::of_project(context, operations, project, place);
    handing.realise()?;
    let client = handing.connect_or_start()?;
    client.ask(Request::Warm)?;
    print_status(context, &client.status()?)
}

fn status(context: &Context, project: &Project, place: &Place) -> Result<ExitCode, Failure> {
    match Client::connect(place)? {
        Some(client) => print_status(context, &client.status()?),
        None => {
            context.output.result(&serde_json::Value::Null, |out, _| {
                writeln!(out, "no daemon runs for {}", project.root.display())
            })?;
            Ok(ExitCode::from(Kind::Other.code()))
        }
    }
}

fn print_status(context: &Context, status: &Status) -> Result<ExitCode, Failure> {
    context.output.result(status, |out, style| {
        let identity = &status.identity;
        writeln!(
            out,
            "{} {} (envd {}, process {}, for {} s)",
            style.strong("daemon"),
            identity.project,
            identity.version,
            identity.pid,
            status.seconds
        )?;
        let count = |wanted| {
            let environments = status.environments.iter();
            environments.filter(|one| one.r#use == wanted).count()
        };
        writeln!(
            out,
            "{} clients; environments: {} with a command, {} opened, {} ready, {} lent (`envd agent ls`)",
            status.clients,
            count(Use::Run),
            count(Use::Open),
            count(Use::Spare),
            status.lent
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn stop(context: &Context, project: &Project, place: &Place) -> Result<ExitCode, Failure> {
    match Client::connect(place)? {
        Some(client) => {
            client.stop(false)?;
            context
                .output
                .note("the daemon and all that ran in it have ended");
        }
        None => {
            let note = format!("no daemon runs for {}", project.root.display());
            context.output.note(&note);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn logs(context: &Context, project: &Project, place: &Place) -> Result<ExitCode, Failure> {
    let path = place.log();
    match std::fs::read(&path) {
        Ok(bytes) => context.output.raw(&String::from_utf8_lossy(&bytes))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let note = format!(
                "no daemon runs for {}, and the last one ended in order",
                project.root.display()
            );
            context.output.note(&note);
        }
        Err(error) => {
            return Err(
                Failure::of(Kind::Other, &error).help(format!("{} cannot be read", path.display()))
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Is the daemon, until it ends. Whoever started it reads on standard output whether it can be reached, or why not.
pub fn serve(context: &Context, operations: Box<dyn Operations>) -> Result<ExitCode, Failure> {
    match prepare(context, operations) {
        Ok(prepared) => {
            let mut out = std::io::stdout();
            // Nobody has to wait for it.
            let _ = out.write_all(READY.as_bytes()).and_then(|()| out.flush());
            if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
                let _ = dup2_stdout(&null);
                let _ = dup2_stderr(&null);
            }
            // It stays, and much of what has run until here does not run again.
            let _ = envd_shims::let_go_of_code();
            prepared.serve()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            let refusal = Refusal::from(failure.clone());
            if let Ok(text) = serde_json::to_string(&refusal) {
                let _ = std::io::stdout().write_all(text.as_bytes());
            }
            Err(failure)
        }
    }
}

struct Prepared {
    held: Held,
    daemon: std::rc::Rc<Daemon>,
    listener: std::os::fd::OwnedFd,
}

impl Prepared {
    fn serve(self) -> Result<(), Failure> {
        tracing::info!("serving {}", self.daemon.identity.project);
        let served = self.held.serve(&self.daemon, self.listener);
        tracing::info!("ended");
        Ok(served?)
    }
}

fn prepare(context: &Context, operations: Box<dyn Operations>) -> Result<Prepared, Failure> {
    // A leader of a process group cannot have a session of its own, and needs none where somebody started it by hand.
    let _ = rustix::process::setsid();
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let places = place.services(&context.settings.store);
    let held = Held::take(place)?;
    held.log(context.settings.log.as_deref())?;
    let launching = Launching::start(&context.settings.store)?;
    let limit = serving::raise_descriptor_limit();
    let identity = Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: place::build(),
        pid: std::process::id(),
        uid: context.uid,
        project: project.root.display().to_string(),
        store: context.settings.store.display().to_string(),
    };
    let listener = held.listen()?;
    let root = project.root.clone();
    let own = context.at(&project);
    let source = Realised {
        operations,
        project,
    };
    let daemon = Daemon::new(
        identity,
        Recipes::new(&root, Box::new(source)),
        Household::new(places, &root),
        Lending::new(move || {
            let lender = Lender::new(&own, Grants::of_person(&own)?)?;
            limit.give(lender.launcher());
            Ok(lender)
        }),
        context.variables.clone(),
        Box::new(launching),
        Duration::from_secs(context.settings.daemon_idle),
    );
    Ok(Prepared {
        held,
        daemon,
        listener,
    })
}

/// The project as the commands know it.
struct Realised {
    operations: Box<dyn Operations>,
    project: Project,
}

impl Source for Realised {
    fn ready(&self) -> Result<Option<(Ready, Manifest)>, Failure> {
        let manifest = Manifest::load(&self.project.manifest())?;
        let ready = self.operations.ready(&self.project, &manifest)?;
        Ok(ready.map(|ready| (ready, manifest)))
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match &error {
            ServeError::Place(place) => Self::of(Kind::Host, place).help(place.help()),
            _ => Self::of(Kind::Host, &error),
        }
    }
}
