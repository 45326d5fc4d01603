//! Builds, without a C library: the program `envd-shim`, and the object that `envd` itself starts with.

#[path = "../../init/build/freestanding.rs"]
mod freestanding;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=../../init");
    println!("cargo:rustc-check-cfg=cfg(freestanding)");
    let init = freestanding::library("envd_init", Path::new("../../init/src/lib.rs"), &[]);
    let ours = freestanding::library("envd_trampoline", Path::new("src/lib.rs"), &[&init]);
    let uses = [&init, &ours];
    let shim = freestanding::program("envd-shim", Path::new("src/main.rs"), &uses);
    println!("cargo:rustc-env=ENVD_SHIM_BINARY={}", shim.display());
    let archive = freestanding::archive("envd-front", Path::new("src/front.rs"), &uses);
    if let Some(object) = object(&archive) {
        println!("cargo:front={}", object.display());
    }
}

/// One object of the archive's, with one symbol to be seen from outside: its own copies of memcpy(3) and the like must not be
/// mixed up with the C library's, which are not ready before that is. `None` where the tools for it are missing.
fn object(archive: &Path) -> Option<PathBuf> {
    let symbol = "envd_front";
    let object = freestanding::directory().join("envd-front.o");
    let linked = Command::new("ld")
        .args(["-r", "--gc-sections", "-e", symbol, "-u", symbol, "-o"])
        .args([&object, archive])
        .status();
    let hidden = Command::new("objcopy")
        .arg(format!("--keep-global-symbol={symbol}"))
        .arg(&object)
        .status();
    let done =
        |status: std::io::Result<std::process::ExitStatus>| status.is_ok_and(|s| s.success());
    (done(linked) && done(hidden)).then_some(object)
}
