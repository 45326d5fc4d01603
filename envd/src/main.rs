//! The `envd` program.

use std::process::ExitCode;

use envd::{
    cli,
    operations::{self, Local},
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|word| word == operations::CONFIGURE)
    {
        return operations::configure(arguments.next());
    }
    cli::main(|context| Ok(Box::new(Local::new(context))))
}
