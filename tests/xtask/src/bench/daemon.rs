//! A whole process that goes through the daemon: `envd run -- true`.

use std::process::Command;

use super::{entry, warm::Warm, world::World};
use crate::{
    measure::{Result, interleaved, median, time},
    table::{Row, seconds},
};

const WARM_UP: usize = 20;
const ROUNDS: usize = 300;

/// `envd run` with a daemon, against bubblewrap and against itself without.
pub fn rows(world: &World) -> Result<Vec<Row>> {
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
