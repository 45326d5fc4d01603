//! The Model Context Protocol server over a service for tests: on the wire, over HTTP, and driven by the official clients.
#![forbid(unsafe_code)]

mod audit;
mod clients;
mod connection;
mod fake;
mod ground;
mod http;
mod peers;
mod remote;
mod tools;
mod wire;
