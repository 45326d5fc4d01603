//! What this host lets us do, a row a mechanism, each tried rather than guessed. `envd doctor` prints it.

mod attempt;
mod files;

use serde::Serialize;

use crate::{error::LaunchError, launch::single_threaded};

/// One mechanism of the kernel or the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mechanism {
    /// What it is called: short, for people to type.
    pub name: &'static str,
    /// Whether it works.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What envd does with it, and so goes without where it is not to be had.
    pub purpose: &'static str,
    /// What to do, as exactly as can be told; `None` where nothing is to be done.
    pub fix: Option<String>,
}

/// Whether a mechanism works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It does.
    Ok,
    /// In part: envd makes do with less.
    Restricted,
    /// Not at all: the kernel has none, or the host refuses it.
    Missing,
}

/// Tries every mechanism. The calling process must have one thread.
pub fn probe() -> Result<Vec<Mechanism>, LaunchError> {
    single_threaded()?;
    let mut rows = attempt::namespaces();
    rows.extend([
        attempt::overlay(),
        attempt::procfs(),
        files::seccomp(),
        files::notifications(),
        files::landlock(),
        files::control_groups(),
        files::subordinate_ids(),
    ]);
    Ok(rows)
}

/// A state and its fix from the error number an attempt ended with.
fn judge(errno: Option<i32>, missing: &str) -> (State, String, Option<String>) {
    let Some(errno) = errno else {
        return (State::Ok, "works".to_owned(), None);
    };
    let lacking = [libc::ENOSYS, libc::EINVAL, libc::ENODEV, libc::EOPNOTSUPP];
    let fix = match lacking.contains(&errno) {
        true => None,
        false => crate::explain::reason(crate::Errno(errno)),
    };
    let detail = format!("refused: {}", crate::Errno(errno));
    (State::Missing, detail, fix.or(Some(missing.to_owned())))
}
