//! `cargo xtask test`: the whole suite, against the binary as it is shipped, as whoever calls and, called by root, once
//! more as an ordinary user.
//!
//! Unit tests run in the development profile and the end-to-end tests drive a release binary (`ENVD_BIN`): unpacking and
//! signatures without optimisation would cost more than the second build.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use nix::unistd::User;

use crate::{
    machine::{self, ORDINARY_USER, cargo, is_root, succeed, workspace},
    measure::Result,
};

/// One test executable.
struct Executable {
    path: PathBuf,
    /// Folder of its crate, relative to the workspace.
    room: PathBuf,
}

impl Executable {
    /// Its name without the digits cargo adds.
    fn name(&self) -> String {
        let stem = self.path.file_name().unwrap_or_default().to_string_lossy();
        match stem.rsplit_once('-') {
            Some((name, _)) => name.to_owned(),
            None => stem.into_owned(),
        }
    }
}

/// Who runs, from where.
struct Runner {
    label: &'static str,
    user: Option<User>,
    /// The workspace, or a copy of its sources that the user can read.
    sources: PathBuf,
    envd: PathBuf,
}

/// What cargo's summary lines said.
#[derive(Default)]
struct Total {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
    lines: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &[&str]) -> Result<()> {
    let only: Vec<_> = machine::options(arguments, &["--only"])?
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    machine::prepare(&machine::FOR_TESTS)?;
    let envd = machine::build_envd()?;
    let executables: Vec<_> = build_tests()?
        .into_iter()
        .filter(|executable| {
            let name = executable.name();
            only.is_empty() || only.iter().any(|part| name.contains(part))
        })
        .collect();
    let mut total = Total::default();
    let caller = Runner {
        label: if is_root() { "as root" } else { "as this user" },
        user: None,
        sources: workspace(),
        envd: envd.clone(),
    };
    for executable in &executables {
        run_one(&caller, executable, &executable.path, &mut total)?;
    }
    if only.is_empty() {
        doctests(&mut total)?;
    }
    if is_root() {
        as_ordinary_user(&executables, &envd, &mut total)?;
    }
    conclude(&total)
}

/// Builds every test of the workspace and asks cargo where they are.
fn build_tests() -> Result<Vec<Executable>> {
    let mut child = cargo()
        .args([
            "test",
            "--workspace",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let root = workspace();
    let mut executables = Vec::new();
    let stdout = child.stdout.take().expect("piped");
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        // Ordinary programs are built too, for the tests to use; only the profile tells.
        let is_test = line
            .split_once("\"profile\":{")
            .and_then(|(_, rest)| rest.split_once('}'))
            .is_some_and(|(profile, _)| profile.contains("\"test\":true"));
        if let (true, Some(path), Some(manifest)) = (
            is_test,
            text_of(&line, "executable"),
            text_of(&line, "manifest_path"),
        ) {
            let crate_folder = Path::new(&manifest).parent().unwrap_or(&root);
            executables.push(Executable {
                path: path.into(),
                room: crate_folder
                    .strip_prefix(&root)
                    .unwrap_or(crate_folder)
                    .to_owned(),
            });
        }
    }
    if !child.wait()?.success() {
        return Err("the tests do not build".into());
    }
    if executables.is_empty() {
        return Err("cargo named no test executable".into());
    }
    Ok(executables)
}

/// The value of a text field of one line of cargo's JSON. Paths with quotes in them are not supported.
fn text_of(line: &str, field: &str) -> Option<String> {
    let start = line.rfind(&format!("\"{field}\":\""))? + field.len() + 4;
    let length = line[start..].find('"')?;
    Some(line[start..start + length].to_owned())
}

/// Runs one executable as cargo would, its output passed on and its summary kept.
fn run_one(runner: &Runner, executable: &Executable, path: &Path, total: &mut Total) -> Result<()> {
    let name = executable.name();
    println!("\n     Running {name} ({})", runner.label);
    std::io::stdout().flush()?;
    let room = runner.sources.join(&executable.room);
    let mut command = Command::new(path);
    command
        .current_dir(&room)
        .env("ENVD_BIN", &runner.envd)
        .env("ENVD_TESTS_WORKSPACE", &runner.sources)
        .env("CARGO_MANIFEST_DIR", &room)
        .env("INSTA_WORKSPACE_ROOT", &runner.sources)
        .env("INSTA_UPDATE", "no")
        .stdout(Stdio::piped());
    if let Some(user) = &runner.user {
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .env("HOME", &user.dir)
            .env("USER", &user.name)
            .env("LOGNAME", &user.name)
            // The user has no toolchain: what a test needs is beside it.
            .env_remove("CARGO")
            .env_remove("XDG_RUNTIME_DIR");
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", path.display()))?;
    let label = format!("{name} ({})", runner.label);
    match watched(&mut child)? {
        Some(line) => total.add(&label, &line),
        None => total.broke(&label, "it ended without a summary, or was stopped"),
    }
    Ok(())
}

/// A test executable that takes longer hangs: it is ended, so that the others have their turn and it is named.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Passes on what a test executable prints until it ends or is ended; its summary.
fn watched(child: &mut Child) -> Result<Option<String>> {
    let stdout = child.stdout.take().expect("piped");
    // Read elsewhere: what a hanging test has started may keep the pipe open for longer than the test is there.
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let end = Instant::now() + PATIENCE;
    let mut summary = None;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                if line.starts_with("test result: ") {
                    summary = Some(line);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("it has run for {} s and is ended", PATIENCE.as_secs());
                machine::kill_tree(child.id());
                break;
            }
        }
    }
    child.wait()?;
    Ok(summary)
}

