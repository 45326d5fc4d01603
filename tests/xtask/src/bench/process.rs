//! What /proc tells of processes (proc(5)).

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::measure::Result;

/// How often something is looked at that is waited for.
const GLANCE: Duration = Duration::from_millis(2);

/// A number of a file with lines of the form `Name:   123 kB`.
pub fn number(file: &Path, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    value(&text, name).ok_or_else(|| format!("{} has no {name}", file.display()).into())
}

fn value(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

/// Resident set of a process, in KiB.
pub fn resident(pid: u32) -> Result<u64> {
    number(Path::new(&format!("/proc/{pid}/status")), "VmRSS")
}

/// Whether a process has not ended. A dead one has nothing left but its number, and how long it keeps that is its parent's matter:
/// a daemon's is PID 1 of the machine, and that of some containers looks every two seconds.
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything but ends with the last parenthesis.
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The name of a process's program.
pub fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// The processes that this one has started and that are still there.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    Ok(families()?
        .into_iter()
        .filter(|(_, parent)| *parent == pid)
        .map(|(child, _)| child)
        .collect())
}

/// A process and all below it.
pub fn household(pid: u32) -> Result<Vec<u32>> {
    let families = families()?;
    let mut found = vec![pid];
    let mut looked_at = 0;
    while let Some(parent) = found.get(looked_at).copied() {
        let of = families.iter().filter(|(_, one)| *one == parent);
        found.extend(of.map(|(child, _)| *child));
        looked_at += 1;
    }
    Ok(found)
}

/// Every process and its parent.
fn families() -> Result<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Some are gone before they are looked at.
        if let Ok(parent) = number(&entry.path().join("status"), "PPid") {
            found.push((pid, parent as u32));
        }
    }
    Ok(found)
}

/// How often the threads of these processes have run and stopped.
pub fn switches(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let status = fs::read_to_string(thread.path().join("status"))?;
            for name in ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"] {
                sum += value(&status, name).ok_or("no context switches are counted")?;
            }
        }
    }
    Ok(sum)
}

/// Waits for something, for so long at most.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(format!("waited in vain: {what}").into());
        }
        sleep(GLANCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `voluntary_…` is the end of `nonvoluntary_…`: taking one for the other would hide wake-ups.
    #[test]
    fn numbers_are_found_by_their_whole_name() {
        let status =
            "VmRSS:\t   708 kB\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\n";
        assert_eq!(value(status, "VmRSS"), Some(708));
        assert_eq!(value(status, "voluntary_ctxt_switches"), Some(5));
        assert_eq!(value(status, "voluntary"), None);
    }

    #[test]
    fn a_dead_process_does_not_live_whether_it_is_reaped_or_not() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        assert!(lives(child.id()));
        child.kill().unwrap();
        until("it is dead", Duration::from_secs(10), || {
            Ok((!lives(child.id())).then_some(()))
        })
        .unwrap();
        assert!(Path::new(&format!("/proc/{}", child.id())).exists());
        child.wait().unwrap();
        assert!(!lives(child.id()));
    }

    #[test]
    fn a_child_belongs_to_the_household() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let found = household(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.unwrap().contains(&child.id()));
    }
}
