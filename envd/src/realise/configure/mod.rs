//! Configuration: what a package manager does after unpacking, done once for a closure and kept as layers.
//!
//! The base layer is what the real `dpkg --configure -a` changed, run inside the composed root with no network, a fixed
//! clock base, host name and environment; its key is the composed tree and the recipe's version. Commands that would be
//! most of the time and depend on little (byte-compiling Python) are put off ([`recipe::DEFERRED`]), run apart, and kept by
//! their own inputs, so that one more package does not do them all again.

pub mod recipe;
pub mod scripts;
pub mod step;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use envd_store::{Digest, Entry, Hasher, Meta, Node, Session, Tree, TreeId};

use self::step::{Job, StepError};
use super::{RealiseError, compose::Composed, compose::Package};
use crate::progress::{Phase, Progress};

/// How many steps run at once.
const AT_ONCE: usize = 2;

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
        let key = key(&[
            "configure",
            &recipe::VERSION.to_string(),
            &base_id.to_string(),
        ]);
        let calls_key = self::key(&["configure-calls", &key.to_string()]);
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

/// A call that a stand-in noted: program and arguments.
type Call = Vec<OsString>;

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

    /// The layers of the commands that were put off, in a fixed order.
    fn deferred(&mut self, calls: &[Call]) -> Result<Vec<TreeId>, RealiseError> {
        let mut layers = BTreeMap::new();
        let mut waiting = Vec::new();
        let mut configured = None;
        for (number, call) in calls.iter().enumerate() {
            let tree = match &configured {
                Some(tree) => tree,
                None => configured.insert(self.configured()?),
            };
            let key = self.call_key(call, tree)?;
            match self.session().store().memo(&key) {
                Some(layer) => {
                    layers.insert(number, layer);
                }
                None => waiting.push((number, key, call.clone())),
            }
        }
        let progress = self.configuration.progress;
        if !waiting.is_empty() {
            progress.started(Phase::Finish, waiting.len() as u64);
        }
        let lowers = if waiting.is_empty() {
            Vec::new()
        } else {
            self.configured_directories()?
        };
        let mut running = Vec::new();
        let mut waiting = waiting.into_iter();
        loop {
            while running.len() < AT_ONCE
                && let Some((number, key, command)) = waiting.next()
            {
                let job = Job {
                    parent: own_id(),
                    store: self.session().store().path(""),
                    lowers: lowers.clone(),
                    below: [Some(self.base_id), self.base_layer]
                        .into_iter()
                        .flatten()
                        .collect(),
                    directory: self.step_directory()?,
                    command,
                    stand_ins: Vec::new(),
                };
                running.push((
                    number,
                    key,
                    step::start(self.configuration.program, &job).map_err(RealiseError::Step)?,
                ));
            }
            if running.is_empty() {
                break;
            }
            let (number, key, step) = running.remove(0);
            let layer = step.wait(&mut |_| {}).map_err(RealiseError::Step)?;
            self.session().set_memo(&key, &layer)?;
            layers.insert(number, layer);
            progress.advance(Phase::Finish, 1);
        }
        progress.finished(Phase::Finish);
        Ok(layers.into_values().collect())
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

    /// What a put-off call's result depends on.
    fn call_key(&self, call: &Call, configured: &Tree) -> Result<Digest, RealiseError> {
        let program = call.iter().find_map(|word| {
            let text = word.to_str()?.strip_prefix('/')?;
            recipe::DEFERRED
                .iter()
                .find(|d| recipe::matches(d.pattern, text))
        });
        let Some(deferred) = program else {
            return Err(RealiseError::Step(StepError::Failed {
                at: String::new(),
                tail: format!("unknown call {call:?}"),
            }));
        };
        let packages = self.configuration.packages;
        let mut hasher = KeyHasher::new("deferred");
        hasher.word(&recipe::VERSION.to_le_bytes());
        for word in call {
            hasher.word(&word.clone().into_vec());
            // A file or directory that is named is an input with all below it.
            if let Some(path) = word.to_str().and_then(|text| text.strip_prefix('/')) {
                hasher.word(subtree(configured, path).as_bytes());
            }
        }
        let option = deferred.package_option.and_then(|option| {
            let at = call.iter().position(|word| word == option)?;
            // Possibly with an architecture, `python3-yaml:amd64`.
            call.get(at + 1)?.to_str()?.split(':').next()
        });
        for path in deferred.files {
            hasher.word(subtree(configured, path).as_bytes());
        }
        for package in packages {
            let is_input = deferred
                .inputs
                .iter()
                .any(|pattern| recipe::matches(pattern, &package.name));
            if is_input || option == Some(package.name.as_str()) {
                hasher.word(package.name.as_bytes());
                hasher.word(package.id.0.as_bytes());
            }
        }
        Ok(hasher.finish())
    }

    /// Keeps the calls beside the layer: a tree of one file.
    fn remember_calls(&self, calls: &[Call]) -> Result<TreeId, RealiseError> {
        let mut text = Vec::new();
        for call in calls {
            for word in call {
                text.extend(word.clone().into_vec());
                text.push(0);
            }
            text.extend(b"\n\0");
        }
        let (digest, size) = self.session().put(&text, 0o644)?;
        let mut builder = Tree::builder();
        let meta = Meta {
            mode: 0o644,
            ..Meta::default()
        };
        let node = Node::File { digest, size };
        builder
            .insert(super::checked("calls"), Entry { meta, node })
            .map_err(RealiseError::Tree)?;
        let tree = builder.finish().map_err(RealiseError::Tree)?;
        Ok(self.session().add_tree(&tree)?)
    }

    fn remembered_calls(&self, id: &TreeId) -> Result<Vec<Call>, RealiseError> {
        let store = self.session().store();
        let tree = store.tree(id)?;
        Ok(parse_calls(
            &super::compose::read(store, &tree, "calls")?.unwrap_or_default(),
        ))
    }
}

