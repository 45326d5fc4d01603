//! Locking and searching, which are about opening indexes.

use std::{fs, time::Duration};

use super::world::{ALSO, G, World};
use crate::{
    measure::{Result, median, time},
    table::{Row, under},
};

const ROUNDS: usize = 10;

/// Locking G with cached indexes, and a first lock from nothing.
pub fn rows_of_locking(world: &World) -> Result<Vec<Row>> {
    let packages: Vec<_> = G.iter().chain(&ALSO).copied().collect();
    let project = world.project("g-lock", "debian:bookworm", &packages)?;
    let store = world.store("lock");
    let lock = project.join("envd.lock");
    time(&mut world.envd(&project, &store, &["lock"]))?;
    let mut warm = Vec::new();
    for _ in 0..ROUNDS {
        fs::remove_file(&lock)?;
        warm.push(time(&mut world.envd(
            &project,
            &store,
            &["--offline", "lock"],
        ))?);
    }
    let one = world.project("one-lock", "debian:trixie", &["hello"])?;
    let mut cold = Vec::new();
    for _ in 0..world.runs {
        world.remove(&store)?;
        let _ = fs::remove_file(one.join("envd.lock"));
        cold.push(time(&mut world.envd(&one, &store, &["lock"]))?);
    }
    Ok(vec![
        under(
            "`envd lock` of G with cached indexes",
            median(&warm),
            Duration::from_millis(500),
        ),
        under(
            "cold parse of one suite (a whole `envd lock` from an empty store, download of 10 MB and signatures included)",
            median(&cold),
            Duration::from_millis(1500),
        ),
    ])
}

/// `envd search`.
pub fn rows_of_searching(world: &World) -> Result<Vec<Row>> {
    let project = world.project("search", "debian:trixie", &["hello"])?;
    let store = world.store("search");
    time(&mut world.envd(&project, &store, &["lock"]))?;
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        samples.push(time(&mut world.envd(
            &project,
            &store,
            &["search", "json"],
        ))?);
    }
    Ok(vec![under(
        "`envd search json`",
        median(&samples),
        Duration::from_millis(200),
    )])
}
