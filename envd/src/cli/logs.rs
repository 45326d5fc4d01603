//! `envd logs`

use std::process::ExitCode;

use serde_json::json;

use super::{Context, Failure, Kind, output::plain};
use crate::{
    daemon::{
        Place,
        client::{Client, ClientError},
        message::{Event, Reason, Request},
    },
    services::{LogReader, Origin},
};

/// Print what the project's services have written
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Examples\n  envd logs db\n  envd logs -f --lines 10")]
pub struct Arguments {
    /// Only of these
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Go on with what they write from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many of the last lines, of each
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub lines: Option<usize>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let manifest = context.manifest(&project)?;
    let known: Vec<_> = manifest.services.keys().cloned().collect();
    if let Some(unknown) = arguments
        .services
        .iter()
        .find(|name| !known.iter().any(|known| known.as_str() == *name))
    {
        let names: Vec<_> = known.iter().map(|name| name.as_str()).collect();
        return Err(Failure::new(
            Kind::Usage,
            format!("there is no service `{unknown}` in envd.toml"),
        )
        .help(match &names[..] {
            [] => "a section [service.NAME] describes one".to_owned(),
            names => format!("there are {}", names.join(", ")),
        }));
    }
    let printer = Printer {
        context,
        named: arguments.services.len() != 1,
    };
    if arguments.follow
        && let Some(client) = Client::connect(&place)?
    {
        return follow(arguments, &client, &printer);
    }
    let logs = place.services(&context.settings.store).directories.logs;
    for name in known {
        let wanted = arguments
            .services
            .iter()
            .any(|wanted| wanted == name.as_str());
        if !wanted && !arguments.services.is_empty() {
            continue;
        }
        let mut reader = LogReader::new(&logs, &name);
        let failed = |error: std::io::Error| {
            Failure::of(Kind::Store, &error).help(format!(
                "the log of {name} in {} cannot be read",
                logs.display()
            ))
        };
        let last = match arguments.lines {
            Some(count) => reader.skip_to_last(count).map_err(failed)?,
            None => Vec::new(),
        };
        let mut last = last.into_iter();
        while let Some(line) = match last.next() {
            Some(line) => Some(line),
            None => reader.next_line().map_err(failed)?,
        } {
            let envd = line.origin == Origin::Envd;
            let text = String::from_utf8_lossy(&line.text);
            printer.print(name.as_str(), &line.time, envd, &text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn follow(
    arguments: &Arguments,
    client: &Client,
    printer: &Printer<'_>,
) -> Result<ExitCode, Failure> {
    let request = Request::Follow {
        services: arguments.services.clone(),
        lines: arguments.lines.unwrap_or(usize::MAX),
    };
    let mut printed = Ok(());
    let answer = client.ask_and_hear(request, &mut |event| {
        if let (
            Event::Line {
                service,
                time,
                envd,
                text,
            },
            Ok(()),
        ) = (event, &printed)
        {
            printed = printer.print(service, time, *envd, text);
            if printed.is_err() {
                // Nobody reads it: the daemon sees that we hang up.
                client.hang_up();
            }
        }
    });
    printed?;
    match answer {
        Ok(_) | Err(ClientError::Ended) => Ok(ExitCode::SUCCESS),
        Err(ClientError::Refused(refusal)) if refusal.kind == Reason::Gone => {
            printer.context.output.note(&refusal.message);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error.into()),
    }
}

struct Printer<'c> {
    context: &'c Context,
    /// Whether each line says whose it is.
    named: bool,
}

impl Printer<'_> {
    fn print(&self, service: &str, time: &str, envd: bool, text: &str) -> Result<(), Failure> {
        let output = self.context.output;
        if output.json {
            let line = json!({ "service": service, "time": time, "envd": envd, "text": text });
            return output.raw(&format!("{line}\n"));
        }
        let name = match self.named {
            true => format!("{service} "),
            false => String::new(),
        };
        let mark = if envd { '*' } else { '|' };
        output.raw(&format!("{name}{time} {mark} {}\n", plain(text)))
    }
}
