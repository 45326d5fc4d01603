//! `envd ps`

use std::process::ExitCode;

use super::{Context, Failure, output::plain};
use crate::daemon::{Place, client::Client, household::ServicesState, message::Request};

/// Say how the project's services are
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let state = match Client::connect(&place)? {
        Some(client) => ServicesState::of(client.ask(Request::Ps)?)?,
        None => ServicesState::default(),
    };
    print(context, &state)
}

/// Prints how services are.
pub(super) fn print(context: &Context, state: &ServicesState) -> Result<ExitCode, Failure> {
    context.output.result(state, |out, style| {
        if state.services.is_empty() {
            return writeln!(out, "no service was started");
        }
        let names = state.services.iter().map(|service| service.name.len());
        let width = names.max().unwrap_or_default();
        for service in &state.services {
            let shown = match &*service.state {
                "ready" | "done" => style.good(&service.state),
                "failed" => style.error(&service.state),
                other => other.to_owned(),
            };
            let pid = service.pid.map(|pid| format!(" (process {pid})"));
            write!(
                out,
                "{:width$}  {shown}{} for {:.0} s",
                service.name,
                pid.unwrap_or_default(),
                service.seconds
            )?;
            if let Some(port) = state.ports.get(&service.name) {
                write!(out, ", port {port}")?;
            }
            writeln!(out, ": {}", plain(&service.reason))?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
