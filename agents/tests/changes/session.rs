//! A session as the product has it: an overlay over a project in namespaces of its own, made by the launcher, whose upper
//! directory lies outside. What a script does inside is what an agent could do.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use envd_agents::changes::{Changes, Layers, Scope};
use envd_shims::plan::{self, Ids, Mount, Namespaces, Plan, Privileges, Root, Seccomp, Upper};
use envd_store::TreePath;
use tempfile::TempDir;

/// Names the example program `launch` of envd-shims where it cannot be built.
pub const LAUNCHER: &str = "ENVD_TEST_LAUNCHER";

pub struct Session {
    directory: TempDir,
    /// Names of frozen upper directories, the topmost first.
    pub frozen: Vec<String>,
}

/// A path inside a project.
pub fn path(text: impl AsRef<[u8]>) -> TreePath {
    TreePath::new(text.as_ref()).unwrap()
}

impl Session {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("envd-agents-")
            .tempdir()
            .unwrap();
        let session = Session {
            directory,
            frozen: Vec::new(),
        };
        for name in ["project", "upper", "work"] {
            fs::create_dir(session.at(name)).unwrap();
        }
        // What the environment's own root would have: here, both are one.
        for name in ["usr", "proc", "dev", "tmp"] {
            fs::create_dir(session.project(name)).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), session.project(link)).unwrap();
        }
        session
    }

    /// A path beside the project.
    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path in the project.
    pub fn project(&self, name: &str) -> PathBuf {
        self.at("project").join(name)
    }

    /// A path in the upper directory.
    pub fn upper(&self, name: &str) -> PathBuf {
        self.at("upper").join(name)
    }

    /// Writes a file of the project, with the directories it is in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        write(&self.project(name), content);
        self
    }

    /// Writes a file where only somebody who got out of the session could.
    pub fn plant(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        write(&self.upper(name), content);
        self
    }

    /// The session's upper directories, the topmost first.
    pub fn uppers(&self) -> Vec<PathBuf> {
        let frozen = self.frozen.iter().map(|name| self.at(name));
        std::iter::once(self.at("upper")).chain(frozen).collect()
    }

    /// Runs a shell script inside, at the top of the project. It must succeed.
    pub fn inside(&self, script: &str) -> String {
        let script = format!("set -e\n{script}");
        let json = serde_json::to_string(&self.plan(&script)).unwrap();
        let file = self.at("plan.json");
        fs::write(&file, json).unwrap();
        let output = Command::new(launcher())
            .arg(file)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn plan(&self, script: &str) -> Plan {
        let mut lowers: Vec<_> = self.frozen.iter().map(|name| self.at(name)).collect();
        lowers.push(self.at("project"));
        Plan {
            root: Root::Overlay {
                lowers,
                upper: Upper::Directory {
                    upper: self.at("upper"),
                    work: self.at("work"),
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
                Mount::Tmpfs {
                    target: "/tmp".into(),
                    mode: 0o1777,
                    size: None,
                },
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
                program: "/bin/sh".into(),
                arguments: vec!["-c".into(), script.into()],
                environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
                directory: "/".into(),
                umask: Some(0o022),
                new_session: true,
            },
            privileges: Privileges {
                capabilities: vec![],
                seccomp: Seccomp::Lenient,
                landlock: None,
                record_ownership: false,
            },
            limits: BTreeMap::new(),
        }
    }

    pub fn layers(&self) -> Layers {
        Layers::open(self.uppers(), self.at("project")).unwrap()
    }

    /// What the session changed.
    pub fn changes(&self) -> Changes {
        self.layers().changes(&Scope::default()).unwrap()
    }

    /// Each change in a word: `+` added, `~` modified, `-` deleted, `m` mode, `t` type.
    pub fn summary(&self) -> Vec<String> {
        summary(&self.changes())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // An overlay leaves a directory without any permission in its work directory.
        let work = self.at("work/work");
        let _ = fs::set_permissions(work, fs::Permissions::from_mode(0o700));
    }
}

pub fn summary(changes: &Changes) -> Vec<String> {
    use envd_agents::changes::ChangeKind;
    let one = |change: &envd_agents::changes::Change| {
        let sign = match change.kind {
            ChangeKind::Added => '+',
            ChangeKind::Modified => '~',
            ChangeKind::Deleted => '-',
            ChangeKind::ModeChanged => 'm',
            ChangeKind::TypeChanged => 't',
        };
        let name = envd_agents::changes::escape::name(change.path.as_bytes());
        format!("{sign} {name}")
    };
    changes.entries.iter().map(one).collect()
}

pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The example program.
pub fn launcher() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os(LAUNCHER) {
            return path.into();
        }
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
