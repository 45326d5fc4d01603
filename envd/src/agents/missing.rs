//! Commands that are not in an environment: which packages would bring them.

use std::sync::Arc;

use envd_agents::service::{Failure, command::Status};

use super::{Shared, blocking, live::Lent};
use crate::{config::EnvironmentSection, operations::Local, provider::Channel};

/// The same failure, with the packages that bring the command where that is what is missing.
pub(super) async fn told(
    shared: &Arc<Shared>,
    lent: &Lent,
    section: Option<&EnvironmentSection>,
    failure: Failure,
) -> Failure {
    match failure {
        Failure::CommandNotFound { program, .. } => Failure::CommandNotFound {
            packages: packages(shared, lent, section, &program).await,
            program,
        },
        failure => failure,
    }
}

/// What to say of a command that ended because a shell did not find another; nothing where it did not, or no package is known.
pub(super) async fn hint(
    shared: &Arc<Shared>,
    lent: &Lent,
    section: Option<&EnvironmentSection>,
    status: &Status,
    errors: &str,
) -> Option<String> {
    // POSIX, 2.8.2.
    let program = (status.exit_code == Some(127)).then(|| not_found(errors))??;
    let packages = packages(shared, lent, section, program).await;
    let names = (!packages.is_empty()).then(|| packages.join(" or "))?;
    Some(format!(
        "{program} is not in the environment; add it with package_add: {names}"
    ))
}

/// Packages that an agent may add for a command.
async fn packages(
    shared: &Arc<Shared>,
    lent: &Lent,
    section: Option<&EnvironmentSection>,
    program: &str,
) -> Vec<String> {
    if lent.policy.judge_packages().is_err() {
        return Vec::new();
    }
    let none = || EnvironmentSection::one_off(Vec::new());
    let channels = section.cloned().unwrap_or_else(none).channels.into_iter();
    let channels: Vec<Channel> = channels.map(toml::Spanned::into_inner).collect();
    let (shared, program) = (shared.clone(), program.to_owned());
    let found = blocking(move || {
        let found = Local::new(&shared.context).packages_with(&channels, &program);
        Ok(found.unwrap_or_else(|error| {
            tracing::debug!(?error, program, "no packages for a command");
            Vec::new()
        }))
    });
    // It is a hint, which nothing fails for.
    found.await.unwrap_or_default()
}

/// The command that a shell says it did not find, in its last line: `sh: 1: gcc: not found` (dash, busybox),
/// `bash: line 1: gcc: command not found`, `zsh:1: command not found: gcc`.
fn not_found(errors: &str) -> Option<&str> {
    let line = errors.trim_end().lines().next_back()?;
    if let Some((_, program)) = line.split_once(": command not found: ") {
        return Some(program);
    }
    let before = line
        .strip_suffix(": command not found")
        .or_else(|| line.strip_suffix(": not found"))?;
    let program = before.rsplit(": ").next()?;
    (!program.contains(char::is_whitespace)).then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_did_not_find_is_read_in_its_last_line() {
        for said in [
            "/bin/sh: 1: gcc: not found\n",
            "sh: gcc: not found\n",
            "warning\nbash: line 3: gcc: command not found\n",
            "zsh:1: command not found: gcc",
        ] {
            assert_eq!(not_found(said), Some("gcc"), "{said:?}");
        }
        for other in [
            "",
            "\n",
            "gcc: no input files",
            "make: *** [x] Error 127",
            "the file was not found",
            "error: no such thing: not found\nbut that was before",
        ] {
            assert_eq!(not_found(other), None, "{other:?}");
        }
    }
}
