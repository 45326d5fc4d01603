//! Debian, and everything of its shape.

pub mod architecture;
pub mod archive;
pub mod control;
pub mod deb;
pub mod dependency;
pub mod index;
pub mod release;
pub mod search;
pub mod trust;
pub mod version;
