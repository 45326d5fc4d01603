//! A thousand environments that do nothing: their memory, their wake-ups, their end; and the daemon with one of them.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{entry, process, warm::Warm, world::World};
use crate::{
    machine::{build_example, compile, workspace},
    measure::{Result, time},
    table::Row,
};

const COUNT: u64 = 1000;
/// How long wake-ups are counted.
const WATCH: Duration = Duration::from_secs(3);
/// How long everything may take to be gone when the daemon is stopped.
const GONE: Duration = Duration::from_secs(2);
/// After that, something will stay.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the daemon may hold with one environment, in KiB.
const DAEMON: u64 = 12 * 1024;
/// What the kernel accounts for what processes, mounts and namespaces are made of (proc_meminfo(5)), but for the stacks of the
/// kernel, see [`taken`].
const ACCOUNTS: [&str; 5] = ["Slab", "PageTables", "AnonPages", "Shmem", "Percpu"];
/// The kernel gives memory back when it gets to it. Less than this, in KiB, in a second is the machine's own noise.
const NOISE: u64 = 512;
/// KiB.
const PAGE: u64 = 4;
/// Seconds after which a machine that does not rest is taken as it is.
const RESTLESS: u64 = 10;

/// A client that keeps environments open until this is dropped.
struct Client(Child);

impl Client {
    fn start(warm: &Warm<'_>, latency: &Path, count: u64, network: &str) -> Result<Self> {
        let mut command = warm.program(latency);
        command.args(["idle", &count.to_string(), network]);
        Self::of(command, count)
    }

