//! Configuration: what a package manager does after unpacking, done once for a closure and kept as layers.
//!
//! It goes by [strata](super::strata). A stratum's layer is what the real `dpkg --configure -a` changed, run over the
//! packages up to that stratum with no network, a fixed clock base, host name and environment; its key is that root and the
//! recipe. Commands that would be most of the time and depend on little (byte-compiling Python) are put off
//! ([`recipe::DEFERRED`]), run apart over what the last stratum has come to, and kept by their own inputs. At the end, and
//! over the whole root, the libraries of packages that need nothing else are made known ([`libraries`]).

mod deferred;
mod libraries;
pub mod recipe;
pub mod scripts;
mod shortcut;
pub mod step;
mod together;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use envd_store::{Entry, Meta, Node, Session, Tree, TreeId};

use self::{
    deferred::{Call, parse_calls},
    shortcut::SHORTCUTS,
    step::{Job, Step},
};
use super::{
    RealiseError, checked,
    compose::{self, Known, Package},
    key::memo_key,
    status::Status,
    strata::{self, Strata},
};
use crate::progress::{Phase, Progress};

/// dpkg's status file.
const STATUS: &str = "var/lib/dpkg/status";

/// Everything a configuration run needs to know.
#[derive(Clone, Copy)]
pub struct Configuration<'a> {
    /// The session that owns the scratch directories.
    pub session: &'a Session,
    /// envd's own executable.
    pub program: &'a Path,
    /// Whom to tell.
    pub progress: &'a dyn Progress,
}

/// A private view that steps run over, and what it shows.
pub struct Scratch {
    /// Where it is.
    pub directory: PathBuf,
    /// The tree.
    pub shown: Tree,
}

/// What the first two strata have come to.
pub struct Ahead {
    /// The packages of the two.
    packages: [Vec<TreeId>; 2],
    layers: Vec<Tree>,
    kept: Vec<TreeId>,
    status: Status,
    /// The layers of what was put off.
    deferred: Vec<TreeId>,
    scratch: Option<Scratch>,
}

/// A configured root.
pub struct Root {
    /// The root.
    pub tree: Tree,
    /// The layers that are in it, and trees kept beside them.
    pub kept: Vec<TreeId>,
    /// A private view that some step ran over, if one had to run.
    pub scratch: Option<Scratch>,
}

impl Configuration<'_> {
    /// Configures the first two strata, for [`root`](Self::root). `before` is what came of fewer packages.
    pub fn ahead(
        &self,
        packages: &[Package],
        strata: &Strata,
        before: Option<Ahead>,
    ) -> Result<Ahead, RealiseError> {
        let mut run = Run::new(*self, before.and_then(|before| before.scratch));
        let deferred = run.strata(packages, strata)?;
        Ok(Ahead {
            packages: lower(packages, strata),
            layers: run.layers,
            kept: run.kept,
            status: run.status,
            deferred,
            scratch: run.scratch,
        })
    }

    /// The configured root: what is there of it is taken from the store, the rest made.
    pub fn root(
        &self,
        packages: &[Package],
        strata: &Strata,
        ahead: Option<Ahead>,
    ) -> Result<Root, RealiseError> {
        let (mut run, deferred) = match ahead {
            Some(ahead) if ahead.packages == lower(packages, strata) => {
                let mut run = Run::new(*self, ahead.scratch);
                (run.layers, run.kept, run.status) = (ahead.layers, ahead.kept, ahead.status);
                (run, ahead.deferred)
            }
            other => {
                let mut run = Run::new(*self, other.and_then(|ahead| ahead.scratch));
                let deferred = run.strata(packages, strata)?;
                (run, deferred)
            }
        };
        let known = Known {
            status: std::mem::take(&mut run.status),
            pending: BTreeMap::new(),
        };
        let whole = united(&packages.iter().collect::<Vec<_>>(), &[]);
        let whole = compose::compose(self.session, &whole, &known)?;
        run.kept.extend(&deferred);
        for layer in &deferred {
            run.layers.push(self.session.store().tree(layer)?);
        }
        let tree = whole
            .apply_all(&run.layers.iter().collect::<Vec<_>>())
            .map_err(RealiseError::Tree)?;
        let last: Vec<&Package> = strata.last.iter().map(|&at| &packages[at]).collect();
        let tree = run.with_libraries(tree, &last)?;
        Ok(Root {
            tree,
            kept: run.kept,
            scratch: run.scratch,
        })
    }
}

/// What has been done so far.
struct Run<'a> {
    configuration: Configuration<'a>,
    scratch: Option<Scratch>,
    /// Layers, lowest first.
    layers: Vec<Tree>,
    kept: Vec<TreeId>,
    /// What dpkg wrote about what it has configured.
    status: Status,
    calls: Vec<Call>,
    ground: Ground,
}

/// What commands that were put off run over: the root of the last stratum as dpkg left it.
#[derive(Default)]
struct Ground {
    /// The root and dpkg's layer over it, as one.
    tree: Tree,
    /// The same apart.
    parts: Vec<TreeId>,
    /// What dpkg wrote, where it ran just now over what the scratch view still shows.
    upper: Option<PathBuf>,
}

