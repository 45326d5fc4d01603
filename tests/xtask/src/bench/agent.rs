//! What agents wait for: environments by the protocol, forks, many at a time, changes, the way out.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use super::{entry, process, world::World};
use crate::{
    machine::build_example,
    measure::{Result, time},
    table::{Row, seconds},
};

const WARM_UP: usize = 20;
const ROUNDS: usize = 200;
/// Environments in the row of many, and how many are there at once.
const MANY: usize = 100;
const AT_ONCE: usize = 8;
/// Files of the large project, and how many of them are changed.
const FILES: usize = 100_000;
const CHANGED: usize = 10_000;

/// A client of `envd agent mcp`, which ends with it.
struct Agent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    number: u64,
    /// Answers that nobody has waited for yet.
    early: BTreeMap<u64, String>,
}

impl Agent {
    fn start(world: &World, project: &Path, store: &Path) -> Result<Self> {
        let mut child = world
            .envd(project, store, &["agent", "mcp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut agent = Self {
            child,
            input,
            output,
            number: 0,
            early: BTreeMap::new(),
        };
        let hello = "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\
                     \"clientInfo\":{\"name\":\"bench\",\"version\":\"1\"}}";
        let number = agent.request("initialize", hello)?;
        agent.answer(number)?;
        agent.tell("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}")?;
        Ok(agent)
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }

    fn request(&mut self, method: &str, parameters: &str) -> Result<u64> {
        self.number += 1;
        let number = self.number;
        self.tell(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"method\":\"{method}\",\"params\":{parameters}}}"
        ))?;
        Ok(number)
    }

    /// Calls a tool and does not wait.
    fn begin(&mut self, tool: &str, arguments: &str) -> Result<u64> {
        let parameters = format!("{{\"name\":\"{tool}\",\"arguments\":{arguments}}}");
        self.request("tools/call", &parameters)
    }

