//! The official clients, from their registries into the target directory, once for all who drive something with them: the tests
//! beside this file, and those of the whole product, which take it by its path.
//!
//! Without a registry a test that needs them is skipped, with a reason; with `ENVD_TESTS_MUST_RUN=1` it fails instead.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The releases that are driven: those that were current when the server was last looked at.
const PYTHON_CLIENT: &str = "mcp==2.3.0";
const NODE_CLIENTS: [&str; 2] = [
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
];

fn must_run() -> bool {
    std::env::var_os("ENVD_TESTS_MUST_RUN").is_some_and(|value| value == "1")
}

/// What a client needs, made once for all test processes, or why it cannot be had.
fn prepared(name: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (partial, lock) = (
        directory.with_extension("part"),
        directory.with_extension("lock"),
    );
    let lock = File::create(lock).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if !directory.exists() {
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).map_err(|error| error.to_string())?;
        make(&partial)?;
        fs::rename(&partial, &directory).map_err(|error| error.to_string())?;
    }
    Ok(directory)
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&done.stderr);
        Err(format!("{command:?}: {}", said.trim()))
    }
}

/// Packages of the Python client, to be put on `PYTHONPATH`. A moved virtual environment would not work; its packages do.
pub fn python() -> Result<PathBuf, String> {
    let name = format!("python-{}", PYTHON_CLIENT.replace("==", "-"));
    prepared(&name, |directory| {
        let venv = directory.join("venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(directory.join("packages"))
            .arg(PYTHON_CLIENT))
    })
    .map(|directory| directory.join("packages"))
}

/// A directory whose `node_modules` have the TypeScript clients.
pub fn node() -> Result<PathBuf, String> {
    let name = format!("node{}", NODE_CLIENTS.join("").replace(['/', '@'], "-"));
    prepared(&name, |directory| {
        fs::write(directory.join("package.json"), "{\"private\": true}\n")
            .map_err(|error| error.to_string())?;
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts"])
            .args(NODE_CLIENTS)
            .current_dir(directory))
    })
}

/// A client's script, where Node finds the clients: modules are looked for beside it, links followed.
pub fn script(directory: &Path, source: &Path) -> PathBuf {
    let shared = include_str!("clients/connected.mjs");
    fs::write(directory.join("connected.mjs"), shared).expect("the directory is ours");
    let script = directory.join(source.file_name().expect("a file"));
    fs::copy(source, &script).expect("the directory is ours");
    script
}

/// What was prepared, if it was.
pub fn or_skip(what: Result<PathBuf, String>) -> Option<PathBuf> {
    match what {
        Ok(directory) => Some(directory),
        Err(reason) if must_run() => panic!("this test must run (ENVD_TESTS_MUST_RUN=1): {reason}"),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

/// A program that is killed when it has waited in vain for minutes.
pub fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["300", program]);
    command
}

/// Runs a client to its end; what it said.
pub fn drive(client: &mut Command) -> String {
    let done = client.output().expect("the client can be run");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}
