//! `envd-init`: PID 1 of a container, a program without a C library; see [`envd_init::container`].
#![no_std]
#![no_main]

mod freestanding;

envd_init::entry!(envd_init::container::run);
