//! `changes PROJECT UPPER...`: prints what differs between a project and the upper directories of an overlay over it, the topmost
//! first, as a unified diff; how long each part took goes to standard error. For measuring.

use std::{error::Error, process::ExitCode, time::Instant};

use envd_agents::changes::{Layers, Rendering, Scope};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("changes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let project = arguments.next().ok_or("usage: changes PROJECT UPPER...")?;
    let start = Instant::now();
    let layers = Layers::open(arguments, project)?;
    let changes = layers.changes(&Scope::default())?;
    let listed = start.elapsed();
    let rendering = Rendering {
        bytes: 1 << 30,
        ..Rendering::default()
    };
    let text = layers.report(&changes, &rendering).unified();
    let shown = start.elapsed();
    print!("{text}");
    let count = changes.entries.len();
    eprintln!("{count} changes: listed after {listed:?}, with lines after {shown:?}");
    Ok(())
}
