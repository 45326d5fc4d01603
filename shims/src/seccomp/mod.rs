//! The system call filter: a table of what is refused and why, and the program made from it.

mod program;
mod table;

pub(crate) use program::compile;
pub use table::{Refusal, Row, TABLE, When};
