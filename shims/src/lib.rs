//! How a process gets into an environment.
//!
//! A [`Plan`] says everything that is to happen, as data; [`launch`] makes it happen. Policy is elsewhere: the launcher
//! does what the plan says and refuses what the kernel refuses, by name.

pub mod plan;

pub use plan::Plan;
