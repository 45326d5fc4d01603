//! `envd-launcher`: makes environments and is PID 1 of them, a program without a C library; see [`envd_init::launcher`].
//!
//! A file of its own and not another name of `envd-init`: what a process keeps in memory is its whole file, if that is small.
#![no_std]
#![no_main]

mod freestanding;

envd_init::entry_on_own_stack!(envd_init::launcher::run);
