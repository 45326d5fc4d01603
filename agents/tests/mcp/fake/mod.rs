//! A service for tests: its environments are copies of a project in a temporary directory, its commands the host's.
//!
//! It is one thing: one implementation of one trait. It isolates nothing. What it does hold is what the protocol's clients see: owners, cancellation, results, failures.

pub mod process;
pub mod tree;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use envd_agents::service::{
    Answer, Call, CommandId, EnvironmentId, Event, Failure, Owner, Resource, ResourceList,
    ResourceRead, ResourceStretch, ResourceUri, Resources, Service, SnapshotId, Stream, changes,
    command, environment, file, package, port,
};

use process::{KilledWithCall, Process};

/// Packages that there are: name and what it is.
const PACKAGES: [(&str, &str); 3] = [
    ("gcc", "GNU C compiler"),
    ("python3", "interactive high-level object-oriented language"),
    ("rustc", "Rust systems programming language"),
];

/// A package that nobody has made yet, and that takes for ever: for tests of cancellation.
const ENDLESS: &str = "endless";

/// A package whose making cannot be interrupted for a while: for tests of the last moment.
const BLOCKING: &str = "blocking";

struct Lent {
    owner: Owner,
    info: environment::Environment,
    before: PathBuf,
    now: PathBuf,
}

#[derive(Default)]
struct State {
    environments: BTreeMap<EnvironmentId, Lent>,
    commands: BTreeMap<CommandId, Arc<Process>>,
    snapshots: BTreeMap<SnapshotId, (Owner, EnvironmentId, PathBuf)>,
}

/// See the module.
pub struct Fake {
    project: PathBuf,
    scratch: PathBuf,
    state: Mutex<State>,
    /// Calls that were dropped before they were done.
    pub abandoned: Arc<AtomicU64>,
    /// Whether there is a call that cannot be interrupted now, until `unblock` is set.
    pub blocked: AtomicBool,
    pub unblock: AtomicBool,
    /// What the clients that listed environments said they are.
    pub listers: Mutex<Vec<Option<String>>>,
}

