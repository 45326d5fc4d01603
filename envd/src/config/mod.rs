//! The file people write, `envd.toml`: read with a span for everything that can be wrong ([`manifest`]), published as a
//! JSON Schema ([`schema`]), edited in place ([`edit`]) and guessed for a project that has none ([`detect`]).

pub mod detect;
pub mod edit;
pub mod manifest;
mod reader;
pub mod schema;
pub mod source;
mod write;

pub(crate) use reader::{Fault, Reader, TableReader};

pub use manifest::{AcceptExpired, EnvironmentSection, Home, Manifest, NAME, package_name};
pub use source::{ConfigError, Diagnostic, Source};
pub use write::{WriteError, write_new, write_over};
