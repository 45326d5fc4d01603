//! `envd why`

use std::{io::Write, process::ExitCode};

use serde::Serialize;

use super::{Context, Failure, Kind, operations::Operations, output::Style};

/// Explain why a package is in the environment
///
/// Prints the shortest ways from what envd.toml asks for to the package.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Examples\n  envd why libssl3t64")]
pub struct Arguments {
    /// The package
    pub package: String,
}

/// A way to a package: what was asked for first, the package last. Never empty.
pub type Chain = Vec<Step>;

/// A package on the way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What in the package before led here, such as `Depends: libc6 (>= 2.38)`; for the first, what was asked for, or that
    /// it is essential.
    pub reason: String,
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    let project = context.project()?;
    let manifest = context.manifest(&project)?;
    let chains = {
        let progress = context.progress();
        operations.why(&project, &manifest, &arguments.package, &progress)?
    };
    if chains.is_empty() {
        return Err(Failure::new(
            Kind::Other,
            format!("`{}` is not in the environment", arguments.package),
        )
        .help("`envd list` prints what is"));
    }
    context
        .output
        .result(&chains, |out, style| print(out, style, &chains))?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut dyn Write, style: Style, chains: &[Chain]) -> std::io::Result<()> {
    for (index, chain) in chains.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        for (depth, step) in chain.iter().enumerate() {
            let indent = "  ".repeat(depth);
            let reason = style.faint(&format!("({})", step.reason));
            writeln!(
                out,
                "{indent}{} {} {reason}",
                style.strong(&step.name),
                step.version
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_indented_step_by_step() {
        let step = |name: &str, reason: &str| Step {
            name: name.into(),
            version: "1".into(),
            reason: reason.into(),
        };
        let chains = vec![
            vec![
                step("git", "asked for"),
                step("libcurl", "Depends: libcurl"),
                step("libssl3", "Depends: libssl3 (>= 3)"),
            ],
            vec![step("openssl", "asked for")],
        ];
        let mut out = Vec::new();
        print(&mut out, Style::on(false), &chains).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        git 1 (asked for)
          libcurl 1 (Depends: libcurl)
            libssl3 1 (Depends: libssl3 (>= 3))

        openssl 1 (asked for)
        ");
    }
}
