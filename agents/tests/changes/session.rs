//! A session as the product has it: an overlay over a project in namespaces of its own, made by the launcher, whose upper
//! directory lies outside. What a script does inside is what an agent could do.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsFd,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use envd_agents::changes::{
    Applied, ApplyError, Base, Changes, Chosen, Guard, Layers, Moment, NoBaseContent, Refusal,
    Scope,
};
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
                terminal: false,
            },
            privileges: Privileges {
                capabilities: vec![],
                seccomp: Seccomp::Lenient,
                landlock: None,
                record_ownership: false,
            },
            limits: BTreeMap::new(),
            listen: None,
            hand_root: false,
        }
    }

    pub fn layers(&self) -> Layers {
        Layers::open(self.uppers(), self.at("project")).unwrap()
    }

    /// What the session changed.
    pub fn changes(&self) -> Changes {
        self.layers().changes(&Scope::default()).unwrap()
    }

    /// A session's beginning, when the file system's clock has left the project's last change behind.
    pub fn begin(&self) -> Base {
        let newest = newest(&self.at("project"));
        loop {
            let base = Base::now();
            if base.since > newest {
                return base;
            }
        }
    }

    /// Applies all changes with this guard, as of a session that begins now.
    pub fn apply(&self, guard: &Guard) -> Result<Applied, ApplyError> {
        self.apply_chosen(&Chosen::All, guard)
    }

    pub fn apply_chosen(&self, chosen: &Chosen, guard: &Guard) -> Result<Applied, ApplyError> {
        let base = self.begin();
        self.layers()
            .apply(&self.changes(), chosen, guard, &base, &NoBaseContent)
    }

    /// What is refused when all is applied, each in a line; nothing of the project may change by that.
    pub fn refusals(&self, guard: &Guard) -> Vec<String> {
        let before = tree(&self.at("project"));
        let refused = refused(self.apply(guard));
        assert_eq!(tree(&self.at("project")), before);
        refused.iter().map(Refusal::to_string).collect()
    }

    /// Freezes the upper directory.
    pub fn freeze(&mut self) {
        let name = format!("frozen-{}", self.frozen.len());
        let directory = fs::File::open(self.directory.path()).unwrap();
        let names = envd_agents::changes::Names {
            upper: c"upper",
            work: c"work",
        };
        let frozen = std::ffi::CString::new(name.as_str()).unwrap();
        envd_agents::changes::freeze(directory.as_fd(), names, &frozen).unwrap();
        self.frozen.insert(0, name);
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

/// The time of the last change of anything in a directory.
fn newest(directory: &Path) -> Moment {
    let stat = fs::symlink_metadata(directory).unwrap();
    let own = Moment(stat.ctime(), u32::try_from(stat.ctime_nsec()).unwrap());
    if !stat.is_dir() {
        return own;
    }
    let below = fs::read_dir(directory).unwrap();
    below
        .map(|entry| newest(&entry.unwrap().path()))
        .fold(own, Moment::max)
}

/// Everything in a directory: type and mode, and content or target.
pub fn tree(directory: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let content = if stat.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else if stat.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            if stat.is_dir() {
                waiting.push(path.clone());
            }
            let name = path.strip_prefix(directory).unwrap().to_owned();
            found.insert(name, (stat.mode(), content));
        }
    }
    found
}

/// Why nothing was applied.
pub fn refused(result: Result<Applied, ApplyError>) -> Vec<Refusal> {
    match result {
        Err(ApplyError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
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
