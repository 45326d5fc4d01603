//! gc of a store of 100,000 objects with nothing to delete.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use super::world::World;
use crate::{
    machine::{cargo, succeed},
    measure::{Result, median, time},
    table::{Row, under},
};

const OBJECTS: usize = 100_000;
const ROUNDS: usize = 5;

/// The archive that has one package of so many files; it ends when its standard input closes.
struct Archive {
    child: Child,
    variables: Vec<(String, String)>,
}

impl Archive {
    fn start() -> Result<Self> {
        succeed(cargo().args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "envd-tests",
            "--bin",
            "serve-many-files",
        ]))?;
        let mut child = cargo()
            .args([
                "run",
                "--quiet",
                "--release",
                "--package",
                "envd-tests",
                "--bin",
                "serve-many-files",
            ])
            .arg(OBJECTS.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("piped")?;
        let variables = BufReader::new(stdout)
            .lines()
            .map_while(std::io::Result::ok)
            .map_while(|line| {
                let (name, value) = line.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect();
        Ok(Self { child, variables })
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Rows of the table.
pub fn rows(world: &World) -> Result<Vec<Row>> {
    let archive = Archive::start()?;
    let project = world.project("many", "debian:trixie", &["many-files"])?;
    let store = world.store("many");
    world.remove(&store)?;
    let _ = std::fs::remove_file(project.join("envd.lock"));
    let mut realise = world.envd(&project, &store, &["run", "--", "true"]);
    realise.envs(archive.variables.iter().map(|(name, value)| (name, value)));
    time(&mut realise)?;
    let before = count(&store.join("objects"))?;
    if before < OBJECTS {
        return Err(format!("the store has {before} objects only").into());
    }
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        samples.push(time(&mut world.envd(&project, &store, &["gc"]))?);
    }
    if count(&store.join("objects"))? != before {
        return Err("gc deleted objects that a project holds".into());
    }
    world.remove(&store)?;
    Ok(vec![under(
        &format!("`envd gc` of {before} objects, nothing to delete"),
        median(&samples),
        Duration::from_secs(1),
    )])
}

fn count(directory: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() {
            count(&entry.path())?
        } else {
            1
        };
    }
    Ok(files)
}
