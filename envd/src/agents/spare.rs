//! Environments that are made ahead, like the last that was asked for: one that waits for commands, and others up to the point
//! where their PID 1 enters its root.
//!
//! They are made when the answer to whoever asked is out, and wait for a minute at most. In them there is nothing but their PID 1. The project is
//! mounted, and nobody has looked for anything in it: what is there when one is used is what is seen. An environment that begins
//! with what another has written has its own overlays mounted over those that are there, before its PID 1 enters.

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use envd_agents::service::{Failure, environment::Limits};
use envd_shims::{
    Halfway, LaunchError, Resident, begin,
    cgroup::Group,
    plan::{Limit, Mount},
};

use super::{
    Shared, failure,
    layers::{Bed, Frozen, Laid, Layers, Targets},
    limits,
    live::{Ground, Over, put_an_end},
    pairs::Pair,
};

/// So many wait for commands, and so many to be told what to begin with: who asks for two at once finds two.
const READY: usize = 2;
const HALFWAY: usize = 2;
/// How long making one waits: what was just asked for goes first, and the command that is likely to follow.
const MOMENT: Duration = Duration::from_millis(3);
/// How long one that is being made is waited for. It takes less than to make another beside it.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long the end of a server waits for one that is being made, on a machine that is slow.
const ENDING: Duration = Duration::from_secs(10);
/// How long they wait to be used, and what they stand on is remembered.
const SPARE_TIME: Duration = Duration::from_secs(60);

/// The first part of an environment.
#[derive(Debug)]
pub(super) struct Prepared {
    body: Begun,
    ground: Arc<Ground>,
    limits: Limits,
    rlimits: BTreeMap<Limit, u64>,
    /// What its project's directory was when it was mounted, if it has one, and its repository's where that is mounted, too.
    outside: [Option<Identity>; 2],
    /// After the body: it can be taken away when nobody is in it.
    group: Option<Group>,
    /// After the body: nothing may have them mounted when they go.
    bed: Bed,
}

/// Its PID 1, gone when this is dropped.
#[derive(Debug)]
struct Begun(Option<Stage>);

/// How far it is.
#[derive(Debug)]
enum Stage {
    Halfway(Box<Halfway>),
    Ready(Resident),
}

impl Stage {
    fn has_ended(&self) -> bool {
        match self {
            Stage::Halfway(halfway) => halfway.has_ended(),
            Stage::Ready(resident) => resident.has_ended(),
        }
    }

    /// Makes what is missing of it, with these mounts over those that it has.
    fn finish(self, mounts: &[Mount]) -> Result<Resident, LaunchError> {
        match self {
            Stage::Halfway(halfway) => {
                let rest = halfway.begun().rest(mounts)?;
                halfway.finish(&rest)
            }
            Stage::Ready(resident) if mounts.is_empty() => Ok(resident),
            Stage::Ready(_) => {
                let message = "nothing more can be mounted in it";
                Err(LaunchError::Plan(message.to_owned()))
            }
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Stage::Halfway(halfway)) => put_an_end(halfway.pidfd()),
            Some(Stage::Ready(resident)) => put_an_end(resident.pidfd()),
            None => {}
        }
    }
}

/// By which a directory is known again: its device and inode, and what the top of an overlay has of it.
type Identity = (u64, u64, u32, u32, u32);

fn identity(directory: &Path) -> Option<Identity> {
    let found = std::fs::metadata(directory).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.mode(),
        found.uid(),
        found.gid(),
    ))
}

fn identities(targets: Targets<'_>) -> [Option<Identity>; 2] {
    [targets.project, targets.repository].map(|path| path.and_then(identity))
}

fn no_directories(error: io::Error) -> Failure {
    failure::internal("making the environment's directories", &error)
}

/// An environment that is made.
pub(super) struct Ready {
    pub(super) resident: Resident,
    pub(super) rlimits: BTreeMap<Limit, u64>,
    pub(super) group: Option<Group>,
    pub(super) layers: Layers,
}

/// One that came to nothing.
pub(super) struct Unfinished {
    pub(super) failure: Failure,
    /// What it was to begin with, for another one.
    pub(super) over: Option<Over>,
}

impl From<Failure> for Box<Unfinished> {
    fn from(failure: Failure) -> Self {
        let over = None;
        Box::new(Unfinished { failure, over })
    }
}

impl Prepared {
    /// Begins to make one. Does not wait for what its PID 1 does.
    pub(super) fn make(
        shared: &Shared,
        ground: &Arc<Ground>,
        limits: &Limits,
        frozen: Frozen,
        more: Option<Pair>,
    ) -> Result<Self, Failure> {
        let step = "launching the environment";
        let failed = |error: &dyn std::error::Error| failure::internal(step, error);
        let targets = ground.blueprint.targets();
        let outside = identities(targets);
        let bed = Bed::make(targets, &shared.empty, &|| shared.pair(), frozen, more)
            .map_err(no_directories)?;
        let mut plan = ground.blueprint.with(&bed);
        limits::enforce(&mut plan, limits, shared.controllers());
        let groups = shared.groups.as_ref();
        let group = groups.map(|groups| groups.make(&limits::of_group(limits)));
        let group = group.transpose().map_err(|error| failed(&error))?;
        let begun = begin(&plan, &shared.place.path()).map_err(|error| failed(&error))?;
        let halfway = shared
            .launcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .begin(begun, group.as_ref())
            .map_err(|error| failed(&error))?;
        Ok(Self {
            body: Begun(Some(Stage::Halfway(Box::new(halfway)))),
            ground: ground.clone(),
            limits: limits.clone(),
            rlimits: plan.limits,
            outside,
            group,
            bed,
        })
    }

