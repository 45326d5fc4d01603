//! The developers' commands.
#![forbid(unsafe_code)]

mod bench;
mod machine;
mod measure;
mod suite;
mod table;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test  [--only NAME]...              build everything, run every test; as root also as an ordinary user
cargo xtask bench [--only NAME]... [--runs N]   measure envd and its peers in one run, print the table

In `test`, NAME is part of the name of a test executable, such as `hostile`; in `bench`, NAME is one of: entry daemon-run shim exec
new-environment idle pid1 realise add lock search gc leftovers.
As root, what they need is installed by apt-get (tests/xtask/src/machine.rs).
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.split_first() {
        Some((&"test", rest)) => suite::run(rest),
        Some((&"bench", rest)) => bench::run(rest),
        // Not for people: see `measure::peak_memory`.
        Some((&"measured", rest)) => measure::measured(rest),
        _ => {
            print!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}