/// The documentation's examples, which only cargo can run.
fn doctests(total: &mut Total) -> Result<()> {
    println!("\n     Running documentation tests");
    let output = cargo()
        .args(["test", "--workspace", "--doc"])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    for line in text
        .lines()
        .filter(|line| line.starts_with("test result: "))
    {
        total.add("documentation", line);
    }
    if !output.status.success() {
        total.broke("documentation", "failed");
    }
    Ok(())
}

/// Test executables that are not run a second time: what their clients are made of lies in the target directory. The protocol of
/// agents over a service for tests is the same for every user, and `agent_clients` has a server of an ordinary user itself.
const FOR_ONE_USER: [&str; 2] = ["mcp", "agent_clients"];

/// The same executables as an ordinary user, from a copy where the user may not read the originals.
fn as_ordinary_user(executables: &[Executable], envd: &Path, total: &mut Total) -> Result<()> {
    if User::from_name(ORDINARY_USER)?.is_none() {
        succeed(Command::new("useradd").args([
            "--create-home",
            "--shell",
            "/bin/sh",
            ORDINARY_USER,
        ]))?;
    }
    let user = User::from_name(ORDINARY_USER)?.ok_or("useradd made no account")?;
    let copy = PathBuf::from(format!("/tmp/envd-xtask-{}", std::process::id()));
    let result = copied(executables, envd, &copy).and_then(|(envd, paths)| {
        let runner = Runner {
            label: "as an ordinary user",
            user: Some(user),
            sources: copy.join("workspace"),
            envd,
        };
        let both = executables.iter().zip(&paths);
        for (executable, path) in both.filter(|(one, _)| !FOR_ONE_USER.contains(&&*one.name())) {
            run_one(&runner, executable, path, total)?;
        }
        Ok(())
    });
    fs::remove_dir_all(&copy)?;
    result
}

/// Copies sources, envd and the test executables to where anybody may read them: the workspace may lie below `/root`.
fn copied(executables: &[Executable], envd: &Path, copy: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    fs::create_dir(copy)?;
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755))?;
    let programs = copy.join("programs");
    fs::create_dir(&programs)?;
    let mut paths = Vec::new();
    for executable in executables {
        let target = programs.join(executable.path.file_name().unwrap_or_default());
        fs::copy(&executable.path, &target)?;
        paths.push(target);
    }
    copy_examples(executables, copy)?;
    let program = programs.join("envd");
    fs::copy(envd, &program)?;
    copy_sources(&workspace(), &copy.join("workspace"))?;
    succeed(Command::new("chmod").args(["-R", "a+rX"]).arg(copy))?;
    Ok((program, paths))
}

/// The examples that cargo built for the tests, where a test looks for them: `examples/` beside the directory it is in.
fn copy_examples(executables: &[Executable], copy: &Path) -> Result<()> {
    let built = executables
        .first()
        .and_then(|executable| executable.path.ancestors().nth(2));
    let Some(built) = built.map(|profile| profile.join("examples")) else {
        return Ok(());
    };
    let target = copy.join("examples");
    fs::create_dir(&target)?;
    for entry in fs::read_dir(built)?.flatten() {
        let name = entry.file_name();
        // Each is there a second time under a name with digits, and has notes about its sources.
        if entry.file_type()?.is_file() && !name.to_string_lossy().contains(['-', '.']) {
            fs::copy(entry.path(), target.join(name))?;
        }
    }
    Ok(())
}

fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_str(), Some("target" | ".git" | ".envd")) {
            continue;
        }
        let (kind, target) = (entry.file_type()?, to.join(&name));
        if kind.is_dir() {
            copy_sources(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

impl Total {
    fn add(&mut self, label: &str, line: &str) {
        let count = |word: &str| {
            line.split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.passed += count(" passed");
        self.failed += count(" failed");
        if !line.starts_with("test result: ok") {
            self.failures.push(label.to_owned());
        }
        self.lines.push(format!("{line} [{label}]"));
    }

    fn broke(&mut self, label: &str, problem: &str) {
        self.failed += 1;
        self.failures.push(label.to_owned());
        self.lines
            .push(format!("test result: FAILED. {problem} [{label}]"));
    }
}

fn conclude(total: &Total) -> Result<()> {
    println!("\nsummary:");
    for line in &total.lines {
        println!("{line}");
    }
    let verdict = if total.failures.is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; {} executables",
        total.passed,
        total.failed,
        total.lines.len()
    );
    if total.failures.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", total.failures.join(", ")).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A summary that is misread would call a failing suite green.
    #[test]
    fn summaries_are_added_up() {
        let mut total = Total::default();
        total.add(
            "a",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.26s",
        );
        total.add(
            "b",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        );
        assert_eq!((total.passed, total.failed), (15, 2));
        assert_eq!(total.failures, ["b"]);
    }

    #[test]
    fn cargos_lines_are_read() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/w/store/Cargo.toml","profile":{"test":true},"executable":"/w/target/debug/deps/envd_store-0a1b"}"#;
        assert_eq!(
            text_of(line, "executable").as_deref(),
            Some("/w/target/debug/deps/envd_store-0a1b")
        );
        assert_eq!(
            text_of(line, "manifest_path").as_deref(),
            Some("/w/store/Cargo.toml")
        );
    }
}
