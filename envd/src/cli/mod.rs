//! The command line: one file a command, its arguments beside its function. What commands need done is behind
//! [`operations::Operations`]; errors become messages and exit codes in [`error`], nowhere else.

pub mod add;
pub mod agent;
pub mod completions;
mod context;
pub mod daemon;
pub mod doctor;
pub mod down;
pub mod enter;
mod entering;
pub mod error;
mod fast;
pub mod gc;
pub mod generations;
mod handing_over;
pub mod image;
pub mod init;
pub mod lease;
pub mod list;
pub mod lock;
mod logging;
pub mod logs;
pub mod operations;
mod output;
pub mod pid1;
mod progress;
pub mod ps;
pub mod remove;
pub mod rollback;
pub mod run;
pub mod schema;
mod script;
pub mod search;
pub mod shim;
pub mod store;
pub mod task;
mod text;
pub mod uninstall;
pub mod up;
pub mod update;
pub mod why;
pub mod x;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

pub use context::Context;
pub use error::{Failure, Kind};
use operations::Operations;
pub use output::Output;
pub use progress::Display;

use crate::settings::HostVariables;

/// Everything on the command line.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "envd",
    version,
    about = "Exact toolchains now, gone afterwards",
    help_template = text::HELP,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Use the project in DIR instead of looking upwards from here
    #[arg(long, value_name = "DIR", global = true)]
    pub project: Option<PathBuf>,
    /// Never connect to anything
    #[arg(long, global = true)]
    pub offline: bool,
    /// Print results as JSON, and progress and errors as lines of JSON to standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log what is done; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colours
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        default_value = "auto",
        hide_possible_values = true
    )]
    pub color: Color,
}

/// When to use colours.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Color {
    /// On terminals, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Subcommand, Clone, Debug)]
#[allow(missing_docs, reason = "each is documented where its arguments are")]
pub enum Command {
    Init(init::Arguments),
    Add(add::Arguments),
    Remove(remove::Arguments),
    Search(search::Arguments),
    Lock(lock::Arguments),
    Update(update::Arguments),
    Why(why::Arguments),
    List(list::Arguments),
    Generations(generations::Arguments),
    Rollback(rollback::Arguments),
    Run(run::Arguments),
    Enter(enter::Arguments),
    X(x::Arguments),
    Shim(shim::Arguments),
    Up(up::Arguments),
    Down(down::Arguments),
    Ps(ps::Arguments),
    Logs(logs::Arguments),
    Task(task::Arguments),
    Lease(lease::Arguments),
    Daemon(daemon::Arguments),
    Agent(agent::Arguments),
    Store(store::Arguments),
    Gc(gc::Arguments),
    Image(image::Arguments),
    Pid1(pid1::Arguments),
    Doctor(doctor::Arguments),
    Uninstall(uninstall::Arguments),
    Completions(completions::Arguments),
    Schema(schema::Arguments),
}

impl Command {
    /// Whether it says where its log goes.
    fn logs_for_itself(&self) -> bool {
        let serve = daemon::Command::Serve;
        matches!(self, Self::Daemon(daemon::Arguments { command }) if *command == serve)
    }
}

/// Runs what this process was started for. `open` makes the operations, for the commands that need them.
pub fn main(open: impl FnOnce(&Context) -> Result<Box<dyn Operations>, Failure>) -> ExitCode {
    let variables = HostVariables::of_this_process();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let parsed = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(e) => {
            // The answer to --help is no failure, and a closed pipe no news.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() {
                Kind::Usage.code()
            } else {
                0
            });
        }
    };
    let output = Output::new(&parsed.global, &variables);
    let result = Context::new(parsed.global, variables, output).and_then(|context| {
        if !parsed.command.logs_for_itself() {
            logging::start(&context);
        }
        dispatch(parsed.command, &context, open)
    });
    match result {
        Ok(code) => code,
        Err(failure) => output.fail(&failure),
    }
}

/// Reads a command line, whose first word is the program's name.
pub fn parse(arguments: &[OsString]) -> Result<Arguments, clap::Error> {
    if let Some(run) = fast::run(arguments) {
        return Ok(run);
    }
    let mut matches = Arguments::command().try_get_matches_from(arguments)?;
    Arguments::from_arg_matches_mut(&mut matches)
}

fn dispatch(
    command: Command,
    context: &Context,
    open: impl FnOnce(&Context) -> Result<Box<dyn Operations>, Failure>,
) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(arguments) => init::run(&arguments, context),
        Command::Add(arguments) => add::run(&arguments, context),
        Command::Remove(arguments) => remove::run(&arguments, context),
        Command::Completions(arguments) => completions::run(&arguments, context),
        Command::Pid1(arguments) => pid1::run(&arguments, context),
        Command::Schema(arguments) => schema::run(&arguments, context),
        Command::Down(arguments) => down::run(&arguments, context),
        Command::Ps(arguments) => ps::run(&arguments, context),
        Command::Logs(arguments) => logs::run(&arguments, context),
        Command::Daemon(daemon::Arguments {
            command: daemon::Command::Serve,
        }) => daemon::serve(context, open(context)?),
        command => with_operations(command, context, &*open(context)?),
    }
}

fn with_operations(
    command: Command,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    match command {
        Command::Search(arguments) => search::run(&arguments, context, operations),
        Command::Lock(arguments) => lock::run(&arguments, context, operations),
        Command::Update(arguments) => update::run(&arguments, context, operations),
        Command::Why(arguments) => why::run(&arguments, context, operations),
        Command::List(arguments) => list::run(&arguments, context, operations),
        Command::Generations(arguments) => generations::run(&arguments, context, operations),
        Command::Rollback(arguments) => rollback::run(&arguments, context, operations),
        Command::Run(arguments) => run::run(&arguments, context, operations),
        Command::Enter(arguments) => enter::run(&arguments, context, operations),
        Command::X(arguments) => x::run(&arguments, context, operations),
        Command::Shim(arguments) => shim::run(&arguments, context, operations),
        Command::Up(arguments) => up::run(&arguments, context, operations),
        Command::Task(arguments) => task::run(&arguments, context, operations),
        Command::Daemon(arguments) => daemon::run(&arguments, context, operations),
        Command::Lease(arguments) => lease::run(&arguments, context, operations),
        Command::Agent(arguments) => agent::run(&arguments, context, operations),
        Command::Store(arguments) => store::run(&arguments, context, operations),
        Command::Image(arguments) => image::run(&arguments, context, operations),
        Command::Gc(arguments) => gc::run(&arguments, context, operations),
        Command::Doctor(arguments) => doctor::run(&arguments, context, operations),
        Command::Uninstall(arguments) => uninstall::run(&arguments, context, operations),
        Command::Init(_)
        | Command::Add(_)
        | Command::Remove(_)
        | Command::Completions(_)
        | Command::Down(_)
        | Command::Ps(_)
        | Command::Logs(_)
        | Command::Pid1(_)
        | Command::Schema(_) => {
            unreachable!("these need no operations")
        }
    }
}

#[cfg(test)]
mod tests;