/// This process, as its children know it.
fn own_id() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Reads what the stand-ins noted. The same call twice is one call.
fn parse_calls(log: &[u8]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut call = Call::new();
    // Each word ends with a NUL, each call with a word that is a line feed. Words may be empty.
    for word in log.split_inclusive(|&b| b == 0) {
        let word = word.strip_suffix(b"\0").unwrap_or(word);
        if word == b"\n" {
            let call = std::mem::take(&mut call);
            if !call.is_empty() && !calls.contains(&call) {
                calls.push(call);
            }
        } else {
            call.push(OsString::from_vec(word.to_vec()));
        }
    }
    calls
}

/// The digest of one path of a tree and all below it.
fn subtree(tree: &Tree, at: &str) -> Digest {
    let mut hasher = KeyHasher::new("subtree");
    if let Ok(at) = envd_store::TreePath::new(at.trim_end_matches('/').as_bytes()) {
        let top = tree.get(&at).map(|entry| (&at, entry));
        for (path, entry) in top.into_iter().chain(tree.below(&at)) {
            hasher.word(path.as_bytes());
            hasher.word(&entry.meta.mode.to_le_bytes());
            match &entry.node {
                Node::Directory => hasher.word(b"d"),
                Node::File { digest, .. } => hasher.word(digest.as_bytes()),
                Node::Symlink { target } => hasher.word(target),
                Node::HardLink { target } => hasher.word(target.as_bytes()),
                Node::Whiteout => hasher.word(b"w"),
            }
        }
    }
    hasher.finish()
}

/// A digest of words, each with its length, so that no two lists of words are alike.
struct KeyHasher(Hasher);

impl KeyHasher {
    fn new(kind: &str) -> Self {
        let mut hasher = Self(Hasher::default());
        hasher.word(kind.as_bytes());
        hasher
    }

    fn word(&mut self, word: &[u8]) {
        self.0.update(&(word.len() as u64).to_le_bytes());
        self.0.update(word);
    }

    fn finish(self) -> Digest {
        self.0.finish().0
    }
}

/// The key of a cached result with these inputs.
pub fn key(words: &[&str]) -> Digest {
    let mut hasher = KeyHasher::new("envd-memo 1");
    for word in words {
        hasher.word(word.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_back_once_each() {
        let log = b"/usr/bin/py3compile\0-p\0python3-six\0\n\0/usr/bin/py3compile\0-p\0python3-six\0\n\0a\0\n\0";
        let calls = parse_calls(log);
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0], ["/usr/bin/py3compile", "-p", "python3-six"]);
    }

    #[test]
    fn keys_tell_words_apart() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    }
}
