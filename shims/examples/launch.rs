//! Runs a plan from a JSON file: `launch PLAN.json`. For measuring the launcher and for its tests.
//!
//! `launch PLAN.json record` runs it under the recorder of ownership and prints the notes.

use std::{error::Error, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprint!("launch: {error}");
            let mut source = error.source();
            while let Some(error) = source {
                eprint!(": {error}");
                source = error.source();
            }
            eprintln!();
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let file = arguments.next().ok_or("usage: launch PLAN.json")?;
    let plan: envd_shims::Plan = serde_json::from_slice(&std::fs::read(file)?)?;
    Ok(envd_shims::run(&plan)?.into())
}
