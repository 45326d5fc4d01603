//! Builds the program without a C library that `BINARY` is, from the same sources as the library.

mod freestanding;

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rustc-check-cfg=cfg(freestanding)");
    let library = freestanding::library("envd_init", Path::new("src/lib.rs"), &[]);
    let program = freestanding::program("envd-init", Path::new("src/main.rs"), &[&library]);
    println!("cargo:rustc-env=ENVD_INIT_BINARY={}", program.display());
}
