//! What is written into a group's files.

use super::Controller;

/// Limits of all processes of a group together.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Limits {
    /// Bytes of memory. Nothing is swapped out.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processors' worth of time.
    pub processors: Option<f64>,
}

/// One line into one file of the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The file's name.
    pub file: &'static str,
    /// What it is set to.
    pub value: String,
    /// Whether a kernel may be without it.
    pub optional: bool,
}

/// Microseconds over which processor time is counted.
const PERIOD: u64 = 100_000;
/// The least that the kernel takes, in microseconds.
const SHORTEST: f64 = 1000.0;

impl Limits {
    /// As files of a group that has these controllers. What no controller is there for is left out: see [`Limits::without`].
    ///
    /// `memory.oom.group` stays off: the kernel then kills the largest process, and the environment's PID 1, which is the smallest,
    /// and the commands beside it go on.
    pub fn settings(&self, controllers: &[Controller]) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut set = |controller, file, value: String, optional| {
            if controllers.contains(&controller) {
                settings.push(Setting {
                    file,
                    value,
                    optional,
                });
            }
        };
        if let Some(bytes) = self.memory {
            set(Controller::Memory, "memory.max", bytes.to_string(), false);
            // A kernel without swap has no such file.
            set(Controller::Memory, "memory.swap.max", "0".to_owned(), true);
        }
        if let Some(processes) = self.processes {
            set(Controller::Pids, "pids.max", processes.to_string(), false);
        }
        if let Some(processors) = self.processors {
            let quota = (processors * PERIOD as f64).max(SHORTEST).round() as u64;
            set(
                Controller::Cpu,
                "cpu.max",
                format!("{quota} {PERIOD}"),
                false,
            );
        }
        settings
    }

    /// Those of the limits that these controllers do not enforce.
    pub fn without(&self, controllers: &[Controller]) -> Self {
        let has = |controller| controllers.contains(&controller);
        Self {
            memory: self.memory.filter(|_| !has(Controller::Memory)),
            processes: self.processes.filter(|_| !has(Controller::Pids)),
            processors: self.processors.filter(|_| !has(Controller::Cpu)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        memory: Some(1 << 30),
        processes: Some(512),
        processors: Some(1.5),
    };

    #[test]
    fn every_limit_is_a_line_in_its_file() {
        let settings = LIMITS.settings(&Controller::ALL);
        let lines: Vec<_> = settings
            .iter()
            .map(|setting| (setting.file, &*setting.value))
            .collect();
        assert_eq!(
            lines,
            [
                ("memory.max", "1073741824"),
                ("memory.swap.max", "0"),
                ("pids.max", "512"),
                ("cpu.max", "150000 100000"),
            ]
        );
        assert_eq!(Limits::default().settings(&Controller::ALL), []);
    }

    #[test]
    fn what_has_no_controller_is_not_written_and_not_forgotten() {
        let only = [Controller::Pids];
        assert_eq!(LIMITS.settings(&only).len(), 1);
        let left = LIMITS.without(&only);
        assert_eq!((left.memory, left.processes), (Some(1 << 30), None));
        assert_eq!(left.processors, Some(1.5));
        assert_eq!(LIMITS.without(&Controller::ALL), Limits::default());
    }

    #[test]
    fn the_kernel_refuses_less_than_a_millisecond() {
        let limits = Limits {
            processors: Some(0.0),
            ..Limits::default()
        };
        assert_eq!(limits.settings(&Controller::ALL)[0].value, "1000 100000");
    }
}
