//! `envd-init`: the program without a C library. What it does depends on the name it is called by; see [`envd_init::run`].
#![no_std]
#![no_main]

mod freestanding;

envd_init::entry!(envd_init::run);
