//! Leftovers: the end-to-end tests that count processes, mounts and files after ends of every kind.

use super::world::World;
use crate::{machine::cargo, measure::Result, table::Row};

/// Rows of the table.
pub fn rows(world: &World) -> Result<Vec<Row>> {
    let output = cargo()
        .args(["test", "--quiet", "--package", "envd-tests"])
        .args(["--test", "leftovers", "--test", "terminal"])
        .env("ENVD_BIN", &world.envd)
        .env("ENVD_TESTS_MUST_RUN", "1")
        .output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let ran = said.matches("test result: ok").count();
    let met = output.status.success() && ran == 2;
    if !met {
        eprintln!("{said}");
    }
    let result = if met { "0, 0, 0" } else { "some" };
    Ok(vec![Row {
        what: "processes, mounts, files left after `run`, `enter`, Ctrl-C, and `kill -9` at 50 moments"
            .to_owned(),
        ours: result.to_owned(),
        peer: "–".to_owned(),
        target: "0, 0, 0".to_owned(),
        met,
        distance: result.to_owned(),
    }])
}
