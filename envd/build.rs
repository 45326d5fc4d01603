//! How the program is linked: for a quick start, because `envd run` is started thousands of times a day.
//!
//! A position-independent program relocates a quarter of a megabyte before `main`, and the unwinder's shared library is
//! found, mapped and relocated for a program that never unwinds. Without both, 0.95 ms from spawn to exit become 0.70 ms
//! (`/bin/true`: 0.53 ms; minimum of 600 runs on the machine that SPECIFICATION.md describes).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|set| set == value);
    let native = env::var("HOST").ok() == env::var("TARGET").ok();
    if !(is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && native) {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-no-pie");
    let Some(directory) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    if has_static_unwinder() && shadow_shared_unwinder(&directory) {
        println!("cargo:rustc-link-arg-bins=-L{}", directory.display());
    }
}

/// Whether the compiler driver brings the unwinder as an archive. Most do; one without links the shared one as ever.
fn has_static_unwinder() -> bool {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let Ok(output) = Command::new(linker)
        .arg("-print-file-name=libgcc_eh.a")
        .output()
    else {
        return false;
    };
    let path = String::from_utf8_lossy(&output.stdout);
    Path::new(path.trim()).is_absolute() && Path::new(path.trim()).is_file()
}

/// The compiler asks the linker for `-lgcc_s`. A linker script of that name, found first, answers with the archive.
fn shadow_shared_unwinder(directory: &Path) -> bool {
    fs::write(directory.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n").is_ok()
}
