//! Entry: `envd run -- true` against bubblewrap on the very same root.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::world::World;
use crate::{
    measure::{Result, interleaved, median, time},
    table::{Row, seconds},
};

const WARM_UP: usize = 20;
const ROUNDS: usize = 300;

/// Rows of the table.
pub fn rows(world: &World) -> Result<Vec<Row>> {
    let (project, store) = realised(world)?;
    let run = || world.envd(&project, &store, &["run", "--no-daemon", "--", "true"]);
    let view = view_of(world, &project, &store)?;
    let bubblewrap = || bubblewrap(&view);
    interleaved(
        WARM_UP,
        [&mut || time(&mut run()), &mut || time(&mut bubblewrap())],
    )?;
    let [ours, theirs, nothing] = interleaved(
        ROUNDS,
        [
            &mut || time(&mut run()),
            &mut || time(&mut bubblewrap()),
            &mut || time(&mut Command::new("true")),
        ],
    )?;
    let (ours, theirs) = (median(&ours), median(&theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    Ok(vec![Row {
        what: "`envd run -- true`, view ready, no daemon, network shared".to_owned(),
        ours: seconds(ours),
        peer: format!(
            "{} (`bwrap --unshare-all --share-net`, same root; `true` alone {})",
            seconds(theirs),
            seconds(median(&nothing))
        ),
        target: "at most 0.55 ×".to_owned(),
        met: ratio <= 0.55,
        distance: format!("{ratio:.2} ×"),
    }])
}

/// The project whose environment is entered, and the store in which that is realised.
pub fn realised(world: &World) -> Result<(PathBuf, PathBuf)> {
    let project = world.project("entry", "debian:trixie", &["coreutils"])?;
    let store = world.store("entry");
    time(&mut world.envd(&project, &store, &["run", "--no-daemon", "--", "true"]))?;
    Ok((project, store))
}

/// `true` by bubblewrap, in a directory as its root.
pub fn bubblewrap(view: &str) -> Command {
    let mut command = Command::new("bwrap");
    command
        .args(["--unshare-all", "--share-net", "--ro-bind", view, "/"])
        .args([
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "true",
        ]);
    command
}

/// The directory that is the environment's lower layer, from the plan.
pub fn view_of(world: &World, project: &Path, store: &Path) -> Result<String> {
    let output = world
        .envd(project, store, &["run", "--print-plan", "--", "true"])
        .output()?;
    let plan = String::from_utf8(output.stdout)?;
    let lowers = plan.split("\"lowers\"").nth(1);
    let read_only = plan.split("\"directory\"").nth(1);
    lowers
        .or(read_only)
        .and_then(|rest| rest.split('"').find(|text| text.starts_with('/')))
        .map(str::to_owned)
        .ok_or_else(|| format!("the plan names no lower directory:\n{plan}").into())
}