    /// Waits until there is nothing left to do before it is told what to begin with.
    fn wait(&mut self) -> Result<(), Failure> {
        let waited = match &mut self.body.0 {
            Some(Stage::Halfway(halfway)) => halfway.wait(),
            _ => Ok(()),
        };
        waited.map_err(|error| failure::internal("launching the environment", &error))
    }

    /// Makes the rest of it, for who begins with nothing.
    fn complete(&mut self) -> Result<(), Failure> {
        let Some(stage) = self.body.0.take() else {
            return Ok(());
        };
        let finished = stage.finish(&[]);
        let finished = finished.map_err(|e| failure::internal("launching the environment", &e))?;
        self.body.0 = Some(Stage::Ready(finished));
        Ok(())
    }

    fn is_ready(&self) -> bool {
        matches!(self.body.0, Some(Stage::Ready(_)))
    }

    /// Whether it is what would be made now.
    fn is_for(&self, ground: &Arc<Ground>, limits: &Limits) -> bool {
        let targets = self.ground.blueprint.targets();
        let stage = self.body.0.as_ref();
        stage.is_some_and(|stage| !stage.has_ended())
            && Arc::ptr_eq(&self.ground, ground)
            && self.limits == *limits
            && self.outside == identities(targets)
    }

    /// Makes the rest of it; `over` what it does not begin with as it is. One that waited may be gone by now, whoever ended it.
    pub(super) fn finish(
        self,
        shared: &Shared,
        over: Option<Over>,
    ) -> Result<Ready, Box<Unfinished>> {
        let step = "launching the environment";
        let Self {
            mut body,
            ground,
            rlimits,
            group,
            bed,
            ..
        } = self;
        let targets = ground.blueprint.targets();
        let (laid, frozen) = match over {
            None => (Ok(bed.lay()), None),
            Some(Over::Frozen(frozen)) => {
                let laid = bed.over(targets, frozen.clone(), &|| shared.pair());
                (laid, Some(frozen))
            }
            Some(Over::Own(layers)) => (bed.again(*layers), None),
        };
        let Laid {
            layers,
            mounts,
            more,
        } = laid.map_err(no_directories)?;
        shared.spare.keep(more);
        let stage = body.0.take();
        let stage = stage.ok_or_else(|| failure::without_cause(step, "it was used before"))?;
        match stage.finish(&mounts) {
            Ok(resident) => Ok(Ready {
                resident,
                rlimits,
                group,
                layers,
            }),
            Err(error) => Err(Box::new(Unfinished {
                failure: failure::internal(step, &error),
                over: Some(frozen.map_or_else(|| Over::Own(Box::new(layers)), Over::Frozen)),
            })),
        }
    }
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Spare {
    state: Mutex<State>,
    /// One that was being made is there, or will not be.
    made: Condvar,
}

#[derive(Debug, Default)]
struct State {
    prepared: Vec<Prepared>,
    /// A directory for the next one that the last had no need of.
    more: Option<Pair>,
    used: Option<Instant>,
    /// Environments that are being launched without one.
    launching: usize,
    /// One will be made.
    wanted: bool,
    /// One is made just now.
    making: bool,
    /// Somebody waits for that one.
    awaited: bool,
    /// Somebody waits for the time to drop them.
    watched: bool,
    /// Nothing is made any more.
    closed: bool,
}

impl Spare {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that is of this kind, and can begin with that.
    pub(super) fn take(
        &self,
        ground: &Arc<Ground>,
        limits: &Limits,
        over: &Over,
    ) -> Option<Prepared> {
        let is_new = matches!(over, Over::Frozen(frozen) if frozen.is_empty());
        let mut state = self.state();
        if let Some(prepared) = state.take(ground, limits, is_new) {
            return Some(prepared);
        }
        if state.making && !state.awaited {
            state.awaited = true;
            let waits = |state: &mut State| state.making;
            let waited = self.made.wait_timeout_while(state, PATIENCE, waits);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.awaited = false;
        }
        state.take(ground, limits, is_new)
    }

    /// As long as what this gives is there, none is made.
    pub(super) fn launching(&self) -> Launching<'_> {
        self.state().launching += 1;
        Launching(self)
    }

    /// Keeps a directory for the next one.
    fn keep(&self, more: Option<Pair>) {
        let mut state = self.state();
        if state.more.is_none() && !state.closed {
            state.more = more;
        }
    }

