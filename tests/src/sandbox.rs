//! A scrubbed world for one test: home, store, project and XDG directories of its own, and nothing of the caller's
//! environment.

use std::{
    io::{self, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{archive::Archive, server::Server, user::Account};

/// How long a command may take before the test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The product's binary: `ENVD_BIN` if set, else the `envd` beside the test's own executable's directory, which
/// `cargo build -p envd` brings up to date once in a test process.
pub fn envd_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("ENVD_BIN") {
            return PathBuf::from(path);
        }
        let own = std::env::current_exe().expect("a test is a file");
        let profile = own
            .ancestors()
            .nth(2)
            .expect("target/PROFILE/deps/TEST")
            .to_owned();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .args(["build", "--quiet", "--package", "envd", "--bin", "envd"])
            .current_dir(workspace());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "cargo build --package envd failed");
        profile.join("envd")
    })
}

/// One store for all tests of this process that use the real archive, so that what they share is fetched once.
pub fn shared_store() -> &'static Path {
    static STORE: OnceLock<TempDir> = OnceLock::new();
    STORE.get_or_init(temporary).path()
}

fn temporary() -> TempDir {
    tempfile::Builder::new()
        .prefix("envd-test-")
        .tempdir()
        .expect("a temporary directory")
}

/// The workspace's source: `ENVD_TESTS_WORKSPACE` if set (the suite also runs from a copy), else where this was built.
pub fn workspace() -> PathBuf {
    match std::env::var_os("ENVD_TESTS_WORKSPACE") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("tests/ lies in the workspace")
            .to_owned(),
    }
}

/// The binary where an ordinary user can reach it, whatever the modes above the build directory are.
fn reachable_binary() -> PathBuf {
    static COPY: OnceLock<TempDir> = OnceLock::new();
    let directory = COPY.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        set_mode(directory.path(), 0o755);
        let copy = directory.path().join("envd");
        std::fs::copy(envd_binary(), &copy).expect("room for a copy of envd");
        set_mode(&copy, 0o755);
        // What another thread started while the copy was written holds it open for writing until it executes its program.
        let is_busy = || {
            let tried = Command::new(&copy).arg("--version").output();
            tried.is_err_and(|error| error.kind() == io::ErrorKind::ExecutableFileBusy)
        };
        for _ in 0..1000 {
            if !is_busy() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        directory
    });
    directory.path().join("envd")
}

/// Sets permission bits.
pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours to change");
}

/// A world of directories, gone when dropped.
#[derive(Debug)]
pub struct Sandbox {
    directory: Option<TempDir>,
    account: Option<Account>,
    variables: Vec<(String, String)>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// For whoever runs the tests.
    pub fn new() -> Self {
        Self::owned_by(None)
    }

    /// Whether its account is not whoever runs the tests, or those are run by nobody special.
    pub fn is_ordinary(&self) -> bool {
        self.account.is_some() || !nix::unistd::geteuid().is_root()
    }

    /// For an account; `None` is whoever runs the tests.
    pub fn owned_by(account: Option<Account>) -> Self {
        let sandbox = Self {
            directory: Some(temporary()),
            account,
            variables: Vec::new(),
        };
        for name in [
            "home", "project", "tmp", "run", "config", "cache", "data", "state",
        ] {
            std::fs::create_dir(sandbox.path(name)).expect("empty so far");
        }
        set_mode(&sandbox.path("run"), 0o700);
        sandbox.hand_over();
        sandbox
    }

    /// The same, knowing an archive by its mirror's address and its key.
    pub fn of(archive: &Archive, server: &Server) -> Self {
        Self::new().knowing(archive, server)
    }

    /// Adds the archive's addresses and key to the environment.
    pub fn knowing(mut self, archive: &Archive, server: &Server) -> Self {
        let keyring = self.path("archive.gpg");
        std::fs::write(&keyring, archive.key().keyring()).expect("writable");
        set_mode(&keyring, 0o644);
        let url = server.url();
        for (name, value) in [
            ("ENVD_DEBIAN_MIRROR", format!("{url}/debian")),
            (
                "ENVD_DEBIAN_SECURITY_MIRROR",
                format!("{url}/debian-security"),
            ),
            ("ENVD_SNAPSHOT_MIRROR", url.clone()),
            ("ENVD_DEBIAN_KEYRING", keyring.display().to_string()),
        ] {
            self = self.variable(name, &value);
        }
        self
    }

