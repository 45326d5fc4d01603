//! `envd-shim`: see [`envd_trampoline::shim`].
#![no_std]
#![no_main]

#[path = "../../../init/src/freestanding.rs"]
mod freestanding;

envd_init::entry!(envd_trampoline::shim::run);