    /// Ends it. There will be none any more, and nothing is left of one that is being made.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waits = |state: &mut State| state.making;
        let waited = self.made.wait_timeout_while(state, ENDING, waits);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let prepared = (std::mem::take(&mut state.prepared), state.more.take());
        drop(state);
        drop(prepared);
    }
}

impl State {
    fn take(&mut self, ground: &Arc<Ground>, limits: &Limits, is_new: bool) -> Option<Prepared> {
        let place = |is_ready: bool| {
            let mut all = self.prepared.iter();
            all.position(|one| one.is_ready() == is_ready && one.is_for(ground, limits))
        };
        let ready = if is_new { place(true) } else { None };
        let place = ready.or_else(|| place(false))?;
        Some(self.prepared.swap_remove(place))
    }

    /// Whether one that is ready is missing, or one that is not; `None` where none is.
    fn missing(&self) -> Option<bool> {
        let ready = self.prepared.iter().filter(|one| one.is_ready()).count();
        match (ready, self.prepared.len() - ready) {
            (ready, _) if ready < READY => Some(true),
            (_, halfway) if halfway < HALFWAY => Some(false),
            _ => None,
        }
    }
}

/// An environment that somebody waits for is being launched.
pub(super) struct Launching<'s>(&'s Spare);

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        self.0.state().launching -= 1;
    }
}

/// One is being made, whatever comes of it.
struct Making<'s>(&'s Spare);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.state().making = false;
        self.0.made.notify_all();
    }
}

/// Makes what is missing of this kind a moment from now, or when nobody waits for another any more.
pub(super) fn refill(shared: &Arc<Shared>, ground: &Arc<Ground>, limits: &Limits) {
    {
        let mut state = shared.spare.state();
        state.used = Some(Instant::now());
        if state.closed || std::mem::replace(&mut state.wanted, true) {
            return;
        }
        if !std::mem::replace(&mut state.watched, true) {
            let weak = Arc::downgrade(shared);
            tokio::spawn(async move {
                while let Some(left) = weak.upgrade().and_then(|shared| time_left(&shared)) {
                    tokio::time::sleep(left).await;
                }
            });
        }
    }
    let (weak, ground, limits) = (Arc::downgrade(shared), ground.clone(), limits.clone());
    tokio::spawn(async move {
        // Not until there are enough: one that does not last would be made again and again.
        for _ in 0..READY + HALFWAY {
            let shared = loop {
                tokio::time::sleep(MOMENT).await;
                let Some(shared) = weak.upgrade() else { return };
                if shared.spare.state().launching == 0 {
                    break shared;
                }
            };
            let (ground, limits) = (ground.clone(), limits.clone());
            let made = tokio::task::spawn_blocking(move || make(&shared, &ground, &limits));
            match made.await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(failure)) => {
                    // Whoever asks next is told.
                    tracing::warn!(%failure, "no environment can be made ahead");
                    return;
                }
            }
        }
    });
}

/// Makes one, if one is missing; whether another one is.
fn make(shared: &Shared, ground: &Arc<Ground>, limits: &Limits) -> Result<bool, Failure> {
    let (old, more, is_ready) = {
        let mut state = shared.spare.state();
        state.wanted = false;
        let is_other = |prepared: &mut Prepared| !prepared.is_for(ground, limits);
        let old: Vec<_> = state.prepared.extract_if(.., is_other).collect();
        let missing = state.missing();
        let Some(is_ready) = missing.filter(|_| !state.making && !state.closed) else {
            // Who makes one just now may not be at it for long enough.
            let again = missing.is_some() && !state.closed;
            drop(state);
            drop(old);
            return Ok(again);
        };
        state.making = true;
        (old, state.more.take(), is_ready)
    };
    let making = Making(&shared.spare);
    drop(old);
    let make = || {
        let more = match more {
            Some(more) => more,
            None => shared.pair().map_err(no_directories)?,
        };
        let nothing = Frozen::default();
        let mut prepared = Prepared::make(shared, ground, limits, nothing, Some(more))?;
        match is_ready {
            true => prepared.complete()?,
            false => prepared.wait()?,
        }
        Ok(prepared)
    };
    let prepared = make()?;
    let mut state = shared.spare.state();
    // Nor where nobody would drop it again.
    if state.closed || !state.watched {
        drop(state);
        drop(prepared);
        return Ok(false);
    }
    state.prepared.push(prepared);
    let is_short = state.missing().is_some();
    drop(state);
    drop(making);
    Ok(is_short)
}

/// How long they still wait. `None`: not at all, and they are gone.
fn time_left(shared: &Shared) -> Option<Duration> {
    let mut state = shared.spare.state();
    let used = state.used.map_or(SPARE_TIME, |used| used.elapsed());
    if let Some(left) = SPARE_TIME.checked_sub(used).filter(|left| !left.is_zero()) {
        return Some(left);
    }
    state.watched = false;
    let prepared = (std::mem::take(&mut state.prepared), state.more.take());
    drop(state);
    shared.known.forget();
    drop(prepared);
    None
}
