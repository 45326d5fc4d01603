//! `envd store`

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Subcommand;
use serde::Serialize;

use super::{
    Context, Failure, Kind,
    operations::Operations,
    output::{Style, size},
};

/// Look at the store, check and repair it
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with the store.
#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Say where the store is and how much is in it
    Info,
    /// Read everything again and compare it with its digest
    Verify {
        /// Fetch or make anew what is damaged, as far as locks name it
        #[arg(long)]
        repair: bool,
    },
    /// Say what takes how much space
    Du,
    /// List what is kept, and why
    Roots,
}

/// Where the store is and how much is in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Info {
    /// Its directory.
    pub path: PathBuf,
    /// Files that it holds the contents of.
    pub objects: u64,
    /// Trees.
    pub trees: u64,
    /// Views.
    pub views: u64,
    /// Roots.
    pub roots: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes free on its file system.
    pub free: u64,
}

/// What verifying found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verified {
    /// Objects and trees that were read.
    pub checked: u64,
    /// What was not as its name says, and was not repaired.
    pub damaged: Vec<String>,
    /// What was damaged and is whole again.
    pub repaired: Vec<String>,
}

/// What takes how much space.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Usage {
    /// By part of the store: objects, views (beyond the objects they share), trees, downloads, indexes, tool caches.
    pub parts: Vec<Part>,
    /// Bytes in all.
    pub total: u64,
}

/// A part of the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Why something is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Root {
    /// The project, or what else it is.
    pub name: String,
    /// Whether the path it stands for can be reached; it is kept in either case.
    pub reachable: bool,
    /// Bytes that would be free without it.
    pub only: u64,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    match arguments.command {
        Command::Info => {
            let info = operations.store_info()?;
            context.output.result(&info, |out, _| {
                writeln!(out, "{}", info.path.display())?;
                let Info {
                    objects,
                    trees,
                    views,
                    roots,
                    ..
                } = info;
                writeln!(
                    out,
                    "  {objects} objects, {trees} trees, {views} views, {roots} roots"
                )?;
                writeln!(out, "  {} used, {} free", size(info.bytes), size(info.free))
            })?;
        }
        Command::Verify { repair } => return verify(repair, context, operations),
        Command::Du => {
            let usage = operations.store_du()?;
            context.output.result(&usage, |out, style| {
                for part in &usage.parts {
                    writeln!(out, "{:>10}  {}", size(part.bytes), part.name)?;
                }
                writeln!(
                    out,
                    "{}  in all",
                    style.strong(&format!("{:>10}", size(usage.total)))
                )
            })?;
        }
        Command::Roots => {
            let roots = operations.store_roots()?;
            context
                .output
                .result(&roots, |out, style| print_roots(out, style, &roots))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(
    repair: bool,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let verified = {
        let progress = context.progress();
        operations.store_verify(repair, &progress)?
    };
    context.output.result(&verified, |out, style| {
        for name in &verified.repaired {
            writeln!(out, "{} {name}", style.good("repaired"))?;
        }
        for name in &verified.damaged {
            writeln!(out, "{} {name}", style.error("damaged"))?;
        }
        writeln!(
            out,
            "{} checked, {} damaged, {} repaired",
            verified.checked,
            verified.damaged.len(),
            verified.repaired.len()
        )
    })?;
    if verified.damaged.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::new(Kind::Integrity, "the store is damaged");
    Err(match repair {
        true => failure.help(
            "what is left cannot be fetched by any lock; `envd gc` drops it once nothing needs it",
        ),
        false => failure.help("`envd store verify --repair` fetches it anew"),
    })
}

pub(super) fn print_roots(
    out: &mut dyn Write,
    style: Style,
    roots: &[Root],
) -> std::io::Result<()> {
    for root in roots {
        let note = if root.reachable {
            ""
        } else {
            " (out of reach; kept)"
        };
        writeln!(
            out,
            "{:>10}  {}{}",
            size(root.only),
            root.name,
            style.warning(note)
        )?;
    }
    Ok(())
}
