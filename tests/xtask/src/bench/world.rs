//! Where benchmarks run: a directory on disk with projects and stores of their own, kept between runs for what is costly
//! to fetch (`target/bench`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    machine::{succeed, workspace},
    measure::Result,
};

/// G of the specification: what a working developer has installed, from bookworm.
pub const G: [&str; 11] = [
    "python3",
    "python3-pip",
    "python3-venv",
    "build-essential",
    "rustc",
    "cargo",
    "nodejs",
    "npm",
    "golang-go",
    "git",
    "curl",
];

/// What else is in G.
pub const ALSO: [&str; 1] = ["ca-certificates"];

/// The binary, the directory and how often heavy things are measured.
pub struct World {
    /// The release binary.
    pub envd: PathBuf,
    /// `target/bench`.
    pub directory: PathBuf,
    /// Runs of the heavy measurements; light ones have their own number.
    pub runs: usize,
}

impl World {
    /// In `target/bench`.
    pub fn new(envd: PathBuf, runs: usize) -> Result<Self> {
        let directory = workspace().join("target/bench");
        fs::create_dir_all(&directory)?;
        Ok(Self {
            envd,
            directory,
            runs,
        })
    }

    /// A project with these channels and packages, made or rewritten.
    pub fn project(&self, name: &str, channel: &str, packages: &[&str]) -> Result<PathBuf> {
        let project = self.directory.join(name);
        fs::create_dir_all(&project)?;
        let text = format!("[env]\nchannels = [\"{channel}\"]\npackages = {packages:?}\n");
        let path = project.join("envd.toml");
        // Unchanged, it is not touched: whoever compares times must see no change.
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            fs::write(&path, text)?;
        }
        Ok(project)
    }

    /// A store's directory.
    pub fn store(&self, name: &str) -> PathBuf {
        self.directory.join(format!("store-{name}"))
    }

    /// `envd` in a project, on a store.
    pub fn envd(&self, project: &Path, store: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.envd);
        command
            .args(arguments)
            .current_dir(project)
            .env("ENVD_STORE", store);
        command
    }

    /// Removes a directory tree, whatever the modes in it.
    pub fn remove(&self, path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        if fs::remove_dir_all(path).is_err() {
            succeed(Command::new("chmod").args(["-R", "u+rwx"]).arg(path))?;
            fs::remove_dir_all(path)?;
        }
        Ok(())
    }

    /// The line above the table: what the numbers were taken on.
    pub fn describe(&self, root: bool) -> Result<String> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let processors = std::thread::available_parallelism()?;
        Ok(format!(
            "`cargo xtask bench`, {} processors, Linux {}, {}; medians of interleaved runs, heavy ones {} times.",
            processors,
            kernel.trim(),
            if root {
                "as root"
            } else {
                "as an ordinary user"
            },
            self.runs
        ))
    }
}
