//! The first code of `envd`: see [`envd_trampoline::front`].
#![no_std]

#[path = "../../../init/src/freestanding.rs"]
mod freestanding;

envd_init::front!("envd_front", envd_trampoline::front);
