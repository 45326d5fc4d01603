//! Debian, and everything of its shape.

pub mod archive;
pub mod control;
pub mod index;
pub mod release;
pub mod search;
pub mod trust;