    /// Sets one more variable for every command.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Unsets a variable of [`Sandbox::variable`] or [`Sandbox::knowing`].
    pub fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// The directory that holds everything.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().expect("not dropped yet").path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The project's directory.
    pub fn project(&self) -> PathBuf {
        self.path("project")
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.project().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("writable");
        }
        std::fs::write(&path, text).expect("writable");
        if let Some(account) = &self.account {
            account.own(&self.project());
        }
    }

    /// Writes an `envd.toml` with trixie and these packages.
    pub fn wants(&self, packages: &[&str]) {
        self.wants_of(&["debian:trixie"], packages);
    }

    /// Writes an `envd.toml` with these channels and packages.
    pub fn wants_of(&self, channels: &[&str], packages: &[&str]) {
        self.write(
            "envd.toml",
            &format!("[env]\nchannels = {channels:?}\npackages = {packages:?}\n"),
        );
    }

    /// The lock's text.
    pub fn lock(&self) -> String {
        std::fs::read_to_string(self.project().join("envd.lock")).expect("envd wrote a lock")
    }

    /// Gives everything to the account, after a test wrote files as root.
    pub fn hand_over(&self) {
        if let Some(account) = &self.account {
            account.own(self.directory());
        }
    }

    /// Any program in this world, in the project's directory.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .current_dir(self.project())
            .stdin(Stdio::null())
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("SHELL", "/bin/sh")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ENVD_STORE", self.store())
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        command
    }

    /// `envd` with these arguments, not yet started.
    pub fn envd_command(&self, arguments: &[&str]) -> Command {
        let binary = match self.account {
            Some(_) => reachable_binary(),
            None => envd_binary().to_owned(),
        };
        let mut command = self.command(binary);
        command.args(arguments);
        command
    }

    /// Runs `envd` to its end.
    pub fn envd(&self, arguments: &[&str]) -> Outcome {
        finish(&mut self.envd_command(arguments))
    }

    /// `envd run -- sh -c SCRIPT`.
    pub fn run_shell(&self, script: &str) -> Outcome {
        self.envd(&["run", "--", "sh", "-c", script])
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else {
            return;
        };
        // Views may hold directories without write permission, which an ordinary owner must open first.
        if std::fs::remove_dir_all(directory.path()).is_err() {
            let _ = Command::new("chmod")
                .args(["-R", "u+rwx"])
                .arg(directory.path())
                .output();
        }
    }
}

/// How a command ended and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Panics unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Panics unless it failed, by an exit code of its own: a panic or a signal is no error message.
    #[track_caller]
    pub fn fails(self) -> Self {
        let code = self.status.code();
        assert!(
            code.is_some_and(|code| code != 0 && code != 101),
            "it should have failed with a message\n{self}"
        );
        assert!(!self.stderr.contains("panicked at"), "{self}");
        self
    }

    /// Panics unless it ended with this code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.status.code(), Some(expected), "{self}");
        self
    }

    /// Panics unless standard error holds each of these, whatever the case.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let said = self.stderr.to_lowercase();
        for word in words {
            assert!(
                said.contains(&word.to_lowercase()),
                "nothing said about {word:?}\n{self}"
            );
        }
        self
    }

    /// Panics unless standard error holds one of these, whatever the case.
    #[track_caller]
    pub fn says_one_of(self, words: &[&str]) -> Self {
        let said = self.stderr.to_lowercase();
        assert!(
            words.iter().any(|word| said.contains(&word.to_lowercase())),
            "nothing said about any of {words:?}\n{self}"
        );
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} (signal {:?})", self.status, self.status.signal())?;
        writeln!(f, "--- standard output\n{}", self.stdout)?;
        write!(f, "--- standard error\n{}", self.stderr)
    }
}

/// Runs a command to its end, bounded by [`PATIENCE`], its output kept.
pub fn finish(command: &mut Command) -> Outcome {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    conclude(child)
}

/// Waits for a child in a process group of its own, with both outputs piped.
pub fn conclude(mut child: Child) -> Outcome {
    let drain = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = drain(child.stdout.take().map(|stream| Box::new(stream) as _));
    let stderr = drain(child.stderr.take().map(|stream| Box::new(stream) as _));
    let status = wait(&mut child, PATIENCE);
    let late = status.is_none();
    let status = status.unwrap_or_else(|| {
        let group = nix::unistd::Pid::from_raw(child.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        child.wait().expect("it was killed")
    });
    let outcome = Outcome {
        status,
        stdout: stdout.join().expect("reading does not panic"),
        stderr: stderr.join().expect("reading does not panic"),
    };
    assert!(!late, "killed after {PATIENCE:?}\n{outcome}");
    outcome
}

/// Waits so long for a child to end by itself.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    loop {
        match child.try_wait().expect("it is our child") {
            Some(status) => return Some(status),
            None if Instant::now() >= end => return None,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
