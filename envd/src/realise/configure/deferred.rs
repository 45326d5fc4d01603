//! The commands that were put off while dpkg ran: what stands in for them noted the calls, and here each is run for real, or
//! taken from the store by what it depends on.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
};

use envd_store::{Digest, Entry, Meta, Node, Tree, TreeId};

use super::{
    Run, own_id, recipe,
    step::{self, Job, StepError},
};
use crate::{
    progress::Phase,
    realise::{
        RealiseError, checked, compose,
        key::{KeyHasher, subtree},
    },
};

/// How many commands run at once.
const AT_ONCE: usize = 2;

/// A call that a stand-in noted: program and arguments.
pub(super) type Call = Vec<OsString>;

/// A call that the store has no result of.
struct Waiting {
    number: usize,
    key: Digest,
    call: Call,
}

/// What a command runs over: directories, topmost first, and the trees that they show, lowest first.
struct Ground {
    lowers: Vec<PathBuf>,
    below: Vec<TreeId>,
}

impl Run<'_> {
    /// The layers of the commands that were put off, in a fixed order.
    pub(super) fn deferred(&mut self, calls: &[Call]) -> Result<Vec<TreeId>, RealiseError> {
        let mut layers = BTreeMap::new();
        let mut waiting = Vec::new();
        if !calls.is_empty() {
            let configured = self.configured()?;
            for (number, call) in calls.iter().enumerate() {
                let key = self.call_key(call, &configured)?;
                match self.session().store().memo(&key) {
                    Some(layer) => drop(layers.insert(number, layer)),
                    None => waiting.push(Waiting {
                        number,
                        key,
                        call: call.clone(),
                    }),
                }
            }
        }
        if waiting.is_empty() {
            return Ok(layers.into_values().collect());
        }
        let progress = self.configuration.progress;
        progress.started(Phase::Finish, waiting.len() as u64);
        let mut ground = Ground {
            lowers: self.configured_directories()?,
            below: [Some(self.base_id), self.base_layer]
                .into_iter()
                .flatten()
                .collect(),
        };
        // Python's own modules first: the other commands are Python programs, and start several times faster with them.
        let (first, rest) = waiting.into_iter().partition(|waiting| {
            deferred_of(&waiting.call).is_some_and(|deferred| deferred.stub == recipe::Stub::Python)
        });
        for wave in [first, rest] {
            let made = self.wave(wave, &ground)?;
            for (number, layer, upper) in made {
                layers.insert(number, layer);
                ground.lowers.insert(0, upper);
                ground.below.push(layer);
            }
        }
        progress.finished(Phase::Finish);
        Ok(layers.into_values().collect())
    }

    /// Runs commands that do not build on each other, some at once. Gives of each its number, its layer, and where it wrote.
    fn wave(
        &mut self,
        waiting: Vec<Waiting>,
        ground: &Ground,
    ) -> Result<Vec<(usize, TreeId, PathBuf)>, RealiseError> {
        let mut made = Vec::new();
        let mut running = VecDeque::new();
        let mut waiting = waiting.into_iter();
        loop {
            while running.len() < AT_ONCE
                && let Some(Waiting { number, key, call }) = waiting.next()
            {
                let job = Job {
                    parent: own_id(),
                    store: self.session().store().path(""),
                    lowers: ground.lowers.clone(),
                    below: ground.below.clone(),
                    directory: self.step_directory()?,
                    command: call,
                    stand_ins: Vec::new(),
                };
                let step =
                    step::start(self.configuration.program, &job).map_err(RealiseError::Step)?;
                running.push_back((number, key, job.directory.join("upper"), step));
            }
            let Some((number, key, upper, step)) = running.pop_front() else {
                return Ok(made);
            };
            let layer = step.wait(&mut |_| {}).map_err(RealiseError::Step)?;
            self.session().set_memo(&key, &layer)?;
            self.configuration.progress.advance(Phase::Finish, 1);
            made.push((number, layer, upper));
        }
    }

    /// What a put-off call's result depends on.
    fn call_key(&self, call: &Call, configured: &Tree) -> Result<Digest, RealiseError> {
        let Some(deferred) = deferred_of(call) else {
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
    pub(super) fn remember_calls(&self, calls: &[Call]) -> Result<TreeId, RealiseError> {
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
            .insert(checked("calls"), Entry { meta, node })
            .map_err(RealiseError::Tree)?;
        let tree = builder.finish().map_err(RealiseError::Tree)?;
        Ok(self.session().add_tree(&tree)?)
    }

    pub(super) fn remembered_calls(&self, id: &TreeId) -> Result<Vec<Call>, RealiseError> {
        let store = self.session().store();
        let tree = store.tree(id)?;
        Ok(parse_calls(
            &compose::read(store, &tree, "calls")?.unwrap_or_default(),
        ))
    }
}

/// What a call is a call of.
fn deferred_of(call: &Call) -> Option<&'static recipe::Deferred> {
    call.iter().find_map(|word| {
        let text = word.to_str()?.strip_prefix('/')?;
        recipe::DEFERRED
            .iter()
            .find(|deferred| recipe::matches(deferred.pattern, text))
    })
}

/// Reads what the stand-ins noted. The same call twice is one call.
pub(super) fn parse_calls(log: &[u8]) -> Vec<Call> {
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
}
