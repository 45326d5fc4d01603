//! Debian, and everything of its shape.

pub mod architecture;
pub mod dependency;
pub mod version;
