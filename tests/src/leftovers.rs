//! What a command left on the machine: processes, mounts, files. The promise is none outside store and project.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::sandbox::Sandbox;

/// How long the kernel may take to tear down what is already dead: a killed PID namespace ends asynchronously.
const GRACE: Duration = Duration::from_secs(5);

/// Where a careless program leaves files.
const SHARED: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

/// The state before, to compare with.
#[derive(Debug)]
pub struct Watch {
    directory: PathBuf,
    own: Vec<PathBuf>,
    files: BTreeSet<PathBuf>,
}

impl Watch {
    /// Notes what is there now.
    pub fn start(sandbox: &Sandbox) -> Self {
        let mut watch = Self {
            directory: sandbox.directory().to_owned(),
            own: vec![sandbox.store(), sandbox.project()],
            files: BTreeSet::new(),
        };
        watch.files = watch.files_now();
        watch
    }

    /// Panics if a process, a mount or a file is there that was not.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.left_for_good();
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    /// What is left when the kernel has had its time, a line each.
    pub fn left_for_good(&self) -> Vec<String> {
        let end = Instant::now() + GRACE;
        loop {
            let left = self.left();
            if left.is_empty() || Instant::now() >= end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is left now, a line each.
    pub fn left(&self) -> Vec<String> {
        let mut left = self.processes();
        left.extend(mounts(&self.directory));
        let new = self.files_now();
        left.extend(
            new.difference(&self.files)
                .map(|path| format!("file {}", path.display())),
        );
        left
    }

    /// Processes that have to do with the sandbox: they carry its path in their environment, their command line, or
    /// the mounts they see (an environment binds the project).
    fn processes(&self) -> Vec<String> {
        let needle = self.directory.to_str().expect("our own name").as_bytes();
        let own = std::process::id().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")
            .expect("proc is mounted")
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let concerns = ["environ", "cmdline", "mountinfo"].iter().any(|file| {
                std::fs::read(entry.path().join(file)).is_ok_and(|bytes| contains(&bytes, needle))
            });
            if concerns {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                found.push(format!("process {name}: {line}"));
            }
        }
        found
    }

    fn files_now(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        collect(&self.directory, &self.own, &mut files);
        for directory in SHARED {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                // Other tests' sandboxes come and go beside this one.
                if name.contains("envd") && !name.starts_with("envd-test-") {
                    files.insert(entry.path());
                }
            }
        }
        files
    }
}

fn collect(directory: &Path, except: &[PathBuf], files: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if except.contains(&path) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, except, files);
        }
        files.insert(path);
    }
}

/// Mounts in our own namespace that have to do with a directory.
fn mounts(directory: &Path) -> Vec<String> {
    let needle = directory.to_str().expect("our own name");
    std::fs::read_to_string("/proc/self/mountinfo")
        .expect("proc is mounted")
        .lines()
        .filter(|line| line.contains(needle))
        .map(|line| format!("mount {line}"))
        .collect()
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watch that sees nothing would prove nothing.
    #[test]
    fn a_process_and_a_file_are_seen() {
        let sandbox = Sandbox::new();
        let watch = Watch::start(&sandbox);
        let mut child = sandbox.command("sleep").arg("60").spawn().unwrap();
        std::fs::write(sandbox.path("home").join("litter"), "").unwrap();
        // Between fork and exec the child still looks like this process.
        let end = Instant::now() + GRACE;
        while watch.left().len() < 2 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = watch.left().join("\n");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            left.contains("sleep 60") && left.contains("litter"),
            "{left}"
        );
        std::fs::remove_file(sandbox.path("home").join("litter")).unwrap();
        watch.assert_nothing_left();
    }
}
