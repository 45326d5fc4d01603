//! How the program is linked: for a quick start, because `envd run` is started thousands of times a day.
//!
//! A program linked to shared libraries spends 0.3 ms on finding, mapping and relocating them before `main`, and a
//! position-independent one as much again on itself; a forked copy of it pays for each mapping once more. Hence one file
//! without either, where the C library is there as an archive. Where it is not, the program is linked as ever.
//!
//! This is done for the program alone by what the linker is told: `-C target-feature=+crt-static` would need a target
//! directory of its own, or no procedural macros.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// What the standard library asks the linker for by name, and the archive that answers. All but the last two are empty in
/// glibc since 2.34.
const LIBRARIES: [(&str, &str); 7] = [
    ("dl", "libdl.a"),
    ("pthread", "libpthread.a"),
    ("rt", "librt.a"),
    ("util", "libutil.a"),
    ("m", "libm.a"),
    ("c", "libc.a"),
    ("gcc_s", "libgcc_eh.a"),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(envd_static)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|set| set == value);
    let native = env::var("HOST").ok() == env::var("TARGET").ok();
    if !(is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && native) {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-no-pie");
    let Some(directory) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    let found: Vec<_> = LIBRARIES
        .iter()
        .filter_map(|(name, archive)| Some((*name, archive_at(archive)?)))
        .collect();
    let complete = found.len() == LIBRARIES.len();
    let wanted = |name: &str| complete || name == "gcc_s";
    let mut shadowing = found.iter().filter(|(name, _)| wanted(name));
    if shadowing.any(|(name, archive)| shadow(&directory, name, archive).is_err()) {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-L{}", directory.display());
    if complete {
        println!("cargo:rustc-link-arg-bins=-static");
        println!("cargo:rustc-cfg=envd_static");
        // What is there before the C library is, and mostly does without it (shims/trampoline).
        if let Some(front) = env::var_os("DEP_ENVD_TRAMPOLINE_FRONT") {
            let front = Path::new(&front).display();
            println!("cargo:rustc-link-arg-bin=envd={front}");
            println!("cargo:rustc-link-arg-bin=envd=-Wl,-e,envd_front");
        }
    }
}

/// Where the compiler driver has an archive, if it has.
fn archive_at(name: &str) -> Option<PathBuf> {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let output = Command::new(linker)
        .arg(format!("-print-file-name={name}"))
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    // What it does not have, it names as it was asked.
    (path.is_absolute() && path.is_file()).then_some(path)
}

/// The compiler asks the linker for `-lNAME`, of a shared library. A linker script of that name, found first, answers with
/// the archive.
fn shadow(directory: &Path, name: &str, archive: &Path) -> io::Result<()> {
    let script = format!("INPUT({})\n", archive.display());
    fs::write(directory.join(format!("lib{name}.so")), script)
}
