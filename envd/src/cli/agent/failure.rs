//! Failures of lent environments, told to a person at the command line: what is a tool to a model is a command here.

use envd_agents::service;

use super::super::{Failure, Kind};

/// The tools that failures speak of, and the commands that do the same.
const COMMANDS: [(&str, &str); 15] = [
    ("environment_create", "`envd agent create`"),
    ("environment_destroy", "`envd agent rm`"),
    ("environment_list", "`envd agent ls`"),
    ("environment_snapshot", "`envd agent snapshot`"),
    ("environment_restore", "`envd agent restore`"),
    ("command_run", "`envd agent run`"),
    ("command_start", "`envd agent run --detach`"),
    ("command_signal", "`envd agent kill`"),
    ("command_poll", "`envd agent logs`"),
    ("changes_diff", "`envd agent diff`"),
    ("changes_apply", "`envd agent apply`"),
    ("package_search", "`envd search`"),
    ("package_add", "`envd agent create --package`"),
    ("port_publish", "`envd agent publish`"),
    ("port_withdraw", "`envd agent publish --withdraw`"),
];

/// The same failure as the command line says it.
pub(super) fn told(failure: &service::Failure) -> Failure {
    use service::Failure as F;
    let kind = match failure {
        F::Invalid { .. } | F::NoSuchHandle { .. } | F::NoSuchResource { .. } => Kind::Usage,
        F::NoSuchPackage { .. } | F::Unsolvable { .. } => Kind::Resolve,
        F::Unsupported { .. } => Kind::Host,
        _ => Kind::Other,
    };
    let help = match failure {
        F::Invalid { expected, .. } => expected.clone(),
        F::NoSuchHandle { kind, .. } if kind == "command" => {
            "`envd agent logs` lists the commands of the environments that are there".to_owned()
        }
        F::NoSuchHandle { .. } => "`envd agent ls` lists what there is".to_owned(),
        F::CommandNotFound { program, packages } if packages.is_empty() => format!(
            "`envd search {program}` may know what brings it; `envd agent create --package NAME` makes an environment with it"
        ),
        F::CommandNotFound { packages, .. } => format!(
            "`envd agent create --package {}` makes an environment with it",
            packages.join("`, or `--package ")
        ),
        F::Denied { ask, .. } => ask.clone(),
        F::Internal { .. } => {
            "try once more; `envd daemon logs` has what the daemon said last, `envd doctor` what this machine cannot do"
                .to_owned()
        }
        other => other.next_step(),
    };
    Failure::new(kind, in_commands(&failure.to_string())).help(in_commands(&help))
}

/// A text that speaks of tools, speaking of commands.
fn in_commands(text: &str) -> String {
    COMMANDS
        .iter()
        .fold(text.to_owned(), |text, (tool, command)| {
            text.replace(tool, command)
        })
}

/// Nothing there goes by that operand.
pub(super) fn no_such(kind: &str, operand: &str) -> Failure {
    told(&service::Failure::NoSuchHandle {
        kind: kind.to_owned(),
        handle: operand.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_of_commands_and_not_of_tools() {
        let failure = service::Failure::Unsupported {
            what: "fork an environment while processes run in it".to_owned(),
            fix: "Wait for the commands to end, or end them (command_signal).".to_owned(),
        };
        let failure = told(&failure);
        assert_eq!(failure.kind, Kind::Host);
        let help = failure.help.unwrap();
        assert!(help.contains("(`envd agent kill`)"), "{help}");
        let missing = no_such("environment", "try");
        assert_eq!(missing.message, "there is no environment try");
        assert!(missing.help.unwrap().contains("envd agent ls"));
    }
}
