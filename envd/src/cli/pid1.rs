//! `envd pid1`

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::{Context, Failure, Kind};

/// Anybody may execute it, whatever the caller's umask.
const MODE: u32 = 0o755;

/// Write envd's PID 1 for containers to a file
///
/// A program of its own, without a C library: a drop-in for tini, dumb-init and catatonit by the name it is given. Under any
/// other name `--help` tells its own command line.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    hide = true,
    after_help = "Examples\n  envd pid1 --output tini\n  envd pid1 --output rootfs/sbin/dumb-init --force"
)]
pub struct Arguments {
    /// Write it there
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Serialize)]
struct Report {
    path: PathBuf,
    bytes: usize,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let path = context.directory.join(&arguments.output);
    write(&path, arguments.force).map_err(|error| failure(&arguments.output, &error))?;
    let report = Report {
        path,
        bytes: envd_init::INIT.len(),
    };
    context.output.result(&report, |out, _| {
        let path = arguments.output.display();
        writeln!(out, "wrote {path}, {} bytes", report.bytes)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AlreadyExists {
        let message = format!("{} exists already", path.display());
        return Failure::new(Kind::Usage, message).help("--force replaces it");
    }
    let message = format!("cannot write {}: {error}", path.display());
    Failure::new(Kind::Other, message)
}

/// Writes it. What is replaced may be running: it is unlinked, not written to.
fn write(path: &Path, force: bool) -> io::Result<()> {
    if force && let Err(error) = fs::remove_file(path) {
        match error.kind() {
            io::ErrorKind::NotFound => {}
            _ => return Err(error),
        }
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(MODE).open(path)?;
    let written = file
        .write_all(envd_init::INIT)
        .and_then(|()| file.set_permissions(Permissions::from_mode(MODE)));
    if written.is_err() {
        // Half of it is no program.
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is to be copied into images as it is.
    #[test]
    fn what_is_written_is_a_program_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tini");
        write(&path, false).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, MODE);
        assert!(fs::read(&path).unwrap().starts_with(b"\x7fELF"));
    }

    #[test]
    fn a_file_is_replaced_only_on_request() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        fs::write(&path, "precious").unwrap();
        let error = write(&path, false).unwrap_err();
        assert_eq!(failure(&path, &error).kind, Kind::Usage);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        write(&path, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), envd_init::INIT);
        let missing = directory.path().join("missing/tini");
        let error = write(&missing, true).unwrap_err();
        assert_eq!(failure(&missing, &error).kind, Kind::Other);
    }
}
