//! Builds the programs without a C library that `INIT` and `LAUNCHER` are, from the same sources as the library.

mod freestanding;

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rustc-check-cfg=cfg(freestanding)");
    let library = freestanding::library("envd_init", Path::new("src/lib.rs"), &[]);
    for (name, source, variable) in [
        ("envd-init", "src/main.rs", "ENVD_INIT_PROGRAM"),
        ("envd-launcher", "src/resident.rs", "ENVD_LAUNCHER_PROGRAM"),
    ] {
        let program = freestanding::program(name, Path::new(source), &[&library]);
        println!("cargo:rustc-env={variable}={}", program.display());
    }
}