/// What came of a stratum's run.
struct Outcome {
    layer: TreeId,
    /// A tree of two files: the calls that were put off, and dpkg's status.
    notes: TreeId,
    upper: Option<PathBuf>,
}

impl<'a> Run<'a> {
    fn new(configuration: Configuration<'a>, scratch: Option<Scratch>) -> Self {
        Run {
            configuration,
            scratch,
            layers: Vec::new(),
            kept: Vec::new(),
            status: Status::default(),
            calls: Vec::new(),
            ground: Ground::default(),
        }
    }

    fn session(&self) -> &'a Session {
        self.configuration.session
    }

    /// The private view, brought to show `tree`.
    fn view(&mut self, tree: &Tree) -> Result<PathBuf, RealiseError> {
        // Whatever happens below, what was there is no more.
        let stage = Instant::now();
        let directory = match self.scratch.take() {
            Some(Scratch { directory, shown }) => {
                if shown != *tree {
                    self.ground.upper = None;
                    self.session().reshape_view(&directory, &shown, tree)?;
                }
                directory
            }
            None => self.session().private_view(tree)?,
        };
        tracing::debug!(entries = tree.len(), elapsed = ?stage.elapsed(), "a view to run over");
        self.scratch = Some(Scratch {
            directory: directory.clone(),
            shown: tree.clone(),
        });
        Ok(directory)
    }

    /// Configures the first two strata. Gives the layers of what was put off.
    fn strata(
        &mut self,
        packages: &[Package],
        strata: &Strata,
    ) -> Result<Vec<TreeId>, RealiseError> {
        let of = |numbers: &[usize]| numbers.iter().map(|&at| &packages[at]).collect::<Vec<_>>();
        let (first, second) = (of(&strata.first), of(&strata.second));
        self.stratum(&[], &first)?;
        self.stratum(&first, &second)?;
        self.deferred(&united(&first, &second))
    }

    /// Configures packages over others that are configured already.
    fn stratum(&mut self, below: &[&Package], packages: &[&Package]) -> Result<(), RealiseError> {
        let pending = pending(below, packages);
        if pending.is_empty() && !packages.iter().any(|p| p.preinst || p.postinst) {
            return Ok(());
        }
        let known = Known {
            status: std::mem::take(&mut self.status),
            pending,
        };
        let tree = compose::compose(self.session(), &united(below, packages), &known)?
            .apply_all(&self.layers.iter().collect::<Vec<_>>())
            .map_err(RealiseError::Tree)?;
        let id = self.session().add_tree(&tree)?;
        let outcome = self.configured(id, &tree, packages)?;
        let store = self.session().store();
        let [layer, notes] = [store.tree(&outcome.layer)?, store.tree(&outcome.notes)?];
        let read = |name| compose::read(store, &notes, name).map(Option::unwrap_or_default);
        self.status = Status::parse(&String::from_utf8_lossy(&read("status")?));
        self.calls.extend(parse_calls(&read("calls")?));
        self.ground = Ground {
            tree: tree
                .apply_all(&[&layer, &with_status(&notes)?])
                .map_err(RealiseError::Tree)?,
            parts: vec![id, outcome.layer],
            upper: outcome.upper,
        };
        self.layers.push(layer);
        self.kept.extend([outcome.layer, outcome.notes]);
        Ok(())
    }

    /// What dpkg makes of a root in which these packages wait for it.
    fn configured(
        &mut self,
        id: TreeId,
        tree: &Tree,
        packages: &[&Package],
    ) -> Result<Outcome, RealiseError> {
        let session = self.session();
        let preinsts = packages.iter().filter(|p| p.preinst);
        let postinsts = packages.iter().filter(|p| p.postinst);
        let script = recipe::script(
            tree,
            &preinsts.map(|p| p.info_name()).collect::<Vec<_>>(),
            &postinsts.map(|p| p.name.clone()).collect::<Vec<_>>(),
        );
        let mut words = vec!["configure".to_owned(), id.to_string(), script.clone()];
        words.extend(recipe::words());
        let key = memo_key(&words);
        let notes_key = memo_key(&["configure-notes", &key.to_string()]);
        let store = session.store();
        if let Some((layer, notes)) = store.memo(&key).zip(store.memo(&notes_key)) {
            return Ok(Outcome {
                layer,
                notes,
                upper: None,
            });
        }
        let step = self.step(tree, &script)?;
        let directory = step.directory.clone();
        let job = Job {
            lowers: vec![self.view(tree)?],
            below: vec![id],
            ..Job::new(session, vec![step])
        };
        let stage = Instant::now();
        let scripted = packages.iter().filter(|p| p.postinst).count();
        let progress = self.configuration.progress;
        progress.started(Phase::Configure, scripted as u64);
        let mut line = |line: &str| {
            if line.starts_with("Setting up ") {
                progress.advance(Phase::Configure, 1);
            }
        };
        let made = step::start(self.configuration.program, &job, 1)
            .and_then(|running| running.wait(&mut line, &mut |_, _| {}))
            .map_err(RealiseError::Step)?;
        progress.finished(Phase::Configure);
        tracing::debug!(packages = scripted, elapsed = ?stage.elapsed(), "dpkg has configured");
        let layer = made[0];
        let upper = directory.join("upper");
        // Nothing was put off, or dpkg had no reason to write, where they are missing.
        let calls = fs::read(directory.join("place/deferred")).unwrap_or_default();
        let status = match fs::read(upper.join(STATUS)) {
            Ok(status) => status,
            Err(_) => compose::read(store, tree, STATUS)?.unwrap_or_default(),
        };
        let notes = self.notes(&[("calls", &calls), ("status", &status)])?;
        session.set_memo(&notes_key, &notes)?;
        session.set_memo(&key, &layer)?;
        Ok(Outcome {
            layer,
            notes,
            upper: Some(upper),
        })
    }

    /// dpkg over everything that waits for it, with the expensive commands put off.
    fn step(&self, tree: &Tree, script: &str) -> Result<Step, RealiseError> {
        let mut step = self.bare_step(vec![
            "/bin/sh".into(),
            format!("{}/configure", recipe::WORKPLACE).into(),
        ])?;
        step.place("configure", script)
            .map_err(RealiseError::Step)?;
        for (target, text) in &recipe::STAND_INS {
            if *target == "usr/sbin/policy-rc.d" || tree.get(&checked(target)).is_some() {
                step.stand_in(target, text).map_err(RealiseError::Step)?;
            }
        }
        let mut put_off = Vec::new();
        for (path, _) in tree.iter() {
            let Ok(path) = std::str::from_utf8(path.as_bytes()) else {
                continue;
            };
            let Some(deferred) = recipe::DEFERRED
                .iter()
                .find(|d| recipe::matches(d.pattern, path))
            else {
                continue;
            };
            if deferred
                .unless_below
                .is_some_and(|directory| tree.below(&checked(directory)).next().is_some())
            {
                continue;
            }
            let stub = recipe::stub(deferred.stub, path);
            step.stand_in(path, &stub).map_err(RealiseError::Step)?;
            put_off.push(path);
        }
        for shortcut in &SHORTCUTS {
            if !put_off.contains(&shortcut.path) {
                self.shorten(&mut step, shortcut, tree)?;
            }
        }
        Ok(step)
    }

    /// A step that runs a command.
    fn bare_step(&self, command: Vec<OsString>) -> Result<Step, RealiseError> {
        Ok(Step {
            directory: self.session().scratch()?,
            command,
            stand_ins: Vec::new(),
        })
    }

    /// Has a script say otherwise what it can.
    fn shorten(
        &self,
        step: &mut Step,
        shortcut: &shortcut::Shortcut,
        root: &Tree,
    ) -> Result<(), RealiseError> {
        match shortcut.of(self.session().store(), root)? {
            Some(text) => step
                .stand_in(shortcut.path, &text)
                .map_err(RealiseError::Step),
            None => Ok(()),
        }
    }

    /// Keeps what else came of a run beside its layer: a tree of these files.
    fn notes(&self, files: &[(&str, &[u8])]) -> Result<TreeId, RealiseError> {
        let mut builder = Tree::builder();
        for (name, content) in files {
            let (digest, size) = self.session().put(content, 0o644)?;
            let meta = Meta {
                mode: 0o644,
                ..Meta::default()
            };
            let node = Node::File { digest, size };
            builder
                .insert(checked(name), Entry { meta, node })
                .map_err(RealiseError::Tree)?;
        }
        let tree = builder.finish().map_err(RealiseError::Tree)?;
        Ok(self.session().add_tree(&tree)?)
    }
}