    /// The next answer, whosever it is.
    fn next(&mut self) -> Result<(u64, String)> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err("the server is gone instead of answering".into());
            }
            let Some(number) = number_of(&line) else {
                continue;
            };
            if line.contains("\"isError\":true") || line.contains("\"error\":{") {
                return Err(format!("the server refused: {line}").into());
            }
            return Ok((number, line));
        }
    }

    fn answer(&mut self, number: u64) -> Result<String> {
        loop {
            if let Some(answer) = self.early.remove(&number) {
                return Ok(answer);
            }
            let (of, answer) = self.next()?;
            self.early.insert(of, answer);
        }
    }

    fn call(&mut self, tool: &str, arguments: &str) -> Result<String> {
        let number = self.begin(tool, arguments)?;
        self.answer(number)
    }

    fn create(&mut self) -> Result<String> {
        handle(&self.call("environment_create", "{}")?)
    }

    fn destroy(&mut self, environment: &str) -> Result<()> {
        self.call("environment_destroy", &only(environment))?;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `"id":123` of an answer; nothing of what comes unasked.
fn number_of(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("\"id\":")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// The environment that an answer is about: of a fork, the new one, for its origin stands under another name.
fn handle(answer: &str) -> Result<String> {
    let (_, rest) = answer
        .split_once("\"environment\":\"")
        .or_else(|| answer.split_once("\"environment\\\":\\\""))
        .ok_or_else(|| format!("no environment in {answer}"))?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    Ok(rest[..end.unwrap_or(rest.len())].to_owned())
}

fn only(environment: &str) -> String {
    format!("{{\"environment\":\"{environment}\"}}")
}

fn running(environment: &str, words: &[&str]) -> String {
    format!("{{\"environment\":\"{environment}\",\"command\":{words:?}}}")
}

/// A sorted list's middle, and what 99 of 100 stay below.
fn median_and_p99(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        times[index.min(times.len().saturating_sub(1))]
    };
    (at(0.5), at(0.99))
}

/// A project with a shell, realised.
fn project(world: &World, name: &str) -> Result<(PathBuf, PathBuf)> {
    let project = world.project(name, "debian:trixie", &["coreutils", "dash"])?;
    let store = world.store("agent");
    time(&mut world.envd(&project, &store, &["run", "--no-daemon", "--", "true"]))?;
    Ok((project, store))
}

/// Until a server has made an environment ahead, and nothing goes on any more that was begun before.
const SETTLED: Duration = Duration::from_millis(50);

/// The time from here to the whole output of a command in a new environment, by the protocol.
fn create_and_run(agent: &mut Agent) -> Result<(Duration, String)> {
    let began = Instant::now();
    let environment = agent.create()?;
    let answer = agent.call("command_run", &running(&environment, &["echo", "x"]))?;
    let took = began.elapsed();
    if !answer.contains("\"exit_code\":0") {
        return Err(format!("echo did not end well: {answer}").into());
    }
    Ok((took, environment))
}

/// `environment_create` to a command's output, and bubblewrap to its: one, and one right after it, as many as are made ahead; each
/// side begins when nothing else goes on.
pub fn rows_of_creating(world: &World) -> Result<Vec<Row>> {
    let (project, store) = project(world, "agent")?;
    let view = entry::view_of(world, &project, &store)?;
    let mut agent = Agent::start(world, &project, &store)?;
    let mut ours = Vec::new();
    let mut again = Vec::new();
    let mut theirs = Vec::new();
    for round in 0..WARM_UP + ROUNDS {
        std::thread::sleep(SETTLED);
        let (took, environment) = create_and_run(&mut agent)?;
        let (at_once, other) = create_and_run(&mut agent)?;
        agent.destroy(&environment)?;
        agent.destroy(&other)?;
        std::thread::sleep(SETTLED);
        let began = Instant::now();
        let mut child = Command::new("bwrap")
            .args(["--unshare-all", "--ro-bind", &view, "/", "--proc", "/proc"])
            .args(["--dev", "/dev", "--tmpfs", "/tmp", "echo", "x"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = child.stdout.take().ok_or("no output")?;
        output.read_exact(&mut [0])?;
        let peers = began.elapsed();
        child.wait()?;
        if round >= WARM_UP {
            ours.push(took);
            again.push(at_once);
            theirs.push(peers);
        }
    }
    let (theirs, their_p99) = median_and_p99(theirs);
    let row = |what: &str, times| {
        let (ours, p99) = median_and_p99(times);
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        Row {
            what: format!("`environment_create` to a command's whole output, by MCP, {what}"),
            ours: format!("{}, p99 {}", seconds(ours), seconds(p99)),
            peer: format!(
                "{}, p99 {} (`bwrap --unshare-all`, same root, to the first byte)",
                seconds(theirs),
                seconds(their_p99)
            ),
            target: "under 4 ms and at most 0.7 ×".to_owned(),
            met: ours < Duration::from_millis(4) && ratio <= 0.7,
            distance: format!("{ratio:.2} ×"),
        }
    };
    Ok(vec![
        row("after a moment", ours),
        row("right after another", again),
    ])
}

/// Forks of a session with a large project and large changes, and of one with small ones, each time after a change, and without
/// one.
pub fn rows_of_forking(world: &World) -> Result<Vec<Row>> {
    let (small, store) = project(world, "agent")?;
    let (large, _) = project(world, "agent-large")?;
    let data = large.join("data");
    if !data.exists() {
        fs::create_dir(&data)?;
        let piece = vec![7; 16 << 20];
        for number in 0..64 {
            fs::write(data.join(format!("{number}")), &piece)?;
        }
    }
    // Each fork after a change is one layer more, of which there are not too many in what people do.
    const ROUNDS_EACH: usize = 20;
    let fork = |project: &Path, change: &str, is_changed: bool| -> Result<(Duration, Duration)> {
        let mut agent = Agent::start(world, project, &store)?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS / 2 / ROUNDS_EACH {
            let origin = agent.create()?;
            agent.call("command_run", &running(&origin, &["sh", "-c", change]))?;
            // The first is not counted: while the disk takes in what was written, the machine is not at rest.
            let first = agent.call("environment_fork", &only(&origin))?;
            agent.destroy(&handle(&first)?)?;
            Command::new("sync").status()?;
            for _ in 0..ROUNDS_EACH {
                if is_changed {
                    let touch = running(&origin, &["sh", "-c", "echo x >> changed"]);
                    agent.call("command_run", &touch)?;
                }
                std::thread::sleep(SETTLED);
                let began = Instant::now();
                let answer = agent.call("environment_fork", &only(&origin))?;
                times.push(began.elapsed());
                agent.destroy(&handle(&answer)?)?;
            }
            agent.destroy(&origin)?;
        }
        Ok(median_and_p99(times))
    };
    let change =
        "i=0; while [ $i -lt 100 ]; do head -c 1048576 /dev/zero > new$i; i=$((i+1)); done";
    let mut rows = Vec::new();
    for (what, is_changed) in [("after a change", true), ("once more", false)] {
        let (of_large, p99) = fork(&large, change, is_changed)?;
        let (of_small, _) = fork(&small, "echo x > new", is_changed)?;
        let ratio = of_large.as_secs_f64() / of_small.as_secs_f64();
        rows.push(Row {
            what: format!("fork of a session with a project of 1 GB and 100 MB of changes, {what}"),
            ours: format!("{}, p99 {}", seconds(of_large), seconds(p99)),
            peer: format!("{} (a small project, 2 bytes changed)", seconds(of_small)),
            target: "under 2.5 ms, whatever their sizes".to_owned(),
            met: of_large < Duration::from_micros(2500) && ratio < 1.25,
            distance: format!("{ratio:.2} × of the small one"),
        });
    }
    Ok(rows)
}

/// What a server and its store hold: processes, descriptors, mounts, files that go with their owner.
fn held(agent: &Agent, store: &Path) -> Result<[usize; 4]> {
    let pid = agent.child.id();
    let own = PathBuf::from(format!("/proc/{pid}"));
    let place = fs::read_dir(store.join("tmp"))?.flatten().next();
    let files = place.map_or(Ok(0), |place| {
        let count = |directory: PathBuf| fs::read_dir(directory).map(Iterator::count);
        Ok::<_, std::io::Error>(count(place.path())? + count(place.path().join("layers"))?)
    })?;
    Ok([
        process::household(pid)?.len(),
        fs::read_dir(own.join("fd"))?.count(),
        fs::read_to_string(own.join("mountinfo"))?.lines().count(),
        files,
    ])
}

/// Sessions made, used once and ended, several at a time.
pub fn rows_of_many(world: &World) -> Result<Vec<Row>> {
    let (project, store) = project(world, "agent")?;
    let mut agent = Agent::start(world, &project, &store)?;
    let environment = agent.create()?;
    agent.call("command_run", &running(&environment, &["true"]))?;
    agent.destroy(&environment)?;
    // Directories are kept for the next for a moment.
    std::thread::sleep(Duration::from_millis(1500));
    let before = held(&agent, &store)?;
    let mut rates = Vec::new();
    for _ in 0..world.runs.max(3) {
        rates.push(MANY as f64 / many(&mut agent)?.as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let rate = rates[rates.len() / 2];
    // The last processes are reaped, and the last connections closed, a moment later.
    let began = Instant::now();
    let mut after = held(&agent, &store)?;
    while after != before && began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(20));
        after = held(&agent, &store)?;
    }
    let left: Vec<String> = ["processes", "descriptors", "mounts", "files"]
        .iter()
        .zip(after.iter().zip(&before))
        .map(|(what, (after, before))| format!("{} {what}", *after as i64 - *before as i64))
        .collect();
    Ok(vec![Row {
        what: format!("{MANY} sessions created, one command each, destroyed, {AT_ONCE} at a time"),
        ours: format!("{rate:.0} a second; left: {}", left.join(", ")),
        peer: "–".to_owned(),
        target: "at least 200 a second, nothing left".to_owned(),
        met: rate >= 200.0 && after == before,
        distance: format!("{:.2} ×", rate / 200.0),
    }])
}

/// What a session is waiting for.
enum Stage {
    Creating,
    Running(String),
    Destroying,
}

fn many(agent: &mut Agent) -> Result<Duration> {
    let began = Instant::now();
    let mut waiting = BTreeMap::new();
    let (mut created, mut gone) = (0, 0);
    while gone < MANY {
        while created < MANY && waiting.len() < AT_ONCE {
            waiting.insert(agent.begin("environment_create", "{}")?, Stage::Creating);
            created += 1;
        }
        let (number, answer) = agent.next()?;
        match waiting.remove(&number) {
            Some(Stage::Creating) => {
                let environment = handle(&answer)?;
                let run = running(&environment, &["true"]);
                waiting.insert(
                    agent.begin("command_run", &run)?,
                    Stage::Running(environment),
                );
            }
            Some(Stage::Running(environment)) => {
                let destroy = agent.begin("environment_destroy", &only(&environment))?;
                waiting.insert(destroy, Stage::Destroying);
            }
            Some(Stage::Destroying) => gone += 1,
            None => return Err(format!("an answer to nothing: {answer}").into()),
        }
    }
    Ok(began.elapsed())
}

/// Changes of a large project.
pub fn rows_of_changes(world: &World) -> Result<Vec<Row>> {
    let (project, store) = project(world, "agent-files")?;
    for directory in 0..FILES / 100 {
        let directory = project.join(format!("d{directory}"));
        if directory.exists() {
            continue;
        }
        fs::create_dir(&directory)?;
        for file in 0..100 {
            fs::write(directory.join(format!("f{file}")), "as it was\n")?;
        }
    }
    let mut agent = Agent::start(world, &project, &store)?;
    let environment = agent.create()?;
    let change = format!(
        "for d in $(seq 0 {}); do for f in $(seq 0 99); do echo changed > d$d/f$f; done; done",
        CHANGED / 100 - 1
    );
    agent.call(
        "command_run",
        &running(&environment, &["sh", "-c", &change]),
    )?;
    let mut times = Vec::new();
    for _ in 0..world.runs.max(3) {
        let began = Instant::now();
        let answer = agent.call("changes_diff", &only(&environment))?;
        times.push(began.elapsed());
        if !answer.contains("as it was") {
            return Err("the changes are not in the diff".into());
        }
    }
    let (took, _) = median_and_p99(times);
    Ok(vec![Row {
        what: format!("`changes_diff` of {CHANGED} changed files in a project of {FILES}"),
        ours: seconds(took),
        peer: "–".to_owned(),
        target: "under 0.5 s".to_owned(),
        met: took < Duration::from_millis(500),
        distance: format!("{:.2} ×", took.as_secs_f64() / 0.5),
    }])
}

/// A download by the proxy and beside it.
pub fn rows_of_proxy(_: &World) -> Result<Vec<Row>> {
    let output = Command::new(build_example("envd-agents", "egress_throughput")?).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = |way: &str| -> Result<(String, u32)> {
        let line = text.lines().find(|line| line.trim_start().starts_with(way));
        let (_, rates) = line
            .and_then(|line| line.split_once(':'))
            .ok_or_else(|| format!("no rate of {way} in:\n{text}"))?;
        let (speed, share) = rates.split_once(',').ok_or("no share")?;
        let digits: String = share.chars().filter(char::is_ascii_digit).collect();
        Ok((speed.trim().to_owned(), digits.parse()?))
    };
    let (direct, _) = rate("reader, direct")?;
    let (tunnel, share) = rate("reader, by CONNECT")?;
    let (_, of_curl) = rate("curl, by SOCKS5")?;
    let (_, of_curls_url) = rate("curl, by URL")?;
    Ok(vec![Row {
        what: "an allowed download on loopback, through the proxy (CONNECT)".to_owned(),
        ours: format!(
            "{tunnel}; curl by SOCKS5 {of_curl} %, by plain URL {of_curls_url} % of its own"
        ),
        peer: format!("{direct} (direct)"),
        target: "at least 80 % of direct".to_owned(),
        met: share >= 80,
        distance: format!("{share} %"),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_what_comes_unasked() {
        assert_eq!(
            number_of("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":{}}"),
            Some(17)
        );
        assert_eq!(number_of("{\"method\":\"notifications/progress\"}"), None);
    }

    #[test]
    fn a_handle_is_read_from_text_and_from_data() {
        for answer in [
            "{\"environment\":\"env_a1\",",
            "{\\\"environment\\\":\\\"env_a1\\\",",
        ] {
            assert_eq!(handle(answer).unwrap(), "env_a1");
        }
    }
}
