//! Whole processes that go through the daemon: `envd run -- true`, and `true` through a shim.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use super::{entry, warm::Warm, world::World};
use crate::{
    measure::{Result, interleaved, median, time},
    table::{Row, seconds},
};

const WARM_UP: usize = 20;
const ROUNDS: usize = 300;
/// What a shim may cost over the tool itself.
const OVER: Duration = Duration::from_micros(1500);

/// `envd run` with a daemon, against bubblewrap and against itself without.
pub fn rows_of_running(world: &World) -> Result<Vec<Row>> {
    let warm = Warm::start(world)?;
    let view = warm.view()?;
    let run = || warm.envd(&["run", "--", "true"]);
    let alone = || warm.envd(&["run", "--no-daemon", "--", "true"]);
    let measured = |rounds| {
        interleaved(
            rounds,
            [
                &mut || time(&mut run()),
                &mut || time(&mut entry::bubblewrap(&view)),
                &mut || time(&mut alone()),
                &mut || time(&mut Command::new("true")),
            ],
        )
    };
    measured(WARM_UP)?;
    let [ours, theirs, without, nothing] = measured(ROUNDS)?.map(|samples| median(&samples));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    Ok(vec![Row {
        what: "`envd run -- true` through the daemon, a whole process".to_owned(),
        ours: seconds(ours),
        peer: format!(
            "{} (`bwrap --unshare-all --share-net`, same root; `envd run --no-daemon` {}, `true` alone {})",
            seconds(theirs),
            seconds(without),
            seconds(nothing)
        ),
        target: "at most 0.35 ×".to_owned(),
        met: ratio <= 0.35,
        distance: format!("{ratio:.2} ×"),
    }])
}

/// A tool through a shim, against the tool itself and, where it is installed, against `mise exec`.
pub fn rows_of_shims(world: &World) -> Result<Vec<Row>> {
    let warm = Warm::start(world)?;
    time(&mut warm.envd(&["shim", "install"]))?;
    let path = warm.project.join(".envd/bin/true");
    let shim = || warm.program(&path);
    interleaved(WARM_UP, [&mut || time(&mut shim())])?;
    let [ours, bare] = interleaved(
        ROUNDS,
        [&mut || time(&mut shim()), &mut || {
            time(&mut Command::new("true"))
        }],
    )?
    .map(|samples| median(&samples));
    let mise = mise()?;
    let over = ours.saturating_sub(bare);
    let within_a_fifth = mise.is_none_or(|mise| ours * 5 < mise);
    Ok(vec![Row {
        what: "`true` through a shim, a whole process".to_owned(),
        ours: seconds(ours),
        peer: match mise {
            Some(mise) => format!(
                "{} (`true` alone; `mise exec -- true` {})",
                seconds(bare),
                seconds(mise)
            ),
            None => format!(
                "{} (`true` alone; `mise` is not installed here)",
                seconds(bare)
            ),
        },
        target: format!(
            "under {} more than alone; under a fifth of `mise exec`",
            seconds(OVER)
        ),
        met: over < OVER && within_a_fifth,
        distance: format!("{} more", seconds(over)),
    }])
}

/// `mise exec -- true`, if there is mise.
fn mise() -> Result<Option<Duration>> {
    let mut version = Command::new("mise");
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let mut exec = || time(Command::new("mise").args(["exec", "--", "true"]));
    let [samples] = interleaved(ROUNDS / 10, [&mut exec])?;
    Ok(Some(median(&samples)))
}
