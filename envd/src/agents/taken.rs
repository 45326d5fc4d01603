//! The files of an environment at a moment, for what begins with them: forks, snapshots, and what is put back.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use envd_agents::service::{
    Failure,
    environment::{Limits, Network},
};

use super::{
    Shared,
    berth::Berth,
    blocking, failure,
    layers::{Frozen, MOST_FROZEN},
    lending::launch,
    live::{Beginning, Ground, Lent, Live, Over, Parts},
};
use tokio::sync::OwnedRwLockWriteGuard;

/// How long the answer has to go out before an environment is launched again, which takes a processor.
const ANSWERED: Duration = Duration::from_millis(1);

/// What was taken of an environment.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    ground: Arc<Ground>,
    frozen: Frozen,
    beginning: Beginning,
    limits: Limits,
}

impl Taken {
    fn of(parts: &Parts, frozen: Frozen) -> Self {
        Self {
            ground: parts.ground.clone(),
            frozen,
            beginning: parts.beginning.clone(),
            limits: parts.limits.clone(),
        }
    }

    /// Launches another environment from it.
    pub(super) fn launch(
        &self,
        shared: &Shared,
        network: &Network,
        berth: Berth,
    ) -> Result<Live, Failure> {
        let (ground, beginning) = (self.ground.clone(), Some(self.beginning.clone()));
        let limits = self.limits.clone();
        launch(
            shared,
            ground,
            self.frozen.clone(),
            beginning,
            network,
            berth,
            limits,
        )
    }
}

/// Takes an environment's files as they are, and uses them. Where nothing runs in it that is a rename, whatever is in them: it ends,
/// and is launched again over them, beside what is done next, for which nobody has to wait but who uses it; a few small ones are
/// copied. Where something runs inside, which that would end, everything is stopped for as long as it takes to copy them instead.
pub(super) async fn freeze<T: Send + 'static>(
    shared: &Arc<Shared>,
    lent: &Arc<Lent>,
    then: impl FnOnce(&Shared, &Network, Taken) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let mut slot = lent.live.clone().write_owned().await;
    let (shared, lent) = (shared.clone(), lent.clone());
    blocking(move || {
        let Some(live) = slot.take() else {
            return Err(Failure::no_such_environment(&lent.id));
        };
        let network = &lent.network;
        let new = || shared.fresh("frozen");
        let failed = |error: &io::Error| failure::internal("freezing its files", error);
        let is_busy = live.is_busy();
        let unwritten = match is_busy {
            true => Ok(None),
            false => live.parts.layers.unwritten(),
        };
        let is_deep = live.parts.layers.is_deep();
        let taken = match unwritten {
            Err(error) => Err(failed(&error)),
            Ok(Some(frozen)) => Ok(Some(Taken::of(&live.parts, frozen))),
            Ok(None) if is_deep => Err(Failure::LimitReached {
                limit: "snapshots and forks of one environment, one after the other".to_owned(),
                value: format!("{MOST_FROZEN}; apply its changes and create a new one"),
            }),
            Ok(None) if is_busy => copy(&live, &new).map(Some),
            Ok(None) => match live.parts.layers.is_small() {
                Ok(true) => {
                    let copied = live.parts.layers.copy(&new);
                    let copied = copied.map_err(|error| failed(&error));
                    copied.map(|frozen| Some(Taken::of(&live.parts, frozen)))
                }
                // What cannot be looked at can be renamed.
                Ok(false) | Err(_) => Ok(None),
            },
        };
        if let Some(taken) = taken.transpose() {
            *slot = Some(live);
            drop(slot);
            return then(&shared, network, taken?);
        }
        let mut parts = live.end();
        match parts.layers.freeze(&new) {
            Ok(frozen) => {
                let taken = Taken::of(&parts, frozen.clone());
                let used = then(&shared, network, taken);
                launch_again(shared, lent, slot, parts, frozen);
                used
            }
            Err(error) => {
                // It goes on all the same.
                *slot = Some(Live::launch(
                    &shared,
                    parts.load(|layers| Over::Own(Box::new(layers))),
                    network,
                )?);
                Err(failed(&error))
            }
        }
    })
    .await
}

/// Launches one over its frozen files. Who wants something of it waits.
fn launch_again(
    shared: Arc<Shared>,
    lent: Arc<Lent>,
    mut slot: OwnedRwLockWriteGuard<Option<Live>>,
    parts: Parts,
    frozen: Frozen,
) {
    let launch = move || {
        let mut before = None;
        let load = parts.load(|layers| {
            before = Some(layers);
            Over::Frozen(frozen)
        });
        match Live::launch(&shared, load, &lent.network) {
            Ok(live) => *slot = Some(live),
            // Whoever asks for it is told that it is gone.
            Err(failure) => tracing::warn!(%failure, environment = %lent.id, "not launched again"),
        }
        drop(slot);
        drop(before);
    };
    tokio::spawn(async move {
        tokio::time::sleep(ANSWERED).await;
        let _ = tokio::task::spawn_blocking(launch).await;
    });
}

/// Copies the files of an environment that goes on. What runs inside stands still meanwhile: files that are half written are so
/// in the copy, as after a power cut, but none is from before and another from after.
fn copy(live: &Live, new: &dyn Fn() -> PathBuf) -> Result<Taken, Failure> {
    let step = "stopping what runs in it";
    let resident = live.body.resident();
    let resident = resident.ok_or_else(|| failure::without_cause(step, "it has ended"))?;
    let stopped = resident
        .freeze()
        .map_err(|error| failure::internal(step, &error))?;
    let frozen = live.parts.layers.copy(new);
    drop(stopped);
    let frozen = frozen.map_err(|error| failure::internal("copying its files", &error))?;
    Ok(Taken::of(&live.parts, frozen))
}
