//! The `envd` program.

use std::process::ExitCode;

use envd::cli;

fn main() -> ExitCode {
    cli::main(|_| {
        Err(cli::Failure::new(
            cli::Kind::Other,
            "this build has no operations",
        ))
    })
}