/// A layer of dpkg's status as it is in these notes.
fn with_status(notes: &Tree) -> Result<Tree, RealiseError> {
    let mut layer = Tree::builder().layer();
    if let Some(entry) = notes.get(&checked("status")) {
        layer
            .insert(checked(STATUS), entry.clone())
            .map_err(RealiseError::Tree)?;
    }
    layer.finish().map_err(RealiseError::Tree)
}

/// The packages of the first two strata.
fn lower(packages: &[Package], strata: &Strata) -> [Vec<TreeId>; 2] {
    [&strata.first, &strata.second]
        .map(|numbers| numbers.iter().map(|&at| packages[at].id).collect())
}

/// Packages of two strata in the one order that they have together.
fn united<'p>(some: &[&'p Package], others: &[&'p Package]) -> Vec<&'p Package> {
    let mut all = [some, others].concat();
    all.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    all
}

/// The triggers of configured packages that unpacking others has activated.
fn pending(below: &[&Package], packages: &[&Package]) -> BTreeMap<String, Vec<String>> {
    let interests = strata::interests(below.iter().copied());
    let mut pending = BTreeMap::<String, Vec<String>>::new();
    let activated: std::collections::BTreeSet<&str> = packages
        .iter()
        .flat_map(|package| strata::activations(package, &interests))
        .collect();
    for name in activated {
        for holder in &interests[name] {
            pending
                .entry((*holder).to_owned())
                .or_default()
                .push(name.to_owned());
        }
    }
    pending
}