/// Counts a call that is dropped before it is done.
struct Abandoned(Option<Arc<AtomicU64>>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Fake {
    /// Lends copies of `project`, kept below `scratch`.
    pub fn new(project: &Path, scratch: &Path) -> Arc<Self> {
        Arc::new(Self {
            project: project.to_owned(),
            scratch: scratch.to_owned(),
            state: Mutex::default(),
            abandoned: Arc::default(),
            blocked: AtomicBool::default(),
            unblock: AtomicBool::default(),
            listers: Mutex::default(),
        })
    }

    /// Environments, commands that run, and snapshots that there are.
    pub fn left(&self) -> (usize, usize, usize) {
        let state = self.state();
        let running = state
            .commands
            .values()
            .filter(|command| command.status() == command::Status::RUNNING)
            .count();
        (state.environments.len(), running, state.snapshots.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        call: &Call,
        id: &EnvironmentId,
        act: impl FnOnce(&mut Lent) -> T,
    ) -> Result<T, Failure> {
        let mut state = self.state();
        match state.environments.get_mut(id) {
            Some(lent) if lent.owner == call.owner => Ok(act(lent)),
            _ => Err(Failure::no_such_environment(id)),
        }
    }

    fn command(&self, call: &Call, id: &CommandId) -> Result<Arc<Process>, Failure> {
        match self.state().commands.get(id) {
            Some(command) if command.owner == call.owner => Ok(command.clone()),
            _ => Err(Failure::no_such_command(id)),
        }
    }

    fn new_environment(
        &self,
        call: &Call,
        before: &Path,
        now: &Path,
        like: environment::Environment,
    ) -> Result<environment::Environment, Failure> {
        let id = EnvironmentId::random();
        let home = self.scratch.join(id.as_str());
        let lent = Lent {
            owner: call.owner.clone(),
            before: home.join("before"),
            now: home.join("now"),
            info: environment::Environment {
                directory: home.join("now").display().to_string(),
                environment: id.clone(),
                ..like
            },
        };
        let copied = tree::copy(before, &lent.before).and_then(|()| tree::copy(now, &lent.now));
        copied.map_err(|error| internal("copying", &error))?;
        let info = lent.info.clone();
        self.state().environments.insert(id, lent);
        Ok(info)
    }

    async fn end(&self, id: &EnvironmentId) -> (u64, u64) {
        let (lent, commands) = {
            let mut state = self.state();
            let (gone, kept) = std::mem::take(&mut state.commands)
                .into_iter()
                .partition(|(_, command)| command.environment == *id);
            state.commands = kept;
            let gone: BTreeMap<CommandId, Arc<Process>> = gone;
            (state.environments.remove(id), gone)
        };
        let mut killed = 0;
        for command in commands.values() {
            killed += u64::from(command.status() == command::Status::RUNNING);
            command.kill();
            command.ended().await;
        }
        let discarded = lent.map_or(0, |lent| {
            tree::differences(&lent.before, &lent.now).map_or(0, |found| found.len() as u64)
        });
        let _ = fs::remove_dir_all(self.scratch.join(id.as_str()));
        (killed, discarded)
    }

    fn path(&self, call: &Call, id: &EnvironmentId, path: &str) -> Result<PathBuf, Failure> {
        let now = self.with(call, id, |lent| lent.now.clone())?;
        let inside = Path::new(path)
            .strip_prefix(&now)
            .unwrap_or_else(|_| Path::new(path));
        let plain = inside
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if plain {
            Ok(now.join(inside))
        } else {
            Err(Failure::NoSuchFile {
                path: path.to_owned(),
            })
        }
    }

    fn read(&self, call: &Call, id: &EnvironmentId, path: &str) -> Result<Vec<u8>, Failure> {
        fs::read(self.path(call, id, path)?).map_err(|error| match error.kind() {
            std::io::ErrorKind::IsADirectory => Failure::WrongKind {
                path: path.to_owned(),
                found: "directory".to_owned(),
                expected: "file".to_owned(),
            },
            _ => Failure::NoSuchFile {
                path: path.to_owned(),
            },
        })
    }
}

fn internal(step: &str, error: &std::io::Error) -> Failure {
    Failure::Internal {
        step: step.to_owned(),
        reason: error.to_string(),
    }
}

impl Service for Fake {
    fn environment_create<'a>(
        &'a self,
        call: &'a Call,
        request: environment::EnvironmentCreate,
    ) -> Answer<'a, environment::Environment> {
        Box::pin(async move {
            let mut abandoned = Abandoned(Some(self.abandoned.clone()));
            // A careless service: what it prints must never reach a client on the standard streams.
            println!("lending");
            if let environment::Source::Packages(packages) = &request.from {
                for (done, name) in packages.iter().enumerate() {
                    call.listener.hear(Event::Step {
                        message: "realising",
                        done: done as u64,
                        total: Some(packages.len() as u64),
                    });
                    // As any real work does now and then.
                    tokio::task::yield_now().await;
                    if name == ENDLESS {
                        std::future::pending::<()>().await;
                    }
                    if name == BLOCKING {
                        self.blocked.store(true, Ordering::SeqCst);
                        while !self.unblock.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    } else {
                        known(name)?;
                    }
                }
            }
            let info = self.new_environment(
                call,
                &self.project,
                &self.project,
                environment::Environment {
                    environment: EnvironmentId::random(),
                    name: request.name,
                    from: request.from,
                    root: None,
                    directory: String::new(),
                    network: request.network.unwrap_or_default(),
                    limits: request.limits.unwrap_or_default(),
                    forked_from: None,
                    expires_in_seconds: request.ttl_seconds,
                    running_commands: 0,
                    ports: Vec::new(),
                    secrets: Vec::new(),
                    warnings: vec!["this is a fake: nothing is isolated".to_owned()],
                },
            )?;
            abandoned.0 = None;
            self.blocked.store(false, Ordering::SeqCst);
            Ok(info)
        })
    }

    fn environment_list<'a>(
        &'a self,
        call: &'a Call,
        _: environment::EnvironmentList,
    ) -> Answer<'a, environment::Environments> {
        Box::pin(async move {
            let mut listers = self.listers.lock().unwrap_or_else(PoisonError::into_inner);
            listers.push(call.client.clone());
            let state = self.state();
            let environments = state
                .environments
                .values()
                .filter(|lent| lent.owner == call.owner)
                .map(|lent| environment::Environment {
                    running_commands: state
                        .commands
                        .values()
                        .filter(|command| {
                            command.environment == lent.info.environment
                                && command.status() == command::Status::RUNNING
                        })
                        .count() as u64,
                    ..lent.info.clone()
                })
                .collect();
            Ok(environment::Environments {
                environments,
                snapshots: Vec::new(),
            })
        })
    }

    fn environment_destroy<'a>(
        &'a self,
        call: &'a Call,
        request: environment::EnvironmentDestroy,
    ) -> Answer<'a, environment::EnvironmentDestroyed> {
        Box::pin(async move {
            self.with(call, &request.environment, |_| ())?;
            let (killed_commands, discarded_changes) = self.end(&request.environment).await;
            Ok(environment::EnvironmentDestroyed {
                environment: request.environment,
                killed_commands,
                discarded_changes,
            })
        })
    }

    fn environment_fork<'a>(
        &'a self,
        call: &'a Call,
        request: environment::EnvironmentFork,
    ) -> Answer<'a, environment::Environments> {
        Box::pin(async move {
            let id = &request.environment;
            let (before, now, info) = self.with(call, id, |lent| {
                (lent.before.clone(), lent.now.clone(), lent.info.clone())
            })?;
            let environments = (0..request.count)
                .map(|_| {
                    let like = environment::Environment {
                        forked_from: Some(id.clone()),
                        ..info.clone()
                    };
                    self.new_environment(call, &before, &now, like)
                })
                .collect::<Result<_, _>>()?;
            Ok(environment::Environments {
                environments,
                snapshots: Vec::new(),
            })
        })
    }

    fn environment_snapshot<'a>(
        &'a self,
        call: &'a Call,
        request: environment::EnvironmentSnapshot,
    ) -> Answer<'a, environment::Snapshot> {
        Box::pin(async move {
            let id = request.environment;
            let (before, now) =
                self.with(call, &id, |lent| (lent.before.clone(), lent.now.clone()))?;
            let snapshot = SnapshotId::random();
            let kept = self.scratch.join(snapshot.as_str());
            let changes = tree::differences(&before, &now)
                .and_then(|found| tree::copy(&now, &kept).map(|()| found.len() as u64))
                .map_err(|error| internal("copying", &error))?;
            let entry = (call.owner.clone(), id.clone(), kept);
            self.state().snapshots.insert(snapshot.clone(), entry);
            Ok(environment::Snapshot {
                snapshot,
                environment: id,
                name: request.name,
                changes,
            })
        })
    }

    fn environment_restore<'a>(
        &'a self,
        call: &'a Call,
        request: environment::EnvironmentRestore,
    ) -> Answer<'a, environment::Environment> {
        Box::pin(async move {
            let (id, kept) = match self.state().snapshots.get(&request.snapshot) {
                Some((owner, id, kept)) if *owner == call.owner => (id.clone(), kept.clone()),
                _ => return Err(Failure::no_such_snapshot(&request.snapshot)),
            };
            let (before, now, info) = self.with(call, &id, |lent| {
                (lent.before.clone(), lent.now.clone(), lent.info.clone())
            })?;
            if request.as_new {
                return self.new_environment(call, &before, &kept, info);
            }
            fs::remove_dir_all(&now)
                .and_then(|()| tree::copy(&kept, &now))
                .map_err(|error| internal("copying", &error))?;
            Ok(info)
        })
    }

    fn command_run<'a>(
        &'a self,
        call: &'a Call,
        request: command::CommandRun,
    ) -> Answer<'a, command::CommandEnded> {
        Box::pin(async move {
            let now = self.with(call, &request.setup.environment, |lent| lent.now.clone())?;
            let process = Process::start(call, &request.setup, &now, false).await?;
            let killed_with_call = KilledWithCall(process.clone());
            self.state()
                .commands
                .insert(process.id.clone(), process.clone());
            let status = process.ended().await;
            drop(killed_with_call);
            Ok(command::CommandEnded {
                command: process.id.clone(),
                status,
                duration_ms: process.began.elapsed().as_millis() as u64,
                stdout: process.excerpt(Stream::Stdout, request.output_bytes),
                stderr: process.excerpt(Stream::Stderr, request.output_bytes),
                hint: None,
            })
        })
    }

    fn command_start<'a>(
        &'a self,
        call: &'a Call,
        request: command::CommandStart,
    ) -> Answer<'a, command::CommandStarted> {
        Box::pin(async move {
            let now = self.with(call, &request.setup.environment, |lent| lent.now.clone())?;
            let quiet = Call::quiet(call.owner.clone());
            let process =
                Process::start(&quiet, &request.setup, &now, request.keep_stdin_open).await?;
            self.state()
                .commands
                .insert(process.id.clone(), process.clone());
            Ok(command::CommandStarted {
                command: process.id.clone(),
                environment: request.setup.environment,
            })
        })
    }

    fn command_poll<'a>(
        &'a self,
        call: &'a Call,
        request: command::CommandPoll,
    ) -> Answer<'a, command::CommandPolled> {
        Box::pin(async move {
            let process = self.command(call, &request.command)?;
            let news = process.news_behind(request.stdout_offset, request.stderr_offset);
            let wait = Duration::from_secs(request.wait_seconds);
            let _ = tokio::time::timeout(wait, news).await;
            let limit = request.output_bytes;
            // The status first: what is written before the end is then in the stretches.
            let status = process.status();
            Ok(command::CommandPolled {
                status,
                stdout: process.stretch(Stream::Stdout, request.stdout_offset, limit),
                stderr: process.stretch(Stream::Stderr, request.stderr_offset, limit),
                command: request.command,
            })
        })
    }

    fn command_signal<'a>(
        &'a self,
        call: &'a Call,
        request: command::CommandSignal,
    ) -> Answer<'a, command::CommandSignalled> {
        Box::pin(async move {
            let process = self.command(call, &request.command)?;
            let written_bytes = match &request.stdin {
                Some(text) => process.write(text).await,
                None => 0,
            };
            if request.close_stdin {
                process.close_input().await;
            }
            if let Some(signal) = request.signal {
                process.signal(signal);
            }
            Ok(command::CommandSignalled {
                status: process.status(),
                command: request.command,
                written_bytes,
            })
        })
    }

    fn file_read<'a>(
        &'a self,
        call: &'a Call,
        request: file::FileRead,
    ) -> Answer<'a, file::FileContent> {
        Box::pin(async move {
            let bytes = self.read(call, &request.environment, &request.path)?;
            let size_bytes = bytes.len() as u64;
            let (content, encoding, total_lines, more) = match String::from_utf8(bytes) {
                Ok(text) => {
                    let (content, total, more) =
                        file::lines(&text, request.first_line, request.lines);
                    (content, file::Encoding::Utf8, total, more)
                }
                Err(error) => {
                    let content = STANDARD.encode(error.as_bytes());
                    (content, file::Encoding::Base64, 0, false)
                }
            };
            Ok(file::FileContent {
                path: request.path,
                content,
                encoding,
                first_line: request.first_line,
                total_lines,
                size_bytes,
                more,
            })
        })
    }

    fn file_write<'a>(
        &'a self,
        call: &'a Call,
        request: file::FileWrite,
    ) -> Answer<'a, file::FileWritten> {
        Box::pin(async move {
            let path = self.path(call, &request.environment, &request.path)?;
            let content = match request.encoding {
                file::Encoding::Utf8 => request.content.into_bytes(),
                file::Encoding::Base64 => {
                    STANDARD
                        .decode(request.content)
                        .map_err(|error| Failure::Invalid {
                            field: "content".to_owned(),
                            problem: error.to_string(),
                            expected: "base64".to_owned(),
                        })?
                }
            };
            let created = !path.exists();
            let written = (|| {
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
                fs::write(&path, &content)?;
                if let Some(executable) = request.executable {
                    let mode = if executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
                }
                Ok(())
            })();
            written.map_err(|error| internal("writing", &error))?;
            Ok(file::FileWritten {
                path: request.path,
                size_bytes: content.len() as u64,
                created,
            })
        })
    }

    fn file_edit<'a>(
        &'a self,
        call: &'a Call,
        request: file::FileEdit,
    ) -> Answer<'a, file::FileEdited> {
        Box::pin(async move {
            let bytes = self.read(call, &request.environment, &request.path)?;
            let text = String::from_utf8_lossy(&bytes);
            let (text, replaced) = file::edited(&request.path, &text, &request.edits)?;
            let path = self.path(call, &request.environment, &request.path)?;
            fs::write(path, &text).map_err(|error| internal("writing", &error))?;
            Ok(file::FileEdited {
                path: request.path,
                replaced,
                size_bytes: text.len() as u64,
            })
        })
    }

    fn file_list<'a>(
        &'a self,
        call: &'a Call,
        request: file::FileList,
    ) -> Answer<'a, file::FileEntries> {
        Box::pin(async move {
            let path = self.path(call, &request.environment, &request.path)?;
            let listed = fs::read_dir(path).map_err(|_| Failure::NoSuchFile {
                path: request.path.clone(),
            })?;
            let mut entries: Vec<file::FileEntry> = listed
                .flatten()
                .filter_map(|entry| {
                    let metadata = entry.metadata().ok()?;
                    let kind = if metadata.is_dir() {
                        file::FileKind::Directory
                    } else {
                        file::FileKind::File
                    };
                    Some(file::FileEntry {
                        path: entry.file_name().to_string_lossy().into_owned(),
                        kind,
                        size_bytes: metadata.is_file().then_some(metadata.len()),
                        executable: metadata.is_file()
                            && metadata.permissions().mode() & 0o111 != 0,
                        target: None,
                    })
                })
                .collect();
            entries.sort_by(|one, other| one.path.cmp(&other.path));
            let more = entries.len() > request.limit as usize;
            entries.truncate(request.limit as usize);
            Ok(file::FileEntries {
                path: request.path,
                entries,
                more,
            })
        })
    }

    fn file_search<'a>(
        &'a self,
        call: &'a Call,
        request: file::FileSearch,
    ) -> Answer<'a, file::FileMatches> {
        Box::pin(async move {
            let now = self.with(call, &request.environment, |lent| lent.now.clone())?;
            let searched: Vec<(String, Vec<u8>)> = match &request.command {
                Some(id) => {
                    let process = self.command(call, id)?;
                    [Stream::Stdout, Stream::Stderr]
                        .map(|stream| (stream.name().to_owned(), process.output(stream)))
                        .into()
                }
                None => tree::files(&now)
                    .map_err(|error| internal("reading", &error))?
                    .into_iter()
                    .map(|(path, content)| (path.display().to_string(), content))
                    .collect(),
            };
            let mut matches = Vec::new();
            for (path, content) in searched {
                for (index, line) in String::from_utf8_lossy(&content).lines().enumerate() {
                    if line.contains(&request.pattern) {
                        matches.push(file::FileMatch {
                            path: path.clone(),
                            line: index as u64 + 1,
                            text: line.to_owned(),
                        });
                    }
                }
            }
            let more = matches.len() > request.limit as usize;
            matches.truncate(request.limit as usize);
            Ok(file::FileMatches { matches, more })
        })
    }

    fn changes_diff<'a>(
        &'a self,
        call: &'a Call,
        request: changes::ChangesDiff,
    ) -> Answer<'a, changes::Changes> {
        Box::pin(async move {
            let id = request.environment;
            let found = self
                .with(call, &id, |lent| tree::differences(&lent.before, &lent.now))?
                .map_err(|error| internal("comparing", &error))?;
            let mut diff = envd_agents::service::excerpt::Collector::new(
                usize::try_from(request.diff_bytes).unwrap_or(usize::MAX),
            );
            diff.push(tree::unified(&found).as_bytes());
            let changes = found
                .iter()
                .map(|(path, (old, new))| changes::Change {
                    path: path.display().to_string(),
                    kind: match (old, new) {
                        (None, _) => changes::ChangeKind::Added,
                        (_, None) => changes::ChangeKind::Deleted,
                        _ => changes::ChangeKind::Modified,
                    },
                    binary: false,
                    protected_by: None,
                })
                .collect();
            Ok(changes::Changes {
                changes,
                omitted_changes: 0,
                diff: diff.finish(Some(ResourceUri::Changes {
                    environment: id.clone(),
                })),
                environment: id,
            })
        })
    }

    fn changes_apply<'a>(
        &'a self,
        call: &'a Call,
        request: changes::ChangesApply,
    ) -> Answer<'a, changes::ChangesApplied> {
        Box::pin(async move {
            let id = request.environment;
            let (before, now) =
                self.with(call, &id, |lent| (lent.before.clone(), lent.now.clone()))?;
            let apply = || {
                let mut done = changes::ChangesApplied {
                    environment: id.clone(),
                    applied: Vec::new(),
                    merged: Vec::new(),
                    conflicts: Vec::new(),
                    refused: Vec::new(),
                    commits: Vec::new(),
                    branch: None,
                    submodules: Vec::new(),
                    dry_run: request.dry_run,
                };
                let found = tree::differences(&before, &now)?;
                for (path, (old, new)) in &found {
                    let name = path.display().to_string();
                    if fs::read(self.project.join(path)).ok() == *old {
                        done.applied.push(name);
                    } else if fs::read(self.project.join(path)).ok() != *new {
                        done.conflicts.push(changes::NotApplied {
                            path: name,
                            reason: "changed in the project since".to_owned(),
                        });
                    }
                }
                if !done.conflicts.is_empty() {
                    done.applied.clear();
                } else if !request.dry_run {
                    for (path, (_, new)) in &found {
                        match new {
                            Some(content) => fs::write(self.project.join(path), content)?,
                            None => fs::remove_file(self.project.join(path))?,
                        }
                    }
                }
                Ok(done)
            };
            apply().map_err(|error: std::io::Error| internal("applying", &error))
        })
    }

    fn package_search<'a>(
        &'a self,
        _: &'a Call,
        request: package::PackageSearch,
    ) -> Answer<'a, package::Packages> {
        Box::pin(async move {
            let packages = PACKAGES
                .iter()
                .filter(|(name, summary)| {
                    name.contains(&request.query) || summary.contains(&request.query)
                })
                .map(|(name, summary)| package::Package {
                    name: (*name).to_owned(),
                    version: "1.0".to_owned(),
                    channel: "fake".to_owned(),
                    summary: (*summary).to_owned(),
                })
                .collect();
            Ok(package::Packages {
                packages,
                more: false,
            })
        })
    }

    fn package_add<'a>(
        &'a self,
        call: &'a Call,
        request: package::PackageAdd,
    ) -> Answer<'a, package::PackagesAdded> {
        Box::pin(async move {
            for name in &request.packages {
                known(name)?;
            }
            let environment = self.with(call, &request.environment, |lent| lent.info.clone())?;
            Ok(package::PackagesAdded {
                added: request.packages,
                environment,
            })
        })
    }

    fn port_publish<'a>(
        &'a self,
        call: &'a Call,
        request: port::PortPublish,
    ) -> Answer<'a, port::PortPublished> {
        Box::pin(async move {
            self.with(call, &request.environment, |lent| {
                // Nothing listens there: it is not this service that is tested.
                let published = port::PublishedPort {
                    port: request.port,
                    address: format!("127.0.0.1:{}", request.outside.unwrap_or(40_000)),
                };
                lent.info.ports = vec![published.clone()];
                port::PortPublished {
                    environment: request.environment.clone(),
                    published,
                }
            })
        })
    }

    fn port_withdraw<'a>(
        &'a self,
        call: &'a Call,
        request: port::PortWithdraw,
    ) -> Answer<'a, port::PortWithdrawn> {
        Box::pin(async move {
            let withdrawn = self.with(call, &request.environment, |lent| lent.info.ports.pop())?;
            Ok(port::PortWithdrawn {
                environment: request.environment,
                withdrawn: withdrawn.expect("it was published"),
            })
        })
    }

    fn resource_list<'a>(&'a self, call: &'a Call, _: ResourceList) -> Answer<'a, Resources> {
        Box::pin(async move {
            let state = self.state();
            let outputs = state
                .commands
                .values()
                .filter(|command| command.owner == call.owner)
                .flat_map(|command| {
                    [Stream::Stdout, Stream::Stderr].map(|stream| Resource {
                        uri: command.resource(stream),
                        title: command.title.clone(),
                        size_bytes: Some(command.output(stream).len() as u64),
                    })
                });
            let diffs = state
                .environments
                .values()
                .filter(|lent| lent.owner == call.owner)
                .map(|lent| Resource {
                    uri: ResourceUri::Changes {
                        environment: lent.info.environment.clone(),
                    },
                    title: lent.info.name.clone().unwrap_or_default(),
                    size_bytes: None,
                });
            let resources = outputs.chain(diffs).collect();
            Ok(Resources { resources })
        })
    }

    fn resource_read<'a>(
        &'a self,
        call: &'a Call,
        request: ResourceRead,
    ) -> Answer<'a, ResourceStretch> {
        Box::pin(async move {
            let ResourceRead { uri, offset, limit } = request;
            let whole = match &uri {
                ResourceUri::Output { command, stream } => {
                    self.command(call, command)?.output(*stream)
                }
                ResourceUri::Changes { environment } => self
                    .with(call, environment, |lent| {
                        tree::differences(&lent.before, &lent.now)
                    })?
                    .map(|found| tree::unified(&found).into_bytes())
                    .map_err(|error| internal("comparing", &error))?,
            };
            let bytes = whole
                .iter()
                .skip(usize::try_from(offset).unwrap_or(usize::MAX))
                .take(usize::try_from(limit).unwrap_or(usize::MAX))
                .copied()
                .collect();
            Ok(ResourceStretch {
                bytes,
                total_bytes: whole.len() as u64,
            })
        })
    }

    fn release<'a>(&'a self, owner: &'a Owner) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let (environments, snapshots): (Vec<_>, Vec<_>) = {
                let mut state = self.state();
                let environments = state
                    .environments
                    .iter()
                    .filter(|(_, lent)| lent.owner == *owner)
                    .map(|(id, _)| id.clone())
                    .collect();
                let (gone, kept): (BTreeMap<_, _>, _) = std::mem::take(&mut state.snapshots)
                    .into_iter()
                    .partition(|(_, (of, _, _))| of == owner);
                state.snapshots = kept;
                (environments, gone.into_values().collect())
            };
            for id in &environments {
                self.end(id).await;
            }
            for (_, _, kept) in snapshots {
                let _ = fs::remove_dir_all(kept);
            }
        })
    }
}

fn known(name: &str) -> Result<(), Failure> {
    if PACKAGES.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let nearest = PACKAGES
        .iter()
        .filter(|(known, _)| known.starts_with(&name[..name.len().min(2)]))
        .map(|(known, _)| (*known).to_owned())
        .collect();
    Err(Failure::NoSuchPackage {
        name: name.to_owned(),
        nearest,
    })
}
