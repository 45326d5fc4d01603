//! What this machine can do, for a policy that requires it.

use std::process::{Command, Stdio};

use envd_agents::policy::Said;

use crate::{
    cli::{
        Failure, Kind,
        doctor::{Mechanism, State},
    },
    operations,
};

/// What `envd doctor` finds. It tries things in copies of a process of one thread; where this one has more, another does it.
pub fn mechanisms() -> Result<Vec<Mechanism>, Failure> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(2, Iterator::count);
    if threads == 1 {
        return operations::doctor();
    }
    let failed = |reason: String| {
        Failure::new(Kind::Host, "what this machine can do was not found out")
            .help(format!("run `envd doctor --json`: {reason}"))
    };
    let output = Command::new("/proc/self/exe")
        .args(["doctor", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

/// Refuses where one of these does not work, or is none.
pub(super) fn require(names: &[Said<String>]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let mechanisms = mechanisms()?;
    for name in names {
        let by = format!("`require` of [agent], {}", name.origin);
        let Some(mechanism) = mechanisms.iter().find(|one| one.name == name.value) else {
            let known: Vec<&str> = mechanisms.iter().map(|one| one.name.as_str()).collect();
            let message = format!("there is no mechanism `{}` ({by})", name.value);
            return Err(
                Failure::new(Kind::Usage, message).help(format!("there are {}", known.join(", ")))
            );
        };
        if mechanism.state != State::Works {
            let detail = &mechanism.detail;
            let failure = Failure::new(
                Kind::Host,
                format!("{} is required: {detail} ({by})", name.value),
            );
            return Err(match &mechanism.fix {
                Some(fix) => failure.help(fix.clone()),
                None => failure,
            });
        }
    }
    Ok(())
}
