//! envd: exact toolchains now, gone afterwards.
//!
//! `envd.toml ─resolve→ envd.lock ─realise→ trees in the store ─compose→ one root ─view→ a process inside it`.
//! ARCHITECTURE.md draws the map; every module here is one room of it.
#![forbid(unsafe_code)]

pub mod agents;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod environment;
pub mod fetch;
pub mod lock;
pub mod operations;
pub mod progress;
pub mod project;
pub mod provider;
pub mod realise;
pub mod resolve;
pub mod services;
pub mod settings;
pub mod shims;
pub mod tasks;
