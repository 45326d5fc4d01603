//! One step of configuration: a script run over directories, under the ownership recorder, and what it changed captured as
//! a layer. It runs in a process of its own (`envd internal-configure JOB`), because only a process with one thread may
//! enter namespaces, and so that whatever happens to it happens to nobody else.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use envd_shims::{Exit, Plan, plan};
use envd_store::{Store, Tree, TreeId, TreePath, ingest};
use serde::{Deserialize, Serialize};

use super::recipe;

/// What to do, as the child reads it.
#[derive(Serialize, Deserialize, Debug)]
pub struct Job {
    /// The process that wants it done.
    pub parent: i32,
    /// The store's directory.
    pub store: PathBuf,
    /// Directories that make the root, topmost first.
    pub lowers: Vec<PathBuf>,
    /// What they hold: a tree and the layers over it, lowest first.
    pub below: Vec<TreeId>,
    /// The step's directory in the parent's session: `upper`, `work`, `place`, `log`, `layer`.
    pub directory: PathBuf,
    /// Program and arguments, inside.
    pub command: Vec<OsString>,
    /// Files that stand in for others while it runs: (host, inside).
    pub stand_ins: Vec<(PathBuf, PathBuf)>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Files of the step could not be made or read.
    #[error("cannot prepare {path}")]
    Prepare {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The child process could not be started.
    #[error("cannot start the configuration step {program}")]
    Start {
        /// Our own executable.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The step ended badly.
    #[error("configuring failed{at}:\n{tail}")]
    Failed {
        /// What failed.
        at: String,
        /// The last lines that this printed.
        tail: String,
    },
}

fn prepare(path: &Path) -> impl FnOnce(std::io::Error) -> StepError {
    let path = path.to_owned();
    move |source| StepError::Prepare { path, source }
}

/// A step under way.
pub struct Running {
    child: std::process::Child,
    directory: PathBuf,
}

/// Starts the step in a process of `program`, which is envd itself.
pub fn start(program: &Path, job: &Job) -> Result<Running, StepError> {
    for name in ["upper", "work", "place"] {
        let path = job.directory.join(name);
        fs::create_dir_all(&path).map_err(prepare(&path))?;
    }
    let file = job.directory.join("job");
    let text = serde_json::to_vec(job).map_err(|e| prepare(&file)(e.into()))?;
    fs::write(&file, text).map_err(prepare(&file))?;
    let log = job.directory.join("log");
    let output = File::create(&log).map_err(prepare(&log))?;
    let errors = output.try_clone().map_err(prepare(&log))?;
    let child = Command::new(program)
        .arg("internal-configure")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|source| StepError::Start {
            program: program.to_owned(),
            source,
        })?;
    Ok(Running {
        child,
        directory: job.directory.clone(),
    })
}

impl Running {
    /// Waits for the end; meanwhile tells `progress` of each line of output.
    pub fn wait(mut self, progress: &mut dyn FnMut(&str)) -> Result<TreeId, StepError> {
        let log = self.directory.join("log");
        let mut follower = File::open(&log).map_err(prepare(&log))?;
        let mut text = String::new();
        let mut shown = 0;
        let status = loop {
            let ended = self.child.try_wait().map_err(prepare(&log))?;
            let mut more = Vec::new();
            follower.read_to_end(&mut more).map_err(prepare(&log))?;
            text.push_str(&String::from_utf8_lossy(&more));
            while let Some(end) = text[shown..].find('\n') {
                progress(&text[shown..shown + end]);
                shown += end + 1;
            }
            if let Some(status) = ended {
                break status;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        let layer = self.directory.join("layer");
        match fs::read_to_string(&layer) {
            Ok(id) if status.success() => id.trim().parse().map_err(|_| failure(&text)),
            _ => Err(failure(&text)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // When another step failed this one is of no use; its namespaces end with it. An error here means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// dpkg carries on with other packages after one has failed, and what it says of those that needed it only follows from
/// that: the first failure is the one to show, else what came last.
fn failure(log: &str) -> StepError {
    let heading = |line: &str| {
        ["@step ", "Setting up ", "Processing triggers for "]
            .iter()
            .find_map(|prefix| line.strip_prefix(prefix))
            .map(|what| what.trim_end_matches(" ...").to_owned())
    };
    let lines: Vec<&str> = log.lines().collect();
    let failed = lines
        .iter()
        .position(|line| line.starts_with("dpkg: error processing"));
    let within = failed.unwrap_or(lines.len());
    let start = lines[..within]
        .iter()
        .rposition(|line| heading(line).is_some());
    // dpkg gives the reason on the line after.
    let end = failed.map_or(lines.len(), |at| lines.len().min(at + 2));
    let shown = &lines[start.map_or(0, |start| start + 1)..end];
    StepError::Failed {
        at: start
            .and_then(|start| heading(lines[start]))
            .map_or_else(String::new, |what| format!(" at {what}")),
        tail: shown[shown.len().saturating_sub(25)..].join("\n"),
    }
}

/// The child's side: does the job and writes the layer's identity beside it.
pub fn perform(job_file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let job: Job = serde_json::from_slice(&fs::read(job_file)?)?;
    // Whatever ends the command that started this ends this, and so the sandbox below it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
    if parent != Some(job.parent) {
        return Err("the command that wanted this has ended".into());
    }
    let store = Store::open(&job.store)?;
    let session = store.session()?;
    let (base, layers) = job.below.split_first().ok_or("the job names no tree")?;
    let layers: Vec<Tree> = layers
        .iter()
        .map(|id| store.tree(id))
        .collect::<Result<_, _>>()?;
    let below = store
        .tree(base)?
        .apply_all(&layers.iter().collect::<Vec<_>>())?;
    let upper = job.directory.join("upper");
    let plan = plan(&job);
    let mut layer = None;
    let recorded = envd_shims::run_recorded(&plan, &mut |merged, notes| {
        let ownership = ownership(notes);
        let captured = ingest::overlay_upper(
            &session,
            &upper,
            merged,
            &below,
            &ownership,
            &recipe::is_noise,
        )
        .map_err(std::io::Error::other)?;
        layer = Some(session.add_tree(&captured).map_err(std::io::Error::other)?);
        Ok(())
    })?;
    if recorded.exit != Exit::Code(0) {
        return Err(format!("the step's command ended with {:?}", recorded.exit).into());
    }
    let layer = layer.ok_or("nothing was captured")?;
    fs::write(job.directory.join("layer"), format!("{layer}\n"))?;
    Ok(())
}

fn ownership(notes: &[envd_shims::recorder::OwnershipNote]) -> ingest::Ownership {
    let mut ownership = ingest::Ownership::default();
    for note in notes {
        let device = note.node.is_some();
        let owner = ingest::Note {
            uid: note.uid,
            gid: note.gid,
            capability: note.capability.clone(),
            device,
        };
        // Equal contents share an inode in views, so the path goes first.
        let path = note.path.as_os_str().as_encoded_bytes();
        if let Ok(path) = TreePath::new(path.strip_prefix(b"/").unwrap_or(path)) {
            ownership.by_path.insert(path, owner.clone());
        }
        ownership.by_inode.insert((note.device, note.inode), owner);
    }
    ownership
}

/// Everything private, no network, root of a single-id user namespace: the same for root and for anyone.
fn plan(job: &Job) -> Plan {
    let place = job.directory.join("place");
    let mut mounts = vec![
        plan::Mount::Proc {
            target: "/proc".into(),
        },
        plan::Mount::Devices {
            target: "/dev".into(),
        },
        plan::Mount::Tmpfs {
            target: "/tmp".into(),
            mode: 0o1777,
            size: None,
        },
        plan::Mount::Tmpfs {
            target: "/run".into(),
            mode: 0o755,
            size: None,
        },
        plan::Mount::Directory {
            target: "/run/lock".into(),
            mode: 0o1777,
        },
        bind(&place, Path::new(recipe::WORKPLACE), false),
    ];
    mounts.extend(
        job.stand_ins
            .iter()
            .map(|(host, inside)| bind(host, inside, true)),
    );
    let mut words = job.command.iter().cloned();
    Plan {
        root: plan::Root::Overlay {
            lowers: job.lowers.clone(),
            upper: plan::Upper::Directory {
                upper: job.directory.join("upper"),
                work: job.directory.join("work"),
            },
        },
        mounts,
        namespaces: plan::Namespaces {
            ipc: true,
            uts: true,
            net: true,
            cgroup: true,
        },
        ids: plan::Ids {
            uid: 0,
            gid: 0,
            all: false,
        },
        hostname: "envd".to_owned(),
        command: plan::Command {
            program: words.next().unwrap_or_default(),
            arguments: words.collect(),
            environment: recipe::environment(),
            directory: "/".into(),
            umask: Some(0o022),
            new_session: true,
            terminal: false,
        },
        privileges: plan::Privileges {
            // Root of its own user namespace over its own mounts: what dpkg and its scripts are used to.
            capabilities: ALL.iter().map(|&name| name.to_owned()).collect(),
            seccomp: plan::Seccomp::Lenient,
            landlock: None,
            record_ownership: true,
        },
        limits: Default::default(),
        listen: None,
        hand_root: false,
    }
}

/// The capabilities that maintainer scripts get (capabilities(7)).
const ALL: [&str; 9] = [
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setfcap",
    "sys_chroot",
];

fn bind(source: &Path, target: &Path, read_only: bool) -> plan::Mount {
    plan::Mount::Bind {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
        optional: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_that_failed_is_shown_not_what_came_after() {
        let mut log = String::from(
            "@step preinst base-files\nSetting up grumpy (1.0) ...\nno luck today\n\
             dpkg: error processing package grumpy (--configure):\n exit status 3\n",
        );
        for number in 0..40 {
            log.push_str(&format!("Setting up other{number} (1.0) ...\n"));
        }
        assert_eq!(
            failure(&log).to_string(),
            "configuring failed at grumpy (1.0):\nno luck today\n\
             dpkg: error processing package grumpy (--configure):\n exit status 3"
        );
    }

    #[test]
    fn a_step_that_dpkg_does_not_know_of_is_shown_by_its_last_words() {
        let log = "@step preinst sulky\nnot today\n";
        assert_eq!(
            failure(log).to_string(),
            "configuring failed at preinst sulky:\nnot today"
        );
        assert_eq!(
            failure("sh: oh\n").to_string(),
            "configuring failed:\nsh: oh"
        );
    }
}
