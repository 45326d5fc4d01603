//! The files of an environment at a moment, for what begins with them: forks, snapshots, and what is put back.

use std::{path::PathBuf, sync::Arc};

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
    live::{Beginning, Ground, Lent, Live},
};

/// What was taken of an environment.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    ground: Arc<Ground>,
    frozen: Frozen,
    beginning: Beginning,
    limits: Limits,
}

impl Taken {
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
            Some(&self.frozen),
            beginning,
            network,
            berth,
            limits,
        )
    }
}

/// Freezes an environment's files and launches it again over them: two renames, whatever is in them. Where something runs inside,
/// which that would end, everything is stopped for as long as it takes to copy them instead.
pub(super) async fn freeze(shared: &Arc<Shared>, lent: &Arc<Lent>) -> Result<Taken, Failure> {
    let mut slot = lent.live.clone().write_owned().await;
    let (shared, lent) = (shared.clone(), lent.clone());
    blocking(move || {
        let Some(live) = slot.take() else {
            return Err(Failure::no_such_environment(&lent.id));
        };
        if live.parts.layers.is_deep() {
            *slot = Some(live);
            return Err(Failure::LimitReached {
                limit: "snapshots and forks of one environment, one after the other".to_owned(),
                value: format!("{MOST_FROZEN}; apply its changes and create a new one"),
            });
        }
        let new = || shared.fresh("frozen");
        if live.is_busy() {
            let taken = copy(&live, &new);
            *slot = Some(live);
            return taken;
        }
        let mut parts = live.end();
        let frozen = parts.layers.freeze(&new);
        let taken = |frozen| Taken {
            ground: parts.ground.clone(),
            frozen,
            beginning: parts.beginning.clone(),
            limits: parts.limits.clone(),
        };
        let frozen = frozen.map(taken);
        // Whether or not it could be frozen, it goes on.
        *slot = Some(Live::launch(&shared, parts, &lent.network)?);
        frozen.map_err(|error| failure::internal("freezing its files", &error))
    })
    .await
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
    Ok(Taken {
        ground: live.parts.ground.clone(),
        frozen,
        beginning: live.parts.beginning.clone(),
        limits: live.parts.limits.clone(),
    })
}
