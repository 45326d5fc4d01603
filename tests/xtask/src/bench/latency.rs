//! A client that stays connected to the daemon (`envd/examples/latency.rs`), against the same steps in C (`floor.c`).

use std::{path::PathBuf, process::Command, time::Duration};

use super::{warm::Warm, world::World};
use crate::{
    machine::{build_example, compile, workspace},
    measure::Result,
    table::{Row, seconds},
};

/// How often ours and the floor take turns; each turn gives a median of its own.
const TURNS: usize = 5;
const COMMANDS: &str = "400";
const ENVIRONMENTS: &str = "40";
/// The program that is run, in the project's directory: the same file for all.
const NO_OP: &str = "no-op";

/// The programs that measure, and a daemon.
struct Stage<'w> {
    warm: Warm<'w>,
    latency: PathBuf,
    floor: PathBuf,
    no_op: PathBuf,
    view: String,
}

/// What the floor takes.
struct Floor {
    plain: Duration,
    inside: Duration,
    made: Duration,
}

impl<'w> Stage<'w> {
    fn set(world: &'w World) -> Result<Self> {
        let latency = build_example("envd", "latency")?;
        let sources = workspace().join("tests/xtask/src/bench");
        let floor = world.directory.join("floor");
        compile(&sources.join("floor.c"), &[], &floor)?;
        let warm = Warm::start(world)?;
        let no_op = warm.project.join(NO_OP);
        compile(&sources.join("no-op.c"), &["-nostdlib"], &no_op)?;
        Ok(Self {
            view: warm.view()?,
            warm,
            latency,
            floor,
            no_op,
        })
    }

    /// So many medians of ours.
    fn ours<const N: usize>(&self, words: &[&str]) -> Result<[Duration; N]> {
        times(self.warm.program(&self.latency).args(words))
    }

    fn floor(&self, rounds: &str, network: &str) -> Result<Floor> {
        let mut command = Command::new(&self.floor);
        command
            .arg(&self.view)
            .arg(&self.no_op)
            .args([rounds, network]);
        let [plain, inside, made] = times(&mut command)?;
        Ok(Floor {
            plain,
            inside,
            made,
        })
    }
}

/// A program's own medians, in nanoseconds on its standard output.
fn times<const N: usize>(command: &mut Command) -> Result<[Duration; N]> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let times = text
        .split_whitespace()
        .map(|word| word.parse().map(Duration::from_nanos))
        .collect::<std::result::Result<Vec<_>, _>>();
    match times.map(<[Duration; N]>::try_from) {
        Ok(Ok(times)) if output.status.success() => Ok(times),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?} ended with {}: {text}{said}", output.status).into())
        }
    }
}

fn median<T>(turns: &[T], of: impl Fn(&T) -> Duration) -> Duration {
    let mut times: Vec<_> = turns.iter().map(of).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A command in an environment that is open.
pub fn rows_of_executing(world: &World) -> Result<Vec<Row>> {
    let stage = Stage::set(world)?;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(stage.ours::<1>(&["exec", NO_OP, COMMANDS])?);
        floors.push(stage.floor(COMMANDS, "shared")?);
    }
    let ours = median(&ours, |times| times[0]);
    let plain = median(&floors, |floor| floor.plain);
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    Ok(vec![Row {
        what: "a static no-op in a warm environment, over the daemon's socket, request to exit"
            .to_owned(),
        ours: seconds(ours),
        peer: format!(
            "{} (vfork, exec and wait of it outside; an agent inside, in C, {})",
            seconds(plain),
            seconds(median(&floors, |floor| floor.inside))
        ),
        target: "at most 2 ×".to_owned(),
        met: ratio <= 2.0,
        distance: format!("{ratio:.2} ×"),
    }])
}

/// A new environment, with its first command done.
pub fn rows_of_opening(world: &World) -> Result<Vec<Row>> {
    let stage = Stage::set(world)?;
    let mut rows = Vec::new();
    for (ours, floor, name) in [
        ("shared", "shared", "without a network namespace"),
        ("private", "net", "with a network namespace"),
    ] {
        rows.push(row_of_opening(&stage, ours, floor, name)?);
    }
    Ok(rows)
}

fn row_of_opening(stage: &Stage<'_>, network: &str, floor: &str, name: &str) -> Result<Row> {
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(stage.ours::<2>(&["new", NO_OP, ENVIRONMENTS, network])?);
        floors.push(stage.floor(ENVIRONMENTS, floor)?);
    }
    let (ready, made) = (
        median(&ours, |times| times[0]),
        median(&ours, |times| times[1]),
    );
    let floor = median(&floors, |floor| floor.made);
    let ratio = made.as_secs_f64() / floor.as_secs_f64();
    Ok(Row {
        what: format!(
            "a new environment from a warm daemon, first command done, {name}: each of many in a row"
        ),
        ours: format!(
            "{} (where one waits ready: {})",
            seconds(made),
            seconds(ready)
        ),
        peer: format!("{} (the same steps in C)", seconds(floor)),
        target: "at most 1.6 ×".to_owned(),
        met: ratio <= 1.6,
        distance: format!("{ratio:.2} ×"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a measurement is none.
    #[test]
    fn only_numbers_of_a_program_that_ended_well_are_times() {
        let shell = |script: &str| times::<2>(Command::new("sh").args(["-c", script]));
        let expected = [Duration::from_nanos(12), Duration::from_nanos(34)];
        assert_eq!(shell("echo 12 34").unwrap(), expected);
        assert!(shell("echo 12 34; exit 1").is_err());
        assert!(shell("echo 12 parsecs").is_err());
        assert!(shell("echo 12").is_err());
    }
}
