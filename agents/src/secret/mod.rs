//! Secrets by name: a value that one command or the proxy gets, and nobody else sees.
//!
//! | file | is |
//! |---|---|
//! | `value` | a value that no log shows |
//! | `kept` | where a value comes from, and what it may be used for |
//! | `keyring` | the values that a server has read, each once |
//! | `scrub` | takes values out of outputs |
//!
//! What is not prevented: a command that was given a secret can write it in another form (base64, a character at a time), and
//! other processes of its environment can read its environment in `/proc`. Values are taken out of outputs where they appear
//! literally, so that a careless command shows none.

mod kept;
mod keyring;
mod scrub;
mod value;

pub use kept::{Header, HeaderError, Kept, Origin, ReadError};
pub use keyring::Keyring;
pub use scrub::{Patterns, Scrubber};
pub use value::Secret;
