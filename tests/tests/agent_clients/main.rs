//! The official clients of the Model Context Protocol drive `envd agent mcp` through a whole coding task, with a compiler of
//! Debian's real archive: what users' agents do, with none of our own code at the other end.

#[path = "../../../agents/tests/mcp/peers.rs"]
mod peers;

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use envd_tests::{
    leftovers::Watch,
    requirement,
    sandbox::{PATIENCE, Sandbox, set_mode, shared_store, wait, workspace},
    user::Account,
};
use peers::{bounded, drive};

/// Held by each test: what is left in the store that they share would be anybody's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a client works, and what is there before it does.
struct Ground {
    sandbox: Sandbox,
    account: Option<Account>,
    store: PathBuf,
    watch: Watch,
}

impl Ground {
    fn new(account: Option<Account>) -> Self {
        let sandbox = Sandbox::owned_by(account.clone());
        let (sandbox, store) = match &account {
            Some(_) => {
                let store = sandbox.store();
                (sandbox, store)
            }
            None => {
                let store = shared_store().to_owned();
                (
                    sandbox.variable("ENVD_STORE", store.to_str().expect("plain")),
                    store,
                )
            }
        };
        sandbox.write("README", "a project\n");
        let watch = Watch::start(&sandbox);
        Self {
            sandbox,
            account,
            store,
            watch,
        }
    }

    /// The words of a command that starts `envd agent mcp` here, whatever the directory, the environment and the user of who
    /// does.
    fn server(&self, options: &[&str]) -> Vec<OsString> {
        let arguments = [&["agent", "mcp"], options].concat();
        let envd = self.sandbox.envd_command(&arguments);
        let mut words: Vec<OsString> = Vec::new();
        if let Some(account) = &self.account {
            let uid = account.uid();
            words.extend(["setpriv".into(), "--clear-groups".into()]);
            words.extend([
                format!("--reuid={uid}").into(),
                format!("--regid={uid}").into(),
            ]);
        }
        words.extend([
            "env".into(),
            "-i".into(),
            "-C".into(),
            self.sandbox.project().into(),
        ]);
        for (name, value) in envd.get_envs() {
            let mut variable = name.to_owned();
            variable.push("=");
            variable.push(value.expect("it is set"));
            words.push(variable);
        }
        words.push(envd.get_program().to_owned());
        words.extend(envd.get_args().map(ToOwned::to_owned));
        words
    }

    /// Nothing of what was lent is left: no process, no mount, no file but what was applied.
    #[track_caller]
    fn assert_empty(&self, applied: &[&str]) {
        self.watch.assert_nothing_left();
        let places = fs::read_dir(self.store.join("tmp")).expect("the store is there");
        assert_eq!(
            places.count(),
            0,
            "files of environments are left in the store"
        );
        let mut names: Vec<_> = fs::read_dir(self.sandbox.project())
            .expect("the project is there")
            .flatten()
            .map(|entry| entry.file_name().into_string().expect("plain"))
            .collect();
        names.sort();
        assert_eq!(names, applied);
    }
}

/// A server over HTTP that is ended as a service manager does.
struct Host {
    child: Child,
    /// Kept open: the server may say something.
    _errors: BufReader<ChildStderr>,
    url: String,
    token: String,
}

impl Host {
    fn new(ground: &Ground) -> Self {
        let token = "0123456789abcdef".repeat(4);
        let words = ground.server(&["--http", "127.0.0.1:0"]);
        // `env` has to pass it on.
        let at = words
            .iter()
            .position(|word| word == "-C")
            .expect("it is there")
            + 2;
        let mut words = words;
        words.insert(at, format!("ENVD_MCP_TOKEN={token}").into());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("the server can be started");
        let mut errors = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        errors.read_line(&mut line).expect("it says where it is");
        let url = line
            .trim()
            .strip_prefix("serving ")
            .expect(&line)
            .to_owned();
        Self {
            child,
            _errors: errors,
            url,
            token,
        }
    }

    fn end(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        let status = wait(&mut self.child, PATIENCE).expect("it ends when it is asked to");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn task(name: &str) -> PathBuf {
    workspace().join("tests/tests/agent_clients").join(name)
}

/// Whether there is what all tests here need.
fn possible() -> bool {
    requirement::debian_archive() && requirement::user_namespaces()
}

fn python(packages: &Path, mode: &str) -> Command {
    let mut client = bounded("python3");
    client
        .env("PYTHONPATH", packages)
        .arg(task("coding.py"))
        .arg(mode);
    client
}

#[test]
fn the_python_client_codes_over_both_transports() {
    let Some(packages) = peers::or_skip(peers::python()) else {
        return;
    };
    if !possible() {
        return;
    }
    let _alone = alone();
    for (mode, revision) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let ground = Ground::new(None);
        let said = drive(
            python(&packages, mode)
                .arg("stdio")
                .args(ground.server(&[])),
        );
        assert!(said.starts_with(revision), "{said}");
        ground.assert_empty(&["README", "check.sh", "sum.c"]);

        let ground = Ground::new(None);
        let host = Host::new(&ground);
        let said = drive(python(&packages, mode).args(["http", &host.url, &host.token]));
        assert!(said.starts_with(revision), "{said}");
        host.end();
        ground.assert_empty(&["README", "check.sh", "sum.c"]);
        let applied = fs::read_to_string(ground.sandbox.project().join("sum.c")).expect("applied");
        assert!(
            applied.contains("long total = 0;") && applied.contains("10);"),
            "{applied}"
        );
    }
}

#[test]
fn the_typescript_clients_code_over_both_transports() {
    let Some(directory) = peers::or_skip(peers::node()) else {
        return;
    };
    if !possible() {
        return;
    }
    let _alone = alone();
    let script = peers::script(&directory, &task("coding.mjs"));
    for revision in ["2025-11-25", "2026-07-28"] {
        let node = || {
            let mut client = bounded("node");
            client.arg(&script).arg(revision);
            client
        };
        let ground = Ground::new(None);
        assert_eq!(
            drive(node().arg("stdio").args(ground.server(&[]))),
            revision
        );
        ground.assert_empty(&["README", "src"]);

        let ground = Ground::new(None);
        let host = Host::new(&ground);
        assert_eq!(
            drive(node().args(["http", &host.url, &host.token])),
            revision
        );
        host.end();
        ground.assert_empty(&["README", "src"]);
    }
}

/// The same with a server that is not root, in a store of its own.
#[test]
fn a_client_of_an_ordinary_users_server() {
    let Some(packages) = peers::or_skip(peers::python()) else {
        return;
    };
    if !possible() {
        return;
    }
    let _alone = alone();
    // Whoever runs the tests is an ordinary user already, or can become one.
    let Some(account) = Account::ordinary() else {
        return;
    };
    let ground = Ground::new(Some(account));
    set_mode(ground.sandbox.directory(), 0o755);
    let said = drive(
        python(&packages, "auto")
            .arg("stdio")
            .args(ground.server(&[])),
    );
    assert_eq!(said, "2026-07-28 heard");
    ground.assert_empty(&["README", "check.sh", "sum.c"]);
}
