//! Steps of configuration: each a command run over directories, under the ownership recorder, and what it changed captured
//! as a layer. They run in processes of their own (`envd internal-configure JOB`), because only a process with one thread may
//! enter namespaces, and so that whatever happens to it happens to nobody else. Processes that are given the same job share
//! its steps: each takes the next that nobody has taken.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use envd_shims::{Exit, Plan, plan};
use envd_store::{Session, Store, Tree, TreeId, TreePath, ingest};
use serde::{Deserialize, Serialize};

use super::recipe;

/// What to do, as the children read it.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Job {
    /// The process that wants it done.
    pub parent: i32,
    /// The store's directory.
    pub store: PathBuf,
    /// Directories that make the root, topmost first.
    pub lowers: Vec<PathBuf>,
    /// What they hold: a tree and the layers over it, lowest first.
    pub below: Vec<TreeId>,
    /// Steps that do not build on each other.
    pub steps: Vec<Step>,
}

/// One command.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Step {
    /// The step's directory in the parent's session: `upper`, `work`, `place`, `log`, `taken`, `layer` or `failed`.
    pub directory: PathBuf,
    /// Program and arguments, inside.
    pub command: Vec<OsString>,
    /// Files that stand in for others while it runs: (host, inside).
    pub stand_ins: Vec<(PathBuf, PathBuf)>,
}

impl Step {
    /// Puts an executable file into the step's workplace ([`recipe::WORKPLACE`] inside).
    pub fn place(&self, name: &str, text: &str) -> Result<PathBuf, StepError> {
        let place = self.directory.join("place");
        let path = place.join(name);
        fs::create_dir_all(&place)
            .and_then(|()| fs::write(&path, text))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .map_err(prepare(&path))?;
        Ok(path)
    }

    /// Has a text stand in for the file `target`, given without its leading slash.
    pub fn stand_in(&mut self, target: &str, text: &str) -> Result<(), StepError> {
        let file = self.place(&format!("stand-in-{}", self.stand_ins.len()), text)?;
        self.stand_ins.push((file, Path::new("/").join(target)));
        Ok(())
    }
}

impl Job {
    /// Steps of this process over nothing yet.
    pub fn new(session: &Session, steps: Vec<Step>) -> Self {
        Self {
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            store: session.store().path(""),
            lowers: Vec::new(),
            below: Vec::new(),
            steps,
        }
    }
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

/// Steps under way.
pub struct Running {
    children: Vec<Child>,
    steps: Vec<Step>,
}

/// Starts the job in so many processes of `program`, which is envd itself, or in fewer if there is less to do.
pub fn start(program: &Path, job: &Job, processes: usize) -> Result<Running, StepError> {
    for step in &job.steps {
        for name in ["upper", "work", "place"] {
            let path = step.directory.join(name);
            fs::create_dir_all(&path).map_err(prepare(&path))?;
        }
        let log = step.directory.join("log");
        File::create(&log).map_err(prepare(&log))?;
    }
    let mut running = Running {
        children: Vec::new(),
        steps: job.steps.clone(),
    };
    let Some(first) = job.steps.first() else {
        return Ok(running);
    };
    let file = first.directory.join("job");
    let text = serde_json::to_vec(job).map_err(|e| prepare(&file)(e.into()))?;
    fs::write(&file, text).map_err(prepare(&file))?;
    for number in 0..processes.min(job.steps.len()) {
        let log = child_log(&first.directory, number);
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
        running.children.push(child);
    }
    Ok(running)
}

fn child_log(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("process-{number}"))
}

impl Running {
    /// Waits for the end and gives each step's layer. Meanwhile tells `line` of each line that the first step prints, and
    /// `done` of each step that is done, by number.
    pub fn wait(
        mut self,
        line: &mut dyn FnMut(&str),
        done: &mut dyn FnMut(usize, TreeId),
    ) -> Result<Vec<TreeId>, StepError> {
        let Some(first) = self.steps.first() else {
            return Ok(Vec::new());
        };
        let log = first.directory.join("log");
        let mut follower = File::open(&log).map_err(prepare(&log))?;
        let mut text = String::new();
        let mut shown = 0;
        let mut layers = vec![None; self.steps.len()];
        loop {
            let mut ended = true;
            for (number, child) in self.children.iter_mut().enumerate() {
                match child.try_wait().map_err(prepare(&log))? {
                    None => ended = false,
                    Some(status) if status.success() => {}
                    Some(_) => return Err(failure(&self.last_words(number))),
                }
            }
            let mut more = Vec::new();
            follower.read_to_end(&mut more).map_err(prepare(&log))?;
            text.push_str(&String::from_utf8_lossy(&more));
            while let Some(end) = text[shown..].find('\n') {
                line(&text[shown..shown + end]);
                shown += end + 1;
            }
            for (number, step) in self.steps.iter().enumerate() {
                if layers[number].is_none()
                    && let Ok(text) = fs::read_to_string(step.directory.join("layer"))
                    && let Ok(layer) = text.trim().parse()
                {
                    layers[number] = Some(layer);
                    done(number, layer);
                }
            }
            if ended {
                let layers: Option<Vec<TreeId>> = layers.into_iter().collect();
                return layers.ok_or_else(|| failure(&self.last_words(0)));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// What the step that failed printed, else what the process did.
    fn last_words(&self, process: usize) -> String {
        let failed = self
            .steps
            .iter()
            .find(|step| step.directory.join("failed").exists());
        let log = match (failed, self.steps.first()) {
            (Some(step), _) => step.directory.join("log"),
            (None, Some(first)) => child_log(&first.directory, process),
            (None, None) => return String::new(),
        };
        String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // When another step failed these are of no use; their namespaces end with them. An error here means that it has ended.
        for child in &mut self.children {
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
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

/// The child's side: does the steps that nobody else does, and writes each layer's identity beside it.
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
    for step in &job.steps {
        match File::create_new(step.directory.join("taken")) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            taken => drop(taken?),
        }
        let log = File::options()
            .append(true)
            .open(step.directory.join("log"))?;
        nix::unistd::dup2_stdout(&log)?;
        nix::unistd::dup2_stderr(&log)?;
        match run(&session, &below, &plan(&job, step), &step.directory) {
            // Renamed into place, since the parent is looking.
            Ok(layer) => {
                let new = step.directory.join("layer.new");
                fs::write(&new, format!("{layer}\n"))?;
                fs::rename(&new, step.directory.join("layer"))?;
            }
            Err(error) => {
                fs::write(step.directory.join("failed"), "")?;
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Runs one step and captures its layer.
fn run(
    session: &Session,
    below: &Tree,
    plan: &Plan,
    directory: &Path,
) -> Result<TreeId, Box<dyn std::error::Error>> {
    let upper = directory.join("upper");
    let mut layer = None;
    let recorded = envd_shims::run_recorded(plan, &mut |merged, notes| {
        let ownership = ownership(notes);
        let captured = ingest::overlay_upper(
            session,
            &upper,
            merged,
            below,
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
    Ok(layer.ok_or("nothing was captured")?)
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
fn plan(job: &Job, step: &Step) -> Plan {
    let place = step.directory.join("place");
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
        step.stand_ins
            .iter()
            .map(|(host, inside)| bind(host, inside, true)),
    );
    let mut words = step.command.iter().cloned();
    Plan {
        root: plan::Root::Overlay {
            lowers: job.lowers.clone(),
            upper: plan::Upper::Directory {
                upper: step.directory.join("upper"),
                work: step.directory.join("work"),
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
        processes: None,
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
