//! What a session began with, so that a project that has moved since is noticed.
//!
//! Nothing is copied when a session begins: the file system's own clock says what changed since. Where a file changed on both
//! sides, its text at the beginning may still be known to somebody ([`BaseContent`]).

use std::collections::BTreeMap;

use envd_store::TreePath;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{Applied, Moment, Stamp, escape};

/// When a session began, and what it has put into the project itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Base {
    /// By the clock of file systems.
    pub since: Moment,
    /// What was put there: such files have changed since, and are no news to the session.
    #[serde(serialize_with = "save", deserialize_with = "load")]
    applied: BTreeMap<TreePath, Stamp>,
    /// The same of the top directory.
    top: Option<Stamp>,
}

impl Base {
    /// Of a session that begins now. Must be taken before the overlay is mounted.
    pub fn now() -> Self {
        // The clock that file systems take their times from: the fine one is ahead of it by up to a tick, and what changes
        // within that tick would seem older than the session.
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let since = Moment(now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0));
        Self::at(since)
    }

    /// Of a session that began then.
    pub fn at(since: Moment) -> Self {
        Self {
            since,
            applied: BTreeMap::new(),
            top: None,
        }
    }

    /// Remembers what was applied.
    pub fn record(&mut self, applied: &Applied) {
        let stamps = applied.stamps.iter();
        self.applied
            .extend(stamps.map(|(path, stamp)| (path.clone(), *stamp)));
        self.top = applied.top.or(self.top);
    }

    /// Whether somebody else has changed what is at a path. No path is the top.
    pub(super) fn moved(&self, path: Option<&TreePath>, stamp: &Stamp) -> bool {
        let ours = match path {
            Some(path) => self.applied.get(path),
            None => self.top.as_ref(),
        };
        stamp.change >= self.since && ours != Some(stamp)
    }
}

fn save<S: Serializer>(applied: &BTreeMap<TreePath, Stamp>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(
        applied
            .iter()
            .map(|(path, stamp)| (escape::name(path.as_bytes()), stamp)),
    )
}

fn load<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<TreePath, Stamp>, D::Error> {
    let map = BTreeMap::<String, Stamp>::deserialize(from)?;
    let path = |name: &str| escape::parse_name(name).and_then(|bytes| TreePath::new(&bytes).ok());
    map.into_iter()
        .map(|(name, stamp)| match path(&name) {
            Some(path) => Ok((path, stamp)),
            None => Err(D::Error::custom(format!("{name:?} is no path"))),
        })
        .collect()
}

/// What was at a path when the session began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BaseState {
    /// Nobody knows.
    Unknown,
    /// Nothing.
    Absent,
    /// A file with this content.
    File(Vec<u8>),
}

/// Who knows what files were when the session began.
pub trait BaseContent {
    /// What was at `path`; a file of more than `limit` bytes counts as unknown.
    fn content(&self, path: &TreePath, limit: u64) -> BaseState;
}

/// Nobody knows.
#[derive(Clone, Copy, Default, Debug)]
pub struct NoBaseContent;

impl BaseContent for NoBaseContent {
    fn content(&self, _: &TreePath, _: u64) -> BaseState {
        BaseState::Unknown
    }
}
