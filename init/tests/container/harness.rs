//! Runs the program and leaves nothing behind.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The names it goes by; the last is our own.
pub const NAMES: [&str; 4] = ["tini", "dumb-init", "catatonit", "envd-init"];

/// How long to wait for what must come; nothing that works takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program under a name.
///
/// All are written at once, before anything is started: a file that a child of another test still holds open for writing
/// cannot be executed.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        // The build's own directory, where that is ours.
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("container");
        let uid = nix::unistd::geteuid();
        let own = std::env::temp_dir().join(format!("envd-init-tests-{uid}"));
        let usable = |directory: &PathBuf| {
            fs::create_dir_all(directory).is_ok()
                && fs::write(directory.join(format!("{}.probe", std::process::id())), "").is_ok()
                && fs::remove_file(directory.join(format!("{}.probe", std::process::id()))).is_ok()
        };
        let directory = [built, own].into_iter().find(usable);
        let directory = directory.expect("a directory to write to");
        let others = ["tini-static", "docker-init", "anything"];
        for name in NAMES.into_iter().chain(others) {
            // Another run of these tests may be executing what is there.
            let new = directory.join(format!("{name}.{}", std::process::id()));
            fs::write(&new, envd_init::INIT).expect("written");
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("our own");
            fs::rename(&new, directory.join(name)).expect("one directory");
        }
        directory
    });
    directory.join(name)
}

/// Where a program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In this PID namespace.
    Beside,
    /// As PID 1 of its own.
    First,
}

/// Both, or one where no PID namespace can be made.
pub fn places() -> Vec<Place> {
    let mut places = vec![Place::Beside];
    places.extend(first());
    places
}

/// As PID 1, where a PID namespace can be made. Where `ENVD_TESTS_MUST_RUN=1` is set, that must be possible.
pub fn first() -> Option<Place> {
    let possible = unshare().is_some();
    let must = std::env::var_os("ENVD_TESTS_MUST_RUN").is_some_and(|value| value == "1");
    assert!(possible || !must, "this test needs PID namespaces");
    if !possible {
        eprintln!("skipped: needs PID namespaces");
    }
    possible.then_some(Place::First)
}

/// How a PID namespace is made here.
fn unshare() -> Option<&'static [&'static str]> {
    static FOUND: OnceLock<Option<&[&str]>> = OnceLock::new();
    const WAYS: [&[&str]; 2] = [
        &[
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ],
        &["--pid", "--fork", "--kill-child", "--mount-proc"],
    ];
    *FOUND.get_or_init(|| {
        WAYS.into_iter().find(|way| {
            Command::new("unshare")
                .args(*way)
                .arg("true")
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
    })
}

/// A command line that runs the program under a name.
pub fn command(place: Place, name: &str) -> Command {
    match place {
        Place::Beside => Command::new(program(name)),
        Place::First => {
            let mut command = Command::new("unshare");
            command
                .args(unshare().expect("asked before"))
                .arg(program(name));
            command
        }
    }
}

/// What a command came to.
#[derive(PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub error: String,
}

/// Runs a command to its end, without input.
pub fn run(command: &mut Command) -> Outcome {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = piped.stderr(Stdio::piped()).spawn().expect("it starts");
    let process = child.id() as i32;
    let (sender, outcome) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(outcome) = outcome.recv_timeout(PATIENCE) else {
        kill_tree(process);
        panic!("no end of {command:?}");
    };
    let outcome = outcome.expect("its output");
    Outcome {
        code: outcome.status.code(),
        output: String::from_utf8(outcome.stdout).expect("text"),
        error: String::from_utf8(outcome.stderr).expect("text"),
    }
}

/// Kills a process that was not waited for yet, and all its descendants.
pub fn kill_tree(process: i32) {
    // All are looked up first: what is left of a tree falls to others.
    let mut all = vec![process];
    let mut at = 0;
    while let Some(&process) = all.get(at) {
        all.extend(children(process));
        at += 1;
    }
    for process in all {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

/// A command that runs. Dropped, it and all its descendants are killed.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    place: Place,
}

/// Starts a command whose output and errors are read together, line by line.
pub fn start(place: Place, mut command: Command) -> Running {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().expect("a descriptor"))
        .stderr(writer)
        .spawn()
        .expect("it starts");
    // It holds the writing end, too.
    drop(command);
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let input = child.stdin.take();
    Running {
        child,
        input,
        lines,
        place,
    }
}

/// Starts `sh -c script` under a name with options.
pub fn shell(place: Place, name: &str, options: &[&str], script: &str) -> Running {
    let mut command = command(place, name);
    command.args(options).args(["--", "sh", "-c", script]);
    start(place, command)
}

impl Running {
    /// The next line.
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => panic!("no line: {error}"),
        }
    }

    /// Passes over lines until this one comes.
    pub fn until(&self, wanted: &str) {
        while self.line() != wanted {}
    }

    /// All lines up to the end: until nobody is left who could write any.
    pub fn rest(&self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("no end after {lines:?}"),
            }
        }
    }

    /// The process that runs our program.
    pub fn init(&self) -> i32 {
        self.found().expect("unshare has a child")
    }

    /// The same, while it may not be there yet.
    pub fn found(&self) -> Option<i32> {
        let started = self.child.id() as i32;
        match self.place {
            Place::Beside => Some(started),
            Place::First => children(started).first().copied(),
        }
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// The program that it looks after, once there is one.
    pub fn main(&self) -> i32 {
        children(self.init())
            .into_iter()
            .min()
            .expect("it has a child")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.init(), signal);
    }

    /// Ends the input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits for the end and gives the exit code.
    pub fn code(mut self) -> i32 {
        self.input = None;
        let child = &mut self.child;
        let mut status = None;
        wait_until("the end", || {
            status = child.try_wait().expect("our own child");
            status.is_some()
        });
        let status = status.expect("waited for");
        status.code().unwrap_or_else(|| panic!("ended by {status}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_tree(self.child.id() as i32);
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal to a process that is there.
pub fn send(process: i32, signal: Signal) {
    kill(Pid::from_raw(process), signal).expect("the process is there");
}

/// The children of a process.
pub fn children(parent: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| stat(*process).is_some_and(|stat| stat.parent == parent))
        .collect()
}

/// What proc_pid_stat(5) says of a process.
pub struct Stat {
    /// One letter.
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The foreground group of its terminal; -1 without one.
    pub foreground: i32,
}

/// The same, of a process that is there.
pub fn stat(process: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(parse_stat(&text))
}

/// The same, from its text.
pub fn parse_stat(text: &str) -> Stat {
    let (_, behind) = text.rsplit_once(") ").expect("a name in brackets");
    let words: Vec<_> = behind.split_whitespace().collect();
    let number = |at: usize| words[at].parse().expect("a number");
    Stat {
        state: words[0].chars().next().expect("a letter"),
        parent: number(1),
        group: number(2),
        session: number(3),
        foreground: number(5),
    }
}

/// The lines of /proc/PID/status, or of another file like it.
pub fn fields(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name, value.trim())).collect()
}

/// Waits for what must come.
pub fn wait_until(what: &str, mut come: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
