//! `envd down`

use std::process::ExitCode;

use super::{Context, Failure, Kind};
use crate::daemon::{Place, client::Client, message::Request};

/// Stop the project's services
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Examples\n  envd down\n  envd down web\n  envd down --clean")]
pub struct Arguments {
    /// Only these, and what needs them
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Then remove all that they have kept ($ENVD_STATE) and written, too
    #[arg(long, conflicts_with = "services")]
    pub clean: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let mut slow = serde_json::json!({ "slow": [] });
    if let Some(client) = Client::connect(&place)? {
        let services = arguments.services.clone();
        slow = client.ask(Request::Down { services })?;
        let each = slow.get("slow").and_then(|slow| slow.as_array());
        for slow in each.into_iter().flatten() {
            let text = |key: &str| {
                slow.get(key)
                    .and_then(|text| text.as_str())
                    .unwrap_or_default()
            };
            let warning = format!("{} {}", text("service"), text("reason"));
            context.output.warn(&warning);
        }
    }
    if arguments.clean {
        let all = place.services(&context.settings.store).all;
        match std::fs::remove_dir_all(&all) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::of(Kind::Store, &error)
                    .help(format!("{} could not be removed", all.display())));
            }
            _ => {}
        }
    }
    context.output.result(&slow, |_, _| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}
