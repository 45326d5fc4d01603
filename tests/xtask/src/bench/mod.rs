//! `cargo xtask bench`: ours and the peers', side by side, from one run.

mod agent;
mod daemon;
mod entry;
mod idle;
mod indexes;
mod latency;
mod leftovers;
mod objects;
mod pid1;
mod process;
mod realise;
mod shim;
mod warm;
mod world;

use crate::{
    machine::{self, FOR_BENCHMARKS, FOR_TESTS, is_root},
    measure::Result,
    table,
};
use world::World;

/// A benchmark: measures, and returns its rows.
type Group = fn(&World) -> Result<Vec<table::Row>>;

/// The groups of rows, by the name that `--only` takes.
const GROUPS: [(&str, Group); 18] = [
    ("entry", entry::rows),
    ("daemon-run", daemon::rows),
    ("shim", shim::rows),
    ("exec", latency::rows_of_executing),
    ("new-environment", latency::rows_of_opening),
    ("idle", idle::rows),
    ("pid1", pid1::rows),
    ("realise", realise::rows),
    ("add", realise::rows_of_adding),
    ("lock", indexes::rows_of_locking),
    ("search", indexes::rows_of_searching),
    ("gc", objects::rows),
    ("leftovers", leftovers::rows),
    ("agent-create", agent::rows_of_creating),
    ("agent-fork", agent::rows_of_forking),
    ("agent-many", agent::rows_of_many),
    ("agent-changes", agent::rows_of_changes),
    ("agent-proxy", agent::rows_of_proxy),
];

/// Runs the command.
pub fn run(arguments: &[&str]) -> Result<()> {
    let mut only = Vec::new();
    let mut runs = 3;
    for (option, value) in machine::options(arguments, &["--only", "--runs"])? {
        match option {
            "--only" if GROUPS.iter().all(|(name, _)| *name != value) => {
                return Err(format!("no benchmark is called {value}").into());
            }
            "--only" => only.push(value),
            _ => runs = value.parse::<usize>()?.max(1),
        }
    }
    machine::prepare(&FOR_TESTS)?;
    machine::prepare(&FOR_BENCHMARKS)?;
    let world = World::new(machine::build_envd()?, runs)?;
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for (name, group) in GROUPS {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        eprintln!("xtask: measuring {name}");
        match group(&world) {
            Ok(measured) => rows.extend(measured),
            // One benchmark that cannot run must not hide the others' numbers.
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    println!("{}\n", world.describe(is_root())?);
    table::print(&rows);
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n").into())
    }
}
