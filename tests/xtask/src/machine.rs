//! What tests and benchmarks need of the machine, and how they get it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::measure::Result;

/// Debian packages that tests need. Most are on any developer's machine.
pub const FOR_TESTS: [&str; 16] = [
    "binutils",
    "bsdutils",
    "busybox-static",
    "debian-archive-keyring",
    "dpkg",
    "gcc",
    "gpgv",
    "libc6-dev",
    "passwd",
    "qemu-system-x86",
    "strace",
    "tar",
    "uidmap",
    "util-linux",
    "xz-utils",
    "zstd",
];

/// Programs that tests drive wherever they come from, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("curl", "curl"),
    ("git", "git"),
    ("npm", "npm"),
    ("openssl", "openssl"),
    ("python3", "python3-venv"),
];

/// Debian packages that benchmarks need on top: the peers.
pub const FOR_BENCHMARKS: [&str; 3] = ["bubblewrap", "mmdebstrap", "tini"];

/// The ordinary user, the same one that the tests make for themselves.
pub const ORDINARY_USER: &str = "envd-tester";

/// Installs what is missing, as root; otherwise says what is.
pub fn prepare(packages: &[&str]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |program: &str| std::env::split_paths(&path).any(|at| at.join(program).exists());
    let programs = PROGRAMS.iter().filter(|(program, _)| !on_path(program));
    let missing: Vec<_> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .chain(programs.map(|(_, package)| *package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        eprintln!(
            "xtask: missing: {}. Tests that need them will skip or fail; as root this command installs them.",
            missing.join(" ")
        );
        return Ok(());
    }
    eprintln!("xtask: installing {}", missing.join(" "));
    let apt = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"])
            .args(arguments)
            .stdout(Stdio::null());
        succeed(&mut command)
    };
    // One source out of order must not stop the others: installing tells.
    if let Err(problem) = apt(&["update"]) {
        eprintln!("xtask: {problem}; trying to install all the same");
    }
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

/// Whether this is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a command and turns a failure into words.
pub fn succeed(command: &mut Command) -> Result<()> {
    let name = format!("{:?}", command.get_program());
    let status = command
        .status()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} ended with {status}").into())
    }
}

/// The workspace's directory.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/xtask lies in the workspace")
        .to_owned()
}

/// `cargo`, the one that started us if one did.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// The binary to test: `ENVD_BIN` if set, such as an installed one; else built here as it is shipped.
pub fn build_envd() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("ENVD_BIN") {
        return Ok(fs::canonicalize(given)?);
    }
    succeed(cargo().args(["build", "--release", "--package", "envd", "--bin", "envd"]))?;
    Ok(release_directory().join("envd"))
}

/// Where cargo puts what it builds with `--release`.
fn release_directory() -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    };
    target.join("release")
}

/// An example program of envd's, built as it would be shipped.
pub fn build_example(package: &str, name: &str) -> Result<PathBuf> {
    succeed(cargo().args([
        "build",
        "--release",
        "--package",
        package,
        "--example",
        name,
    ]))?;
    Ok(release_directory().join("examples").join(name))
}

/// Compiles a C program that stands alone.
pub fn compile(source: &Path, options: &[&str], program: &Path) -> Result<()> {
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-static"]).args(options);
    succeed(compiler.arg("-o").arg(program).arg(source))
}

/// The values of one option that may be given more than once, and a check that nothing else is there.
pub fn options<'a>(arguments: &[&'a str], known: &[&str]) -> Result<Vec<(&'a str, &'a str)>> {
    let mut found = Vec::new();
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        if !known.contains(option) {
            return Err(format!("unknown option {option}; known are {}", known.join(", ")).into());
        }
        let value = rest
            .next()
            .ok_or_else(|| format!("{option} needs a value"))?;
        found.push((*option, *value));
    }
    Ok(found)
}

/// Kills a process and all that descends from it.
pub fn kill_tree(process: u32) {
    // It first, stopped, so that it starts no more of them.
    let pid = Pid::from_raw(process as i32);
    let _ = kill(pid, Signal::SIGSTOP);
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|text| text.parse().ok())
        {
            kill_tree(child);
        }
    }
    let _ = kill(pid, Signal::SIGKILL);
}
