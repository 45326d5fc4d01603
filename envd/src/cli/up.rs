//! `envd up`

use std::process::ExitCode;

use super::{Context, Failure, handing_over::Handing, operations::Operations, ps};
use crate::daemon::{
    Place,
    household::ServicesState,
    message::{Event, Request},
};

/// Start the project's services and wait until they are ready
///
/// They run in an environment of their own, looked after by the project's daemon, until `envd down`. Services that they need
/// are started before them.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Examples\n  envd up\n  envd up db && envd run -- ./migrate")]
pub struct Arguments {
    /// Only these, and what they need
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let handing = Handing::of_project(context, operations, &project, &place);
    handing.realise()?;
    let state = up(&handing, &arguments.services)?;
    ps::print(context, &state)
}

/// Has the daemon start services, and says meanwhile what becomes of them.
pub(super) fn up(handing: &Handing<'_>, services: &[String]) -> Result<ServicesState, Failure> {
    let output = handing.context.output;
    let request = Request::Up {
        services: services.to_vec(),
    };
    let client = handing.connect_or_start()?;
    let answer = client.ask_and_hear(request, &mut |event| {
        if let Event::Service {
            service,
            state,
            reason,
        } = event
        {
            output.note(&format!("{service} is {state}: {reason}"));
        }
    })?;
    let state = ServicesState::of(answer)?;
    if state.stale {
        output.warn(
            "envd.toml or envd.lock has changed since the services were started; `envd down` and `envd up` start them anew",
        );
    }
    Ok(state)
}
