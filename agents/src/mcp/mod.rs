//! The Model Context Protocol, over a [`Service`](crate::service::Service).
//!
//! A thin wrapper around `rmcp`, which does framing, negotiation and correlation; here is what envd says with it:
//!
//! | file | is |
//! |---|---|
//! | `tools` | the table: name, description, hints, schemas, method |
//! | `server` | the protocol's requests, answered from the table |
//! | `resources` | whole outputs and diffs, in stretches |
//! | `progress` | what a call tells while it goes on |
//! | `schema`, `text` | types and results as clients and models read them |
//! | `stdio`, `http`, `token` | who may speak to it, and how it ends |
//! | `TOOLS.md` | all of it as a document, held by a test |
//!
//! Revisions: 2026-07-28 (`server/discover`, everything in each request's `_meta`) and, by `initialize`, 2025-11-25,
//! 2025-06-18, 2025-03-26 and 2024-11-05.

#[cfg(test)]
mod document;
mod http;
mod progress;
mod resources;
mod schema;
mod server;
mod stdio;
mod text;
mod token;
mod tools;

pub use http::{HttpError, HttpOptions, HttpServer, PATH};
pub use server::Server;
pub use stdio::{StreamError, serve, serve_stdio};
pub use token::{NotAToken, Token};
