//! Prints what changed between a project and the upper directories of an overlay over it, and how long each part took.
use std::time::Instant;

use envd_agents::changes::{Layers, Rendering, Scope};

fn main() {
    let mut paths: Vec<_> = std::env::args_os().skip(1).collect();
    let project = paths.remove(0);
    for _ in 0..5 {
        let start = Instant::now();
        let layers = Layers::open(&paths, &project).unwrap();
        let changes = layers.changes(&Scope::default()).unwrap();
        let listed = start.elapsed();
        let report = layers.report(
            &changes,
            &Rendering {
                bytes: 1 << 30,
                ..Rendering::default()
            },
        );
        let shown = start.elapsed();
        let text = report.unified();
        eprintln!(
            "{} entries: listed {listed:?}, with lines {shown:?}, text {:?} ({} bytes)",
            changes.entries.len(),
            start.elapsed(),
            text.len()
        );
    }
}
