//! The record of what agents did: one JSON line a call, beside the store, append-only. `AUDIT.md` says what is in a line.
//!
//! | file | is |
//! |---|---|
//! | `service` | [`Audited`], a service that records what another does |
//! | `record` | a line |
//! | `digest` | requests and answers by their SHA-256 |
//! | `log` | the files: appending, rotating, reading |
//! | `tally` | what a proxy refused, counted |
//! | `time` | moments as RFC 3339 writes them |

mod digest;
mod log;
mod record;
mod service;
mod tally;
mod time;

pub use log::{Log, Logged, MOST_BYTES, MOST_FILES, read};
pub use record::{Record, Refused};
pub use service::{Audited, Denials, Whose};
pub use tally::Tally;
pub use time::{timestamp, utc};
