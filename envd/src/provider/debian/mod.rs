//! Debian, and everything of its shape.

pub mod control;
pub mod release;
pub mod trust;
