//! Limits of an environment: which hold where nothing else was said, and by which mechanism each is held on this machine.

use std::cmp::Ordering;

use envd_agents::service::{Failure, environment::Limits};
use envd_shims::{
    Plan,
    cgroup::{self, Controller},
    plan::{Limit, Root, Upper},
};

/// Processes that every environment may have, whatever the machine.
const PROCESSES: u64 = 512;
/// More of them for each processor, where those are more.
const PROCESSES_EACH: u64 = 64;
/// What all environments of one project may take on disk, in bytes.
const DISK: u64 = 10 << 30;
/// The least that can be asked for: an environment in which nothing runs is a mistake.
const LEAST: Limits = Limits {
    memory_bytes: Some(16 << 20),
    processes: Some(8),
    processors: Some(0.01),
    disk_bytes: Some(1 << 20),
};

/// What of the machine limits depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// Bytes of memory.
    pub(super) memory: u64,
    /// Processors.
    pub(super) processors: u64,
}

impl Machine {
    /// This one.
    pub(super) fn current() -> Self {
        let memory = rustix::system::sysinfo();
        let processors = std::thread::available_parallelism();
        Self {
            memory: (memory.totalram as u64).saturating_mul(memory.mem_unit.into()),
            processors: processors.map_or(1, |count| count.get() as u64),
        }
    }

    /// What holds for what is left open. Processor time is not limited unless somebody says so.
    fn built_in(self) -> Limits {
        Limits {
            memory_bytes: Some(self.memory / 4 * 3),
            processes: Some(PROCESSES.max(PROCESSES_EACH * self.processors)),
            processors: None,
            disk_bytes: Some(DISK),
        }
    }
}

/// What was asked for, completed.
pub(super) fn settle(asked: Option<Limits>, machine: Machine) -> Result<Limits, Failure> {
    let (asked, built_in) = (asked.unwrap_or_default(), machine.built_in());
    let least = LEAST;
    at_least("memory_bytes", asked.memory_bytes, least.memory_bytes)?;
    at_least("processes", asked.processes, least.processes)?;
    at_least("processors", asked.processors, least.processors)?;
    at_least("disk_bytes", asked.disk_bytes, least.disk_bytes)?;
    Ok(Limits {
        memory_bytes: asked.memory_bytes.or(built_in.memory_bytes),
        processes: asked.processes.or(built_in.processes),
        processors: asked.processors.or(built_in.processors),
        disk_bytes: asked.disk_bytes.or(built_in.disk_bytes),
    })
}

fn at_least<T: PartialOrd + std::fmt::Display>(
    name: &str,
    asked: Option<T>,
    least: Option<T>,
) -> Result<(), Failure> {
    match (asked, least) {
        // Not a number is no number that is large enough.
        (Some(asked), Some(least))
            if !matches!(
                asked.partial_cmp(&least),
                Some(Ordering::Equal | Ordering::Greater)
            ) =>
        {
            Err(Failure::Invalid {
                field: format!("limits.{name}"),
                problem: format!("{asked} is too little for anything to run"),
                expected: format!("{least} or more"),
            })
        }
        _ => Ok(()),
    }
}

/// As a control group takes them.
pub(super) fn of_group(limits: &Limits) -> cgroup::Limits {
    cgroup::Limits {
        memory: limits.memory_bytes,
        processes: limits.processes,
        processors: limits.processors,
    }
}

/// Writes into a plan what is held without control groups that have these controllers: rlimits, the sizes of the file systems in
/// memory, and for root the numbers of the PID namespace.
pub(super) fn enforce(plan: &mut Plan, limits: &Limits, controllers: &[Controller]) {
    let left = of_group(limits).without(controllers);
    if let Some(bytes) = left.memory {
        plan.limits.insert(Limit::Data, bytes);
    }
    if let Some(processes) = left.processes {
        plan.limits.insert(Limit::Processes, processes);
        plan.processes = Some(processes);
    }
    if let Some(bytes) = limits.disk_bytes {
        plan.limits.insert(Limit::FileSize, bytes);
    }
    if let (Some(memory), Root::Overlay { upper, .. }) = (limits.memory_bytes, &mut plan.root)
        && let Upper::Tmpfs { size, inodes } = upper
    {
        // What is written outside of the project, the home directory and /tmp. Its pages are memory, its inodes the kernel's.
        *size = Some(memory / 4);
        *inodes = Some((memory / 4 / 8192).clamp(10_000, 200_000));
    }
}

/// What to say of limits that were asked for and that no control group holds.
pub(super) fn warnings(asked: Option<&Limits>, controllers: &[Controller]) -> Vec<String> {
    const FIX: &str = "start the server in a control group that is delegated, for instance with \
                       `systemd-run --user --scope -p Delegate=yes envd agent mcp`";
    let Some(asked) = asked else {
        return Vec::new();
    };
    let left = of_group(asked).without(controllers);
    let mut warnings = Vec::new();
    if left.memory.is_some() {
        warnings.push(format!(
            "memory_bytes is not held by a control group (no memory controller is delegated here): one process is held to it \
             by RLIMIT_DATA, all together by a look four times a second; {FIX}"
        ));
    }
    if left.processors.is_some() {
        warnings.push(format!(
            "processors is not enforced: that takes a control group with the cpu controller, and none is delegated here; {FIX}"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        memory: 8 << 30,
        processors: 16,
    };

    fn refused(limits: Limits) -> bool {
        matches!(settle(Some(limits), MACHINE), Err(Failure::Invalid { .. }))
    }

    #[test]
    fn what_is_left_open_is_filled_and_what_is_asked_stays() {
        let all = settle(None, MACHINE).unwrap();
        assert_eq!(all.memory_bytes, Some(6 << 30));
        assert_eq!((all.processes, all.processors), (Some(1024), None));
        let asked = Limits {
            processes: Some(20),
            processors: Some(0.5),
            ..Limits::default()
        };
        let some = settle(Some(asked), MACHINE).unwrap();
        assert_eq!((some.processes, some.processors), (Some(20), Some(0.5)));
        assert_eq!(some.memory_bytes, all.memory_bytes);
    }

    #[test]
    fn nothing_runs_in_nothing() {
        for limits in [
            Limits {
                memory_bytes: Some(0),
                ..Limits::default()
            },
            Limits {
                processes: Some(1),
                ..Limits::default()
            },
            Limits {
                processors: Some(0.0),
                ..Limits::default()
            },
            Limits {
                processors: Some(f64::NAN),
                ..Limits::default()
            },
            Limits {
                disk_bytes: Some(0),
                ..Limits::default()
            },
        ] {
            assert!(refused(limits.clone()), "{limits:?}");
        }
    }

    #[test]
    fn what_no_control_group_holds_is_said_only_where_it_was_asked_for() {
        let asked = Limits {
            memory_bytes: Some(1 << 30),
            processors: Some(1.0),
            processes: Some(100),
            ..Limits::default()
        };
        assert_eq!(warnings(Some(&asked), &Controller::ALL), [""; 0]);
        assert_eq!(warnings(None, &[]), [""; 0]);
        let told = warnings(Some(&asked), &[Controller::Pids]);
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("memory_bytes") && told[1].contains("processors"));
    }
}
