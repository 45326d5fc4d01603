//! Runs a plan from a JSON file: `launch PLAN.json`. For measuring the launcher and for its tests.
//!
//! `launch probe` prints what this host can do; `launch PLAN.json record` runs it under the recorder of ownership and prints the notes.

use std::{error::Error, os::unix::fs::MetadataExt, path::Path, process::ExitCode};

use envd_shims::{OwnershipNote, Plan};

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
    let file = arguments.next().ok_or("usage: launch PLAN.json [record]")?;
    if file == "probe" {
        for row in envd_shims::probe::probe()? {
            println!("{}", serde_json::to_string(&row)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let plan: Plan = serde_json::from_slice(&std::fs::read(file)?)?;
    if arguments.next().is_none() {
        return Ok(envd_shims::run(&plan, &mut |downgrade| eprintln!("{downgrade}"))?.into());
    }
    let mut lost = 0;
    let mut inspect = |root: &Path, notes: &[OwnershipNote]| {
        for note in notes {
            let path = root.join(note.path.strip_prefix("/").unwrap_or(&note.path));
            let mut mode = "gone".to_owned();
            if let Ok(found) = path.symlink_metadata() {
                mode = format!("{:o}", found.mode());
                lost += usize::from((found.dev(), found.ino()) != (note.device, note.inode));
            }
            println!(
                "{} {mode} {:?} {:?} {:?} {:?}",
                note.path.display(),
                note.uid,
                note.gid,
                note.capability,
                note.node
            );
        }
        Ok(())
    };
    let recorded = envd_shims::run_recorded(&plan, &mut inspect)?;
    println!("{} calls, {lost} notes of other inodes", recorded.calls);
    Ok(recorded.exit.into())
}
