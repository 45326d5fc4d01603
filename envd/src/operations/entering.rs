//! Starting a plan, and what this machine can do of it.

use envd_shims::{Downgrade, Exit, Plan, plan::Seccomp, probe};

use crate::cli::{Failure, Kind, doctor};

/// What nothing runs without.
const NEEDED: [&str; 6] = [
    "user-namespaces",
    "mount-namespaces",
    "pid-namespaces",
    "ipc-namespaces",
    "uts-namespaces",
    "overlay",
];

/// `--require`.
pub(super) fn require(names: &[String]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let mechanisms = doctor()?;
    for name in names {
        let Some(mechanism) = mechanisms.iter().find(|mechanism| mechanism.name == *name) else {
            let known: Vec<&str> = mechanisms
                .iter()
                .map(|mechanism| mechanism.name.as_str())
                .collect();
            return Err(
                Failure::new(Kind::Usage, format!("there is no mechanism `{name}`"))
                    .help(format!("there are {}", known.join(", "))),
            );
        };
        if mechanism.state != doctor::State::Works {
            let failure = Failure::new(
                Kind::Host,
                format!("{name} is required: {}", mechanism.detail),
            );
            return Err(match &mechanism.fix {
                Some(fix) => failure.help(fix.clone()),
                None => failure,
            });
        }
    }
    Ok(())
}

/// Runs the plan's command.
pub(super) fn launch(plan: &Plan) -> Result<Exit, Failure> {
    // For untrusted work a wall less is news; for people's own it is what `envd doctor` is for.
    let strict = plan.privileges.seccomp == Seccomp::Strict;
    let mut downgraded = |downgrade: &Downgrade| match strict {
        true => eprintln!("envd: {downgrade}"),
        false => tracing::info!("{downgrade}"),
    };
    Ok(envd_shims::run(plan, &mut downgraded)?)
}

/// `envd doctor`.
pub fn doctor() -> Result<Vec<doctor::Mechanism>, Failure> {
    let rows = probe::probe()?;
    let mechanisms = rows.into_iter().map(|row| doctor::Mechanism {
        needed: NEEDED.contains(&row.name),
        name: row.name.to_owned(),
        state: match row.state {
            probe::State::Ok => doctor::State::Works,
            probe::State::Restricted => doctor::State::Limited,
            probe::State::Missing => doctor::State::Missing,
        },
        detail: match row.state {
            probe::State::Ok if row.detail == "works" => row.purpose.to_owned(),
            _ => format!("{} ({})", row.detail, row.purpose),
        },
        fix: row.fix,
    });
    Ok(mechanisms.collect())
}
