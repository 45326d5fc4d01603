//! What a program that stays connected to a project's daemon waits for, and what it costs to keep environments open. For
//! `cargo xtask bench`; the daemon is started before (`envd daemon start`), this runs in the project's directory.
//!
//! `latency exec PROGRAM ROUNDS`: a program in an environment that is open, from the request to its end.
//! `latency new PROGRAM ROUNDS shared|private`: a new environment until its first program has ended, where one waits ready and,
//! in a row that is longer than what is ready, each.
//! `latency idle COUNT shared|private`: says `ready` when so many are open, and closes them when its input ends.
//!
//! Times are medians in nanoseconds.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};

use envd::{
    daemon::{
        Place,
        client::Client,
        message::{self, Answer, Question, Request},
        order,
    },
    project::Project,
    settings::{HostVariables, Settings},
};
use envd_init::protocol::Report;
use envd_shims::{Said, connection, plan::Command, request};

/// What goes wrong is said and ends it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Environments that are opened in a row: several times as many as wait ready.
const ROW: usize = 24;
/// The first of them, which found some ready, are not counted.
const SKIPPED: usize = 4;
/// For the next to be made ready.
const PAUSE: Duration = Duration::from_millis(10);
/// A network namespace takes 36 ms to be gone: not part of making one, and not to pile up.
const NETWORK_PAUSE: Duration = Duration::from_millis(40);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let daemon = Daemon::connect()?;
    match words[..] {
        ["exec", program, rounds] => {
            let program = daemon.program(program)?;
            let times = daemon.execute(&program, rounds.parse()?)?;
            println!("{}", median(times));
        }
        ["new", program, rounds, network] => {
            let (program, inside) = (daemon.program(program)?, inside(network)?);
            let rounds = rounds.parse()?;
            let ready = daemon.open_ready(&program, rounds, inside)?;
            let made = daemon.open_in_rows(&program, rounds.div_ceil(ROW - SKIPPED), inside)?;
            println!("{} {}", median(ready), median(made));
        }
        ["idle", count, network] => daemon.keep(count.parse()?, inside(network)?)?,
        _ => {
            return Err(
                "usage: latency exec PROGRAM ROUNDS | new PROGRAM ROUNDS NETWORK | idle COUNT NETWORK"
                    .into(),
            );
        }
    }
    Ok(())
}

fn inside(network: &str) -> Result<u32> {
    match network {
        "shared" => Ok(0),
        "private" => Ok(order::NO_NETWORK),
        other => Err(format!("{other}: shared or private").into()),
    }
}

fn pause(inside: u32) -> Duration {
    match inside & order::NO_NETWORK {
        0 => PAUSE,
        _ => NETWORK_PAUSE,
    }
}

fn median(mut times: Vec<Duration>) -> u128 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0, Duration::as_nanos)
}

/// A connection that stays.
struct Daemon {
    client: Client,
    /// The daemon's. This program is another file, which it would refuse to serve under its own.
    build: u64,
    project: Project,
    null: File,
}

/// A program to execute, and the request for it.
struct Program {
    command: Command,
    request: Vec<u8>,
}

impl Daemon {
    fn connect() -> Result<Self> {
        let uid = nix::unistd::getuid().as_raw();
        let settings = Settings::load(&HostVariables::of_this_process(), uid)?;
        let project = Project::find(&std::env::current_dir()?, uid)?;
        let place = Place::of(&settings, uid, &project.root);
        let client = Client::connect(&place)?.ok_or("no daemon runs: `envd daemon start`")?;
        let build = client.status()?.identity.build;
        Ok(Self {
            client,
            build,
            project,
            null: File::options().read(true).write(true).open("/dev/null")?,
        })
    }

    /// A file of the project's directory, which is at the same place inside.
    fn program(&self, name: &str) -> Result<Program> {
        let command = Command {
            program: self.project.root.join(name).into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            directory: self.project.root.clone(),
            umask: None,
            new_session: true,
            terminal: false,
        };
        let request = request::encode(&command, &BTreeMap::new(), false)?;
        Ok(Program { command, request })
    }

    fn ask(&self, request: Request) -> Result<serde_json::Value> {
        let question = Question {
            version: message::VERSION,
            build: format!("{:016x}", self.build),
            request,
        };
        self.client.send(&message::packet(&question), &[])?;
        match self.client.answer()? {
            Some(Answer::Ok(value)) => Ok(value),
            other => Err(format!("the daemon does not do it: {other:?}").into()),
        }
    }

    fn open(&self, inside: u32) -> Result<u64> {
        let answer = self.ask(Request::Open { inside })?;
        answer["handle"].as_u64().ok_or("no handle".into())
    }

    fn close(&self, handle: u64) -> Result<()> {
        self.ask(Request::Close { handle }).map(drop)
    }

    /// Runs a program in an environment and waits for its end.
    fn run(&self, handle: u64, program: &Program) -> Result<()> {
        let (ours, theirs) = connection()?;
        let (mut packet, tail) = order::write(
            self.build,
            order::Way::Execute(handle),
            0,
            &[],
            &program.request,
        );
        packet.extend_from_slice(&tail);
        let null = self.null.as_fd();
        self.client
            .send(&packet, &[null, null, null, theirs.as_fd()])?;
        drop(theirs);
        await_end(&ours, &program.command)
    }

    fn execute(&self, program: &Program, rounds: usize) -> Result<Vec<Duration>> {
        let handle = self.open(0)?;
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            times.push(timed(|| self.run(handle, program))?);
        }
        self.close(handle)?;
        Ok(times)
    }

    /// One after the other, with time to make the next ready.
    fn open_ready(&self, program: &Program, rounds: usize, inside: u32) -> Result<Vec<Duration>> {
        self.close(self.open(inside)?)?;
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            sleep(pause(inside));
            let mut handle = 0;
            times.push(timed(|| {
                handle = self.open(inside)?;
                self.run(handle, program)
            })?);
            self.close(handle)?;
        }
        Ok(times)
    }

    /// So many at once that each has to be made while somebody waits for it; a time is that of one.
    fn open_in_rows(&self, program: &Program, rows: usize, inside: u32) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(rows);
        for _ in 0..rows {
            let mut handles = Vec::with_capacity(ROW);
            let mut open_one = || -> Result<()> {
                let handle = self.open(inside)?;
                handles.push(handle);
                self.run(handle, program)
            };
            (0..SKIPPED).try_for_each(|_| open_one())?;
            let time = timed(|| (SKIPPED..ROW).try_for_each(|_| open_one()))?;
            times.push(time / (ROW - SKIPPED) as u32);
            for handle in handles {
                self.close(handle)?;
            }
            sleep(pause(inside) * ROW as u32);
        }
        Ok(times)
    }

    fn keep(&self, count: usize, inside: u32) -> Result<()> {
        for _ in 0..count {
            self.open(inside)?;
        }
        let mut output = io::stdout();
        output.write_all(b"ready\n")?;
        output.flush()?;
        io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}

fn timed(what: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    what()?;
    Ok(start.elapsed())
}

fn await_end(connection: &OwnedFd, command: &Command) -> Result<()> {
    let mut packet = [0; 64];
    loop {
        let (length, _) =
            rustix::net::recv(connection, &mut packet[..], rustix::net::RecvFlags::empty())?;
        match Said::of(&packet[..length], command) {
            Said::Report(Report::Ended(0)) => return Ok(()),
            Said::Report(Report::Started(_)) => {}
            other => return Err(format!("the program did not end well: {other:?}").into()),
        }
    }
}