    /// Of what says when so many are there, and keeps them as long as its input is open.
    fn of(mut command: Command, count: u64) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = Self(command.spawn()?);
        let output = client.0.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        match line.trim_end() {
            "ready" => Ok(client),
            _ => Err(format!("{count} environments cannot be opened").into()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What was seen of so many environments.
struct Seen {
    memory: Memory,
    /// Context switches of all of it.
    switches: u64,
    /// From `envd daemon stop` until the last process was gone.
    end: Duration,
}

/// Of the machine's memory, in KiB.
#[derive(Clone, Copy)]
struct Memory {
    /// What is accounted to what processes, mounts and namespaces are made of.
    taken: u64,
    /// What is available (proc_meminfo(5)), with the free pages that the kernel keeps for each processor.
    left: u64,
}

impl Memory {
    /// What each of so many takes, with all of them and without.
    fn each(self, before: Self) -> Self {
        Self {
            taken: self.taken.saturating_sub(before.taken) / COUNT,
            left: before.left.saturating_sub(self.left) / COUNT,
        }
    }
}

/// Rows of the table.
pub fn rows(world: &World) -> Result<Vec<Row>> {
    let latency = build_example("envd", "latency")?;
    let floor = world.directory.join("floor");
    compile(
        &workspace().join("tests/xtask/src/bench/floor.c"),
        &[],
        &floor,
    )?;
    let floors = [
        least(world, &floor, "shared")?,
        least(world, &floor, "net")?,
    ];
    let (mut shared, mut private) = (Vec::new(), Vec::new());
    for _ in 0..world.runs {
        shared.push(see(world, &latency, "shared")?);
        private.push(see(world, &latency, "private")?);
    }
    let mut rows = vec![
        memory(&shared, "without a network namespace", 150, floors[0]),
        memory(&private, "with a network namespace", 350, floors[1]),
    ];
    let all = || shared.iter().chain(&private);
    let switches: u64 = all().map(|seen| seen.switches).sum();
    let watched = WATCH * all().count() as u32;
    rows.push(Row {
        what: format!("wake-ups of {COUNT} idle environments and their daemon"),
        ours: format!("{:.1} a second", switches as f64 / watched.as_secs_f64()),
        peer: "–".to_owned(),
        target: "0 a second".to_owned(),
        met: switches == 0,
        distance: format!("{switches} in {} s", watched.as_secs()),
    });
    let ends = [&shared, &private].map(|seen| median(seen, |seen| seen.end).unwrap_or_default());
    let end = ends[0].max(ends[1]);
    rows.push(Row {
        what: format!("{COUNT} environments gone after `envd daemon stop`"),
        ours: format!(
            "{:.2} s; with network namespaces {:.2} s",
            ends[0].as_secs_f64(),
            ends[1].as_secs_f64()
        ),
        peer: "–".to_owned(),
        target: format!("within {} s", GONE.as_secs()),
        met: end <= GONE,
        distance: format!("{:.2} × the limit", end.as_secs_f64() / GONE.as_secs_f64()),
    });
    rows.push(daemon(world, &latency)?);
    Ok(rows)
}

fn see(world: &World, latency: &Path, network: &str) -> Result<Seen> {
    let warm = Warm::start(world)?;
    let pid = warm.pid()?;
    let before = settled()?;
    let client = Client::start(&warm, latency, COUNT, network)?;
    let after = settled()?;
    let household = process::household(pid)?;
    if (household.len() as u64) < COUNT {
        let message = format!("{} processes are no {COUNT} environments", household.len());
        return Err(message.into());
    }
    let switches = process::switches(&household)?;
    sleep(WATCH);
    let switches = process::switches(&household)? - switches;
    let start = Instant::now();
    time(&mut warm.envd(&["daemon", "stop"]))?;
    process::until("every process is gone", PATIENCE, || {
        let left = household.iter().any(|pid| process::lives(*pid));
        Ok((!left).then_some(()))
    })?;
    let end = start.elapsed();
    drop(client);
    Ok(Seen {
        memory: after.each(before),
        switches,
        end,
    })
}

/// What as many take that a small program made by the same steps, in KiB each.
fn least(world: &World, floor: &Path, network: &str) -> Result<Memory> {
    let (project, store) = entry::realised(world)?;
    let view = entry::view_of(world, &project, &store)?;
    let before = settled()?;
    let mut command = Command::new(floor);
    command.args([&view, "/bin/true", &COUNT.to_string(), network, "idle"]);
    let client = Client::of(command, COUNT)?;
    let after = settled()?;
    drop(client);
    Ok(after.each(before))
}

fn median<T: Ord>(seen: &[Seen], of: impl Fn(&Seen) -> T) -> Option<T> {
    let mut values: Vec<_> = seen.iter().map(of).collect();
    values.sort_unstable();
    let middle = values.len() / 2;
    values.into_iter().nth(middle)
}

/// By what is left of the machine's memory, as the promise and its floors (55 and 244 KB) were measured; and by what is accounted,
/// which counts what the kernel could take back of names and files that it has looked up, too.
fn memory(seen: &[Seen], name: &str, limit: u64, floor: Memory) -> Row {
    let left = median(seen, |seen| seen.memory.left).unwrap_or_default();
    let taken = median(seen, |seen| seen.memory.taken).unwrap_or_default();
    Row {
        what: format!("{COUNT} idle environments at once, {name}: memory for each"),
        ours: format!("{left} KB (by the kernel's accounts {taken} KB)"),
        peer: format!(
            "{} KB (the same steps in C; by the kernel's accounts {} KB)",
            floor.left, floor.taken
        ),
        target: format!("under {limit} KB"),
        met: left < limit,
        distance: format!("{:.2} × the limit", left as f64 / limit as f64),
    }
}

fn daemon(world: &World, latency: &Path) -> Result<Row> {
    let warm = Warm::start(world)?;
    let pid = warm.pid()?;
    let client = Client::start(&warm, latency, 1, "shared")?;
    sleep(WATCH);
    let resident = process::resident(pid)?;
    drop(client);
    Ok(Row {
        what: "the daemon's resident set, idle with one environment".to_owned(),
        ours: format!("{:.1} MB", resident as f64 / 1024.0),
        peer: "–".to_owned(),
        target: "under 12 MB".to_owned(),
        met: resident < DAEMON,
        distance: format!("{:.2} × the limit", resident as f64 / DAEMON as f64),
    })
}

/// How it is with the machine's memory, once that has come to rest.
fn settled() -> Result<Memory> {
    let mut last = now()?;
    for _ in 0..RESTLESS {
        sleep(Duration::from_secs(1));
        let now = now()?;
        if now.taken.abs_diff(last.taken) < NOISE && now.left.abs_diff(last.left) < NOISE {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

fn now() -> Result<Memory> {
    let number = |name| process::number(Path::new("/proc/meminfo"), name);
    let accounts = ACCOUNTS.into_iter().map(number).sum::<Result<u64>>()?;
    // Free pages that the kernel keeps ready for each processor count neither as free nor as available, and after a thousand
    // environments have ended these are hundreds of megabytes, from which the next thousand are made.
    let kept = std::fs::read_to_string("/proc/zoneinfo")?
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("count:")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .sum::<u64>();
    Ok(Memory {
        // Where the kernel's stacks are mapped they are a part of what it has mapped, as a system call filter is.
        taken: accounts + number("VmallocUsed")?.max(number("KernelStack")?),
        left: number("MemAvailable")? + kept * PAGE,
    })
}
