//! Builds the program without a C library that `BINARY` is, from the same sources as the library.
//!
//! Cargo has no way yet to give one program of a workspace its own code generation, so the compiler is called here: once for
//! the library, once for the program. Neither has dependencies. The sizes are promises (SPECIFICATION.md), so it is
//! optimised for size whatever the profile.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// How both are compiled.
const CODE: [&str; 7] = [
    "--edition=2024",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Ccodegen-units=1",
    "-Crelocation-model=static",
    "-Cforce-unwind-tables=no",
    "-Cembed-bitcode=yes",
];

/// Leaves out what only debuggers and unwinders read, which core brings along and no option of the linkers takes away.
const LEFT_OUT: &str =
    "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.comment) } } INSERT AFTER .text;\n";

/// How the program is linked: no C library, no start files, no headers that nobody reads.
const LINK: [&str; 7] = [
    "-Clto=fat",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,-z,noseparate-code,-z,norelro,--build-id=none,--no-eh-frame-hdr,--gc-sections",
    "-Cstrip=symbols",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rustc-check-cfg=cfg(freestanding)");
    let output = PathBuf::from(variable("OUT_DIR"));
    let library = output.join("libenvd_init.rlib");
    let program = output.join("envd-init");
    compile(
        Path::new("src/lib.rs"),
        &library,
        &["--crate-type=rlib", "--crate-name=envd_init"],
    );
    let uses = format!("--extern=envd_init={}", library.display());
    let mut arguments = vec!["--crate-type=bin", "--crate-name=envd_init_program", &uses];
    arguments.extend(LINK);
    let script = output.join("left-out.ld");
    std::fs::write(&script, LEFT_OUT).expect("cargo gives a directory to write to");
    let script = format!("-Clink-arg=-T{}", script.display());
    arguments.push(&script);
    compile(Path::new("src/main.rs"), &program, &arguments);
    println!("cargo:rustc-env=ENVD_INIT_BINARY={}", program.display());
}

fn compile(source: &Path, output: &Path, arguments: &[&str]) {
    let mut command = Command::new(variable("RUSTC"));
    command
        .args(CODE)
        .args(["--cfg=freestanding", "--cap-lints=allow"])
        .args(arguments)
        .arg(format!("--target={}", variable("TARGET")))
        .arg("-o")
        .arg(output)
        .arg(source);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    let ended = command.status();
    assert!(
        ended.as_ref().is_ok_and(std::process::ExitStatus::success),
        "cannot compile {} ({ended:?}): {command:?}",
        source.display()
    );
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
