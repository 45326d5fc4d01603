//! The file people write, `envd.toml`: read with a span for everything that can be wrong ([`manifest`]), published as a
//! JSON Schema ([`schema`]), edited in place ([`edit`]) and guessed for a project that has none ([`detect`]).

pub(crate) mod agent;
mod command;
pub mod detect;
pub mod edit;
pub mod manifest;
mod names;
pub mod pattern;
mod publish;
mod reader;
pub mod schema;
pub mod service;
pub mod source;
pub mod task;
pub mod template;
mod write;

pub(crate) use reader::{Fault, Reader, TableReader, nearest};

pub use command::CommandLine;
pub use manifest::{AcceptExpired, EnvironmentSection, Home, Manifest, NAME, package_name};
pub use pattern::Pattern;
pub use service::{Port, Ready, ServiceSection};
pub use source::{ConfigError, Diagnostic, Source};
pub use task::TaskSection;
pub use template::Template;
pub use write::{WriteError, write_new, write_over};
