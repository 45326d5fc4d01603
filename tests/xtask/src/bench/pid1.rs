//! envd's PID 1 in a container that sleeps, against Debian's tini-static: the file, and what of it is resident.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{process, world::World};
use crate::{
    measure::{Result, time},
    table::Row,
};

const TINI: &str = "/usr/bin/tini-static";
const ROUNDS: usize = 5;
/// The promises, in KiB.
const FILE: u64 = 48;
const RESIDENT: u64 = 64;
/// How long a container may take to sleep.
const PATIENCE: Duration = Duration::from_secs(10);
/// When nothing of its start is left to do.
const REST: Duration = Duration::from_millis(100);

/// A container in which something sleeps, until this is dropped.
struct Container {
    process: Child,
    pid1: Option<u32>,
}

/// What of PID 1 is in memory, in KiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Memory {
    resident: u64,
    /// With pages that others have, too, divided among all; where the kernel tells.
    proportional: Option<u64>,
}

impl Container {
    fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new("unshare");
        command
            .args([
                "--user",
                "--map-root-user",
                "--pid",
                "--fork",
                "--mount-proc",
            ])
            .arg(program)
            .args(["sleep", "100"])
            .stdin(Stdio::null());
        let mut container = Self {
            process: command.spawn()?,
            pid1: None,
        };
        let outer = container.process.id();
        let pid1 = process::until("the container sleeps", PATIENCE, || {
            let [pid1] = process::children(outer)?[..] else {
                return Ok(None);
            };
            container.pid1 = Some(pid1);
            let sleeps = process::children(pid1)?
                .into_iter()
                .any(|child| process::name(child) == "sleep");
            Ok(sleeps.then_some(pid1))
        })?;
        container.pid1 = Some(pid1);
        std::thread::sleep(REST);
        Ok(container)
    }

    fn memory(&self) -> Result<Memory> {
        let pid1 = self.pid1.ok_or("a container without PID 1")?;
        let rollup = format!("/proc/{pid1}/smaps_rollup");
        Ok(Memory {
            resident: process::resident(pid1)?,
            proportional: process::number(Path::new(&rollup), "Pss").ok(),
        })
    }
}

impl Drop for Container {
    /// In this order, because unshare complains when it is told of a PID 1 that was killed.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(pid1) = self.pid1 {
            let _ = kill(Pid::from_raw(pid1 as i32), Signal::SIGKILL);
        }
    }
}

/// Rows of the table.
pub fn rows(world: &World) -> Result<Vec<Row>> {
    let directory = world.directory.join("pid1");
    fs::create_dir_all(&directory)?;
    // By this name it takes the same command line as the peer.
    let program = directory.join("tini");
    let mut write = world.envd(&directory, &world.store("entry"), &["pid1", "--force"]);
    time(write.arg("--output").arg(&program))?;
    let peer = Path::new(TINI);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(Container::start(&program)?.memory()?);
        theirs.push(Container::start(peer)?.memory()?);
    }
    let (ours, theirs) = (median(ours)?, median(theirs)?);
    let (size, size_of_peer) = (fs::metadata(&program)?.len(), fs::metadata(peer)?.len());
    Ok(vec![
        Row {
            what: "`envd-init`, the file".to_owned(),
            ours: format!("{:.1} KB", size as f64 / 1024.0),
            peer: format!("{:.1} KB (`tini-static`)", size_of_peer as f64 / 1024.0),
            target: format!("at most {FILE} KB"),
            met: size <= FILE * 1024,
            distance: format!("{:.2} × the limit", size as f64 / (FILE * 1024) as f64),
        },
        Row {
            what: "`envd-init` as PID 1 of a sleeping container, resident".to_owned(),
            ours: ours.text(),
            peer: format!("{} (`tini-static`)", theirs.text()),
            target: format!("at most {RESIDENT} KB"),
            met: ours.resident <= RESIDENT,
            distance: format!("{:.2} × the limit", ours.resident as f64 / RESIDENT as f64),
        },
    ])
}

impl Memory {
    fn text(self) -> String {
        match self.proportional {
            Some(proportional) => format!("{} KB, Pss {proportional} KB", self.resident),
            None => format!("{} KB", self.resident),
        }
    }
}

fn median(mut seen: Vec<Memory>) -> Result<Memory> {
    seen.sort_unstable();
    let middle = seen.get(seen.len() / 2).copied();
    middle.ok_or_else(|| "nothing was measured".into())
}
