//! Plans over the host's own `/usr`, run by the example program `launch`: the launcher refuses to work in a process with
//! threads, and a test is one.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use envd_shims::plan::{self, Ids, Mount, Namespaces, Plan, Privileges, Root, Seccomp, Upper};
use tempfile::TempDir;

/// Any longer and something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// An id that no account has.
const ORDINARY: u32 = 54_321;

/// Whom a test runs as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// As whoever runs the tests.
    Same,
    /// As an ordinary user; only root can.
    Ordinary,
}

impl Caller {
    pub fn uid(self) -> u32 {
        match self {
            Caller::Same => rustix::process::geteuid().as_raw(),
            Caller::Ordinary => ORDINARY,
        }
    }
}

/// Everyone whom a test can run as: root tries an ordinary user, too.
pub fn callers() -> Vec<Caller> {
    if rustix::process::geteuid().is_root() {
        vec![Caller::Same, Caller::Ordinary]
    } else {
        vec![Caller::Same]
    }
}

/// A place for one test and one caller: a small root, owned by the caller, to put the host's `/usr` into.
pub struct Place {
    pub caller: Caller,
    directory: TempDir,
}

/// How a run ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
}

impl Outcome {
    /// The exit code; a launcher that was killed has none.
    pub fn code(&self) -> i32 {
        let signal = self.status.signal();
        self.status
            .code()
            .unwrap_or_else(|| panic!("killed by {signal:?}: {}", self.errors))
    }

    /// What it printed, when all went well.
    pub fn success(self) -> String {
        assert_eq!(self.code(), 0, "{self:?}");
        self.output
    }
}

impl Place {
    pub fn new(caller: Caller) -> Self {
        let place = Place {
            caller,
            directory: tempfile::Builder::new()
                .prefix("envd-shims-")
                .permissions(fs::Permissions::from_mode(0o755))
                .tempdir()
                .unwrap(),
        };
        chown(
            place.directory.path(),
            Some(caller.uid()),
            Some(caller.uid()),
        )
        .unwrap();
        place.directory("root");
        for directory in ["usr", "etc", "proc", "dev", "tmp", "run"] {
            place.directory(&format!("root/{directory}"));
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), place.path(&format!("root/{link}"))).unwrap();
        }
        // Where an ordinary user can reach it.
        let reachable = place.path("launch");
        if fs::hard_link(launcher(), &reachable).is_err() {
            fs::copy(launcher(), &reachable).unwrap();
        }
        place.file("root/etc/passwd", "me:x:1000:1000::/:/bin/sh\n");
        place
    }

    /// A path of the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        self.give(&path);
        path
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.give(&path);
        path
    }

    fn give(&self, path: &Path) {
        chown(path, Some(self.caller.uid()), Some(self.caller.uid())).unwrap();
    }

    /// A plan that runs a shell script over this place's root.
    pub fn shell(&self, script: &str) -> Plan {
        self.plan("/bin/sh", &["-c", script])
    }

    pub fn plan(&self, program: &str, arguments: &[&str]) -> Plan {
        let tmpfs = |target: &str, mode| Mount::Tmpfs {
            target: target.into(),
            mode,
            size: None,
        };
        Plan {
            root: Root::Overlay {
                lowers: vec![self.path("root")],
                upper: Upper::Tmpfs {
                    size: None,
                    inodes: None,
                },
            },
            mounts: vec![
                Mount::Bind {
                    source: "/usr".into(),
                    target: "/usr".into(),
                    read_only: true,
                    optional: false,
                },
                Mount::Proc {
                    target: "/proc".into(),
                },
                Mount::Devices {
                    target: "/dev".into(),
                },
                tmpfs("/tmp", 0o1777),
                tmpfs("/run", 0o755),
            ],
            namespaces: Namespaces {
                ipc: true,
                uts: true,
                net: false,
                cgroup: true,
            },
            ids: Ids {
                uid: 1000,
                gid: 1000,
                all: false,
            },
            hostname: "inside".to_owned(),
            command: plan::Command {
                program: program.into(),
                arguments: arguments.iter().map(Into::into).collect(),
                environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
                directory: "/".into(),
                umask: None,
                new_session: false,
                terminal: false,
            },
            privileges: Privileges {
                capabilities: vec![],
                seccomp: Seccomp::Lenient,
                landlock: None,
                record_ownership: false,
            },
            limits: BTreeMap::new(),
            processes: None,
            listen: None,
            hand_root: false,
        }
    }

    /// The command line that launches a plan as this place's caller.
    pub fn launcher(&self, plan: &Plan) -> Command {
        let json = serde_json::to_string(plan).unwrap();
        let file = self.path(&format!("plan-{}.json", unique()));
        fs::write(&file, json).unwrap();
        let mut command = Command::new(self.path("launch"));
        command.arg(file).env("ENVD_TEST_SECRET", "of the caller");
        self.impersonate(&mut command);
        command
    }

    /// Makes a command run as this place's caller.
    pub fn impersonate(&self, command: &mut Command) {
        if self.caller == Caller::Ordinary {
            command.uid(ORDINARY).gid(ORDINARY);
        }
    }

    /// Launches a plan and waits.
    pub fn run(&self, plan: &Plan) -> Outcome {
        finish(self.launcher(plan))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // An overlay leaves a directory without any permission in its work directory.
        let work = self.path("work/work");
        let _ = fs::set_permissions(work, fs::Permissions::from_mode(0o700));
    }
}

/// Runs a command without input to its end.
pub fn finish(mut command: Command) -> Outcome {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let child = loop {
        match command.spawn() {
            // A test beside this one has just forked while the program was being copied, and not executed anything yet.
            Err(error)
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy
                    && start.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            spawned => break spawned.unwrap(),
        }
    };
    await_end(child)
}

/// Waits for a child, and kills it when it takes too long.
pub fn await_end(mut child: Child) -> Outcome {
    fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }
    let (output, errors) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Outcome {
        status,
        output: output.join().unwrap(),
        errors: errors.join().unwrap(),
    }
}

/// Tries until it holds, or until patience ends.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A name that nobody else has.
pub fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{count}", std::process::id())
}

/// The example program.
fn launcher() -> &'static Path {
    static LAUNCHER: OnceLock<PathBuf> = OnceLock::new();
    LAUNCHER.get_or_init(|| {
        // Running one test target alone builds no examples, and may find an old one.
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            let launch = [
                "build",
                "--quiet",
                "-p",
                "envd-shims",
                "--example",
                "launch",
            ];
            assert!(build.args(launch).status().unwrap().success());
        }
        let tests = std::env::current_exe().unwrap();
        tests.ancestors().nth(2).unwrap().join("examples/launch")
    })
}
