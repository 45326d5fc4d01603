//! The commands that were put off while dpkg ran: what stands in for them noted the calls, and here each is run for real, or
//! taken from the store by what it depends on.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt, time::Instant};

use envd_store::{Digest, Tree, TreeId};

use super::{
    Run, recipe,
    shortcut::SHORTCUTS,
    step::{self, Job, Step, StepError},
    together,
};
use crate::{
    progress::Phase,
    realise::{
        RealiseError,
        compose::Package,
        key::{KeyHasher, subtree},
    },
};

/// How many processes run commands at once.
const AT_ONCE: usize = 2;

/// A call that a stand-in noted: program and arguments.
pub(super) type Call = Vec<OsString>;

/// A call that the store has no result of.
struct Waiting {
    number: usize,
    key: Digest,
    call: Call,
}

impl Run<'_> {
    /// The layers of the commands that were put off, in a fixed order.
    pub(super) fn deferred(&mut self, packages: &[&Package]) -> Result<Vec<TreeId>, RealiseError> {
        let mut layers = BTreeMap::new();
        let mut waiting = Vec::new();
        let calls = sufficient(std::mem::take(&mut self.calls));
        for (number, call) in calls.into_iter().enumerate() {
            let key = call_key(&call, &self.ground.tree, packages)?;
            match self.session().store().memo(&key) {
                Some(layer) => drop(layers.insert(number, layer)),
                None => waiting.push(Waiting { number, key, call }),
            }
        }
        if waiting.is_empty() {
            return Ok(layers.into_values().collect());
        }
        let progress = self.configuration.progress;
        progress.started(Phase::Finish, waiting.len() as u64);
        let mut job = Job::new(self.session(), Vec::new());
        // Where dpkg just ran, what it wrote lies over the view; else a view of both is made.
        match (&self.ground.upper, &self.scratch) {
            (Some(upper), Some(scratch)) => {
                job.lowers = vec![upper.clone(), scratch.directory.clone()];
                job.below.clone_from(&self.ground.parts);
            }
            _ => {
                let tree = self.ground.tree.clone();
                job.lowers = vec![self.view(&tree)?];
                job.below = vec![self.session().add_tree(&tree)?];
            }
        }
        // What takes longest begins first.
        waiting.sort_by_key(|waiting| {
            (
                std::cmp::Reverse(weight(&waiting.call, packages)),
                waiting.number,
            )
        });
        // Python's own modules first: the other commands are Python programs, and start several times faster with them.
        let (first, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|waiting| {
            deferred_of(&waiting.call).is_some_and(|deferred| deferred.stub == recipe::Stub::Python)
        });
        for calls in [first, rest] {
            let stage = Instant::now();
            let number = calls.len();
            let batches = self.batches(calls, packages)?;
            let made = self.wave(batches, &job, packages)?;
            tracing::debug!(calls = number, elapsed = ?stage.elapsed(), "made what was put off");
            for step in made.steps {
                job.lowers.insert(0, step.directory.join("upper"));
            }
            for (number, layer) in made.layers {
                job.below.push(layer);
                layers.insert(number, layer);
            }
        }
        progress.finished(Phase::Finish);
        Ok(layers.into_values().collect())
    }

    /// Which calls are made by one step: alike ones whose results can be [told apart](together::parts) share a few, since most of the
    /// time of a small one is that of starting its program.
    fn batches(
        &self,
        calls: Vec<Waiting>,
        packages: &[&Package],
    ) -> Result<Vec<Vec<Waiting>>, RealiseError> {
        let drivable = together::can_drive(self.session().store(), &self.ground.tree)?;
        let (alike, single): (Vec<Waiting>, Vec<Waiting>) = calls
            .into_iter()
            .partition(|waiting| drivable && together::package(&waiting.call).is_some());
        let mut shared: Vec<(usize, Vec<Waiting>)> = Vec::new();
        shared.resize_with(AT_ONCE, Default::default);
        for waiting in alike {
            if let Some((total, batch)) = shared.iter_mut().min_by_key(|(total, _)| *total) {
                *total += weight(&waiting.call, packages);
                batch.push(waiting);
            }
        }
        let single = single.into_iter().map(|waiting| vec![waiting]);
        let shared = shared.into_iter().map(|(_, batch)| batch);
        Ok(single
            .chain(shared.filter(|batch| !batch.is_empty()))
            .collect())
    }

    /// Runs batches that do not build on each other, some at once.
    fn wave(
        &self,
        batches: Vec<Vec<Waiting>>,
        ground: &Job,
        packages: &[&Package],
    ) -> Result<Made, RealiseError> {
        let mut made = Made::default();
        if batches.is_empty() {
            return Ok(made);
        }
        let mut job = ground.clone();
        for batch in &batches {
            job.steps.push(self.step_of(batch)?);
        }
        let progress = self.configuration.progress;
        let mut kept = Ok(());
        step::start(self.configuration.program, &job, AT_ONCE)
            .and_then(|running| {
                running.wait(&mut |_| {}, &mut |number, layer| {
                    if kept.is_ok() {
                        kept = self
                            .keep(&batches[number], layer, packages)
                            .map(|layers| made.layers.extend(layers));
                    }
                    progress.advance(Phase::Finish, batches[number].len() as u64);
                })
            })
            .map_err(RealiseError::Step)?;
        kept?;
        made.steps = job.steps;
        // What could not be told apart is made once more, each call for itself.
        let is_made = |waiting: &Waiting| made.layers.iter().any(|made| made.0 == waiting.number);
        let again: Vec<Vec<Waiting>> = batches
            .into_iter()
            .flatten()
            .filter(|waiting| !is_made(waiting))
            .map(|waiting| vec![waiting])
            .collect();
        let again = self.wave(again, ground, packages)?;
        made.layers.extend(again.layers);
        made.steps.extend(again.steps);
        Ok(made)
    }

    /// The step that makes these calls.
    fn step_of(&self, batch: &[Waiting]) -> Result<Step, RealiseError> {
        let [Waiting { call, .. }] = batch else {
            let packages = batch.iter().filter_map(|w| together::package(&w.call));
            let step = self.bare_step(together::command(packages))?;
            step.place(together::NAME, together::DRIVER)
                .map_err(RealiseError::Step)?;
            return Ok(step);
        };
        let mut step = self.bare_step(call.clone())?;
        for shortcut in &SHORTCUTS {
            if call[0].to_str() == Some(&format!("/{}", shortcut.path)) {
                self.shorten(&mut step, shortcut, &self.ground.tree)?;
            }
        }
        Ok(step)
    }

    /// Keeps what came of a batch: of each call its number and its layer. Nothing, where the calls' results cannot be told apart.
    fn keep(
        &self,
        batch: &[Waiting],
        layer: TreeId,
        packages: &[&Package],
    ) -> Result<Vec<(usize, TreeId)>, RealiseError> {
        let session = self.session();
        let layers = if batch.len() == 1 {
            vec![layer]
        } else {
            let calls: Vec<&Call> = batch.iter().map(|waiting| &waiting.call).collect();
            let whole = session.store().tree(&layer)?;
            let parts = together::parts(&calls, &whole, packages).map_err(RealiseError::Tree)?;
            let parts = parts.iter().map(|part| session.add_tree(part));
            parts.collect::<Result<_, _>>()?
        };
        for (waiting, layer) in batch.iter().zip(&layers) {
            session.set_memo(&waiting.key, layer)?;
        }
        let numbers = batch.iter().map(|waiting| waiting.number);
        Ok(numbers.zip(layers).collect())
    }
}

