//! Compiling programs without a C library, for build scripts.
//!
//! Cargo has no way yet to give one program of a workspace its own code generation, so the compiler is called here. None of
//! what is compiled has dependencies beyond the workspace. Sizes are promises (SPECIFICATION.md), so all is optimised for
//! size whatever the profile.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// How everything is compiled.
const CODE: [&str; 7] = [
    "--edition=2024",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Ccodegen-units=1",
    "-Crelocation-model=static",
    "-Cforce-unwind-tables=no",
    "-Cembed-bitcode=yes",
];

/// Leaves out what only debuggers and unwinders read, which core brings along and no option of the linkers takes away. And keeps
/// what is in the file apart from zeroes that are not: the page where both are is one that every process has for itself.
const SCRIPT: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.comment) } } INSERT AFTER .text;
SECTIONS { .got : { *(.got) *(.got.plt) } } INSERT AFTER .rodata;
";

/// How a program is linked: no C library, no start files, no headers that nobody reads.
const LINK: [&str; 7] = [
    "-Clto=fat",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,-z,noseparate-code,-z,norelro,--build-id=none,--no-eh-frame-hdr,--gc-sections",
    "-Cstrip=symbols",
];

/// A library that was compiled: its crate's name and its file.
pub type Library = (&'static str, PathBuf);

/// Compiles a library.
pub fn library(name: &'static str, source: &Path, uses: &[&Library]) -> Library {
    let output = directory().join(format!("lib{name}.rlib"));
    compile(name, "rlib", source, &output, uses, &[]);
    (name, output)
}

/// Compiles and links a program.
pub fn program(name: &str, source: &Path, uses: &[&Library]) -> PathBuf {
    let output = directory().join(name);
    let script = directory().join("freestanding.ld");
    std::fs::write(&script, SCRIPT).expect("cargo gives a directory to write to");
    let script = format!("-Clink-arg=-Wl,--script={}", script.display());
    let mut options: Vec<&str> = LINK.to_vec();
    options.push(&script);
    compile(
        &name.replace('-', "_"),
        "bin",
        source,
        &output,
        uses,
        &options,
    );
    output
}

/// Compiles an archive of objects with no open ends but what the source says.
#[allow(dead_code, reason = "not every build script needs each")]
pub fn archive(name: &str, source: &Path, uses: &[&Library]) -> PathBuf {
    let output = directory().join(format!("lib{name}.a"));
    compile(
        &name.replace('-', "_"),
        "staticlib",
        source,
        &output,
        uses,
        &["-Clto=fat"],
    );
    output
}

fn compile(name: &str, kind: &str, source: &Path, output: &Path, uses: &[&Library], more: &[&str]) {
    let mut command = Command::new(variable("RUSTC"));
    command
        .args(CODE)
        .args(["--cfg=freestanding", "--cap-lints=allow"])
        .arg(format!("--crate-type={kind}"))
        .arg(format!("--crate-name={name}"))
        .arg(format!("--target={}", variable("TARGET")))
        .args(more)
        .arg("-o")
        .arg(output);
    for (name, file) in uses {
        command.arg(format!("--extern={name}={}", file.display()));
        command.arg(format!("-Ldependency={}", directory().display()));
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    let ended = command.arg(source).status();
    assert!(
        ended.as_ref().is_ok_and(std::process::ExitStatus::success),
        "cannot compile {} ({ended:?}): {command:?}",
        source.display()
    );
}

/// Where build scripts put what they make.
pub fn directory() -> PathBuf {
    PathBuf::from(variable("OUT_DIR"))
}

/// What cargo tells build scripts.
pub fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
