//! What an environment keeps when it is launched anew: its place among those that may be lent, and the way out.

use std::sync::Arc;

use envd_agents::{audit::Tally, egress::SecretHeader, policy::Quantity, service::Failure};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;

/// A place for one environment.
#[derive(Debug)]
pub(super) struct Berth {
    /// Its place among those that may be lent. None in the moment in which another has it.
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// What its proxy refused.
    pub(super) tally: Arc<Tally>,
    /// What its proxy puts into requests.
    pub(super) headers: Arc<Vec<SecretHeader>>,
}

impl Berth {
    /// One more, if the policy has room for it.
    pub(super) fn take(shared: &Shared) -> Result<Self, Failure> {
        let room = shared.room.clone().try_acquire_owned().map_err(|_| {
            let policy = shared.grants.policy();
            let most = policy.limit(Quantity::Environments);
            Failure::LimitReached {
                limit: "environments at a time".to_owned(),
                value: most.map_or_else(String::new, |most| {
                    format!("{} ({})", most.value, most.origin)
                }),
            }
        })?;
        Ok(Self {
            room: Some(room),
            tally: Arc::default(),
            headers: Arc::default(),
        })
    }

    /// One more with the headers of another.
    pub(super) fn like(shared: &Shared, headers: &Arc<Vec<SecretHeader>>) -> Result<Self, Failure> {
        Ok(Self {
            headers: headers.clone(),
            ..Self::take(shared)?
        })
    }

    /// The same without its place, which stays where it is.
    pub(super) fn without_room(&self) -> Self {
        Self {
            room: None,
            tally: self.tally.clone(),
            headers: self.headers.clone(),
        }
    }
}