/// What came of a wave.
#[derive(Default)]
struct Made {
    /// Numbers of calls, with their layers.
    layers: Vec<(usize, TreeId)>,
    steps: Vec<Step>,
}

/// What a put-off call's result depends on.
fn call_key(call: &Call, configured: &Tree, packages: &[&Package]) -> Result<Digest, RealiseError> {
    let Some(deferred) = deferred_of(call) else {
        return Err(RealiseError::Step(StepError::Failed {
            at: String::new(),
            tail: format!("unknown call {call:?}"),
        }));
    };
    let mut hasher = KeyHasher::new("deferred");
    for word in recipe::words() {
        hasher.word(word.as_bytes());
    }
    for word in call {
        hasher.word(&word.clone().into_vec());
        // A file or directory that is named is an input with all below it.
        if let Some(path) = word.to_str().and_then(|text| text.strip_prefix('/')) {
            hasher.word(subtree(configured, path).as_bytes());
        }
    }
    let option = package_option(call, deferred);
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

/// The package that a call names by its option.
fn package_option<'c>(call: &'c Call, deferred: &recipe::Deferred) -> Option<&'c str> {
    let option = deferred.package_option?;
    let at = call.iter().position(|word| word == option)?;
    // Possibly with an architecture, `python3-yaml:amd64`.
    call.get(at + 1)?.to_str()?.split(':').next()
}

/// A guess at how long a call takes, so that the longest is not begun last: the files that it is about.
fn weight(call: &Call, packages: &[&Package]) -> usize {
    let Some(deferred) = deferred_of(call) else {
        return 0;
    };
    if deferred.whole {
        return usize::MAX;
    }
    let option = package_option(call, deferred);
    let package = packages
        .iter()
        .find(|package| option == Some(package.name.as_str()));
    package.map_or(call.len(), |package| package.tree.len())
}

/// The calls without those that a later one makes superfluous.
fn sufficient(calls: Vec<Call>) -> Vec<Call> {
    let whole = |call: &Call| {
        deferred_of(call)
            .filter(|deferred| deferred.whole)
            .map(|d| d.pattern)
    };
    let mut sufficient: Vec<Call> = Vec::new();
    for call in calls {
        let pattern = whole(&call);
        sufficient
            .retain(|earlier| *earlier != call && (pattern.is_none() || whole(earlier) != pattern));
        sufficient.push(call);
    }
    sufficient
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

    #[test]
    fn what_does_everything_anew_is_done_once() {
        let call = |words: &[&str]| words.iter().map(OsString::from).collect::<Call>();
        let all = call(&["/usr/sbin/update-ca-certificates", "--hooksdir", ""]);
        let again = call(&["/usr/sbin/update-ca-certificates"]);
        let [six, pip] = ["python3-six", "python3-pip"]
            .map(|package| call(&["/usr/bin/py3compile", "-p", package]));
        assert_eq!(
            sufficient(vec![all, six.clone(), pip.clone(), again.clone()]),
            [six, pip, again]
        );
    }
}
