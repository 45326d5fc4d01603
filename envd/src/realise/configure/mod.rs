//! Configuration: what a package manager does after unpacking, done once for a closure and kept as layers.
//!
//! The base layer is what the real `dpkg --configure -a` changed, run inside the composed root with no network, a fixed
//! clock base, host name and environment; its key is the composed tree and the recipe. Commands that would be
//! most of the time and depend on little (byte-compiling Python) are put off ([`recipe::DEFERRED`]), run apart, and kept by
//! their own inputs, so that one more package does not do them all again.

mod deferred;
pub mod recipe;
pub mod scripts;
pub mod step;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use envd_store::{Session, Tree, TreeId};

use self::{
    deferred::{Call, parse_calls},
    step::{Job, StepError},
};
use super::{RealiseError, compose::Composed, compose::Package, key::memo_key};
use crate::progress::{Phase, Progress};

/// Everything a configuration run needs to know.
pub struct Configuration<'a> {
    /// The session that owns the scratch directories.
    pub session: &'a Session,
    /// envd's own executable.
    pub program: &'a Path,
    /// The packages of the closure.
    pub packages: &'a [Package],
    /// Their composed root.
    pub composed: &'a Composed,
    /// Whom to tell.
    pub progress: &'a dyn Progress,
}

/// The layers, lowest first, that turn the composed root into the configured one.
pub struct Layers {
    /// Layers to apply in this order.
    pub layers: Vec<TreeId>,
    /// A private view that the steps ran over, if they had to run, and what it shows.
    pub scratch: Option<(PathBuf, Tree)>,
}

impl Configuration<'_> {
    /// The layers, from the store where it has them, else made.
    pub fn layers(&self) -> Result<Layers, RealiseError> {
        let base_id = self.session.add_tree(&self.composed.tree)?;
        let script = recipe::script(
            &self.composed.tree,
            &self.composed.preinsts,
            &self.composed.postinsts,
        );
        let mut words = vec!["configure".to_owned(), base_id.to_string(), script];
        words.extend(recipe::words());
        let key = memo_key(&words);
        let calls_key = memo_key(&["configure-calls", &key.to_string()]);
        let mut run = Run {
            configuration: self,
            base_id,
            base_layer: None,
            base_upper: None,
            scratch: None,
            count: 0,
        };
        let store = self.session.store();
        let known = store.memo(&key).zip(store.memo(&calls_key));
        let (base_layer, calls) = match known {
            Some((layer, calls)) => (layer, run.remembered_calls(&calls)?),
            None => {
                let (layer, calls) = run.base()?;
                self.session.set_memo(&key, &layer)?;
                self.session
                    .set_memo(&calls_key, &run.remember_calls(&calls)?)?;
                (layer, calls)
            }
        };
        run.base_layer = Some(base_layer);
        let mut layers = vec![base_layer];
        layers.extend(run.deferred(&calls)?);
        Ok(Layers {
            layers,
            scratch: run.scratch,
        })
    }
}

struct Run<'a> {
    configuration: &'a Configuration<'a>,
    base_id: TreeId,
    base_layer: Option<TreeId>,
    /// What dpkg wrote, where it ran just now.
    base_upper: Option<PathBuf>,
    scratch: Option<(PathBuf, Tree)>,
    count: usize,
}

impl Run<'_> {
    fn session(&self) -> &Session {
        self.configuration.session
    }

    /// The private view, made of `tree` when the first step needs it.
    fn view(&mut self, tree: Tree) -> Result<PathBuf, RealiseError> {
        if let Some((view, _)) = &self.scratch {
            return Ok(view.clone());
        }
        let view = self.session().private_view(&tree)?;
        self.scratch = Some((view.clone(), tree));
        Ok(view)
    }

    fn step_directory(&mut self) -> Result<PathBuf, RealiseError> {
        self.count += 1;
        let directory = self.session().path().join(format!("step-{}", self.count));
        fs::create_dir_all(&directory).map_err(|source| {
            RealiseError::Step(StepError::Prepare {
                path: directory.clone(),
                source,
            })
        })?;
        Ok(directory)
    }

    /// dpkg over everything, with the expensive commands put off.
    fn base(&mut self) -> Result<(TreeId, Vec<Call>), RealiseError> {
        let configuration = self.configuration;
        let tree = &configuration.composed.tree;
        let directory = self.step_directory()?;
        let place = directory.join("place");
        let write = |name: &str, text: &str| -> Result<PathBuf, RealiseError> {
            let path = place.join(name);
            fs::create_dir_all(&place)
                .and_then(|()| fs::write(&path, text))
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
                .map_err(|source| {
                    RealiseError::Step(StepError::Prepare {
                        path: path.clone(),
                        source,
                    })
                })?;
            Ok(path)
        };
        write(
            "configure",
            &recipe::script(
                tree,
                &configuration.composed.preinsts,
                &configuration.composed.postinsts,
            ),
        )?;
        let mut stand_ins = Vec::new();
        for (number, (target, text)) in recipe::STAND_INS.iter().enumerate() {
            if *target == "usr/sbin/policy-rc.d" || tree.get(&super::checked(target)).is_some() {
                stand_ins.push((
                    write(&format!("stand-in-{number}"), text)?,
                    Path::new("/").join(target),
                ));
            }
        }
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
                .is_some_and(|directory| tree.below(&super::checked(directory)).next().is_some())
            {
                continue;
            }
            let stub = write(
                &format!("deferred-{}", stand_ins.len()),
                &recipe::stub(deferred.stub, path),
            )?;
            stand_ins.push((stub, Path::new("/").join(path)));
        }
        let job = Job {
            parent: own_id(),
            store: self.session().store().path(""),
            lowers: vec![self.view(tree.clone())?],
            below: vec![self.base_id],
            directory: directory.clone(),
            command: vec![
                "/bin/sh".into(),
                format!("{}/configure", recipe::WORKPLACE).into(),
            ],
            stand_ins,
        };
        let scripted = configuration.packages.iter().filter(|p| p.postinst).count();
        configuration
            .progress
            .started(Phase::Configure, scripted as u64);
        let layer = step::start(configuration.program, &job)
            .and_then(|running| {
                running.wait(&mut |line| {
                    if line.starts_with("Setting up ") {
                        configuration.progress.advance(Phase::Configure, 1);
                    }
                })
            })
            .map_err(RealiseError::Step)?;
        configuration.progress.finished(Phase::Configure);
        let log = fs::read(place.join("deferred")).unwrap_or_default();
        self.base_upper = Some(directory.join("upper"));
        Ok((layer, parse_calls(&log)))
    }

    /// The composed tree with dpkg's layer.
    fn configured(&self) -> Result<Tree, RealiseError> {
        let mut tree = self.configuration.composed.tree.clone();
        if let Some(layer) = &self.base_layer {
            let layer = self.session().store().tree(layer)?;
            tree = tree.apply(&layer).map_err(RealiseError::Tree)?;
        }
        Ok(tree)
    }

    /// The lower directories of a root that dpkg has configured: where dpkg just ran, what it wrote over the view; else a
    /// view of the configured tree.
    fn configured_directories(&mut self) -> Result<Vec<PathBuf>, RealiseError> {
        match (&self.base_upper, &self.scratch) {
            (Some(upper), Some((view, _))) => Ok(vec![upper.clone(), view.clone()]),
            _ => {
                let configured = self.configured()?;
                Ok(vec![self.view(configured)?])
            }
        }
    }
}

/// This process, as its children know it.
fn own_id() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
