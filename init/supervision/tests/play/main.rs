//! Services played through: each line is a moment, what happens, and what the supervisor does about it.

mod endings;
mod failures;
mod property;
mod starting;

use std::time::Duration;

use envd_supervision::{
    Action, Event, ExitStatus, Name, Readiness, Run, Service, Supervisor, notify,
};

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A service that needs these.
fn service(this: &str, needs: &[&str]) -> Service {
    Service {
        needs: needs.iter().map(|need| name(need)).collect(),
        ..Service::new(name(this))
    }
}

/// A service that is ready in this way.
fn ready_by(readiness: Readiness, service: Service) -> Service {
    Service {
        readiness,
        ..service
    }
}

struct Play {
    supervisor: Supervisor,
}

impl Play {
    fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Self {
            supervisor: Supervisor::new(services.into_iter().collect()).expect("services"),
        }
    }

    /// Plays lines of `(milliseconds, event, actions)`, and compares the actions other than timers and reports.
    fn play(&mut self, lines: &[(u64, &str, &str)]) {
        for (at, event, expected) in lines {
            let actions = self.tell(*at, event);
            let done: Vec<String> = actions.iter().filter_map(words).collect();
            assert_eq!(done.join(", "), *expected, "at {at} ms: {event}");
        }
    }

    /// Tells what happens: `want NAME…`, `stop NAME… MS`, `shutdown MS`, `started NAME`, `failed NAME`, `ready NAME`,
    /// `unready NAME`, `exit NAME CODE|SIGNAL`, `says NAME MESSAGE`, `tick`. A name may have a life's number: `db#1`.
    fn tell(&mut self, at: u64, event: &str) -> Vec<Action> {
        let mut words = event.split(' ');
        let verb = words.next().expect("a verb");
        let rest: Vec<&str> = words.collect();
        let first = || self.run(rest[0]);
        let within = || Duration::from_millis(rest.last().expect("a time").parse().expect("ms"));
        let event = match verb {
            "want" => Event::StartWanted(rest.iter().map(|word| name(word)).collect()),
            "stop" => Event::StopWanted {
                services: rest[..rest.len() - 1]
                    .iter()
                    .map(|word| name(word))
                    .collect(),
                within: within(),
            },
            "shutdown" => Event::Shutdown { within: within() },
            "started" => Event::Started {
                run: first(),
                pid: 7,
            },
            "failed" => Event::StartFailed {
                run: first(),
                why: "no such program".to_owned(),
            },
            "ready" => Event::Ready { run: first() },
            "unready" => Event::ProbeFailed {
                run: first(),
                why: "connection refused".to_owned(),
            },
            "exit" => Event::Exited {
                run: first(),
                status: match rest[1].parse() {
                    Ok(code) => ExitStatus::Code(code),
                    Err(_) => ExitStatus::Signal(rest[1].parse().expect("a signal")),
                },
            },
            "says" => Event::Notified {
                run: first(),
                notices: notify::parse(rest[1..].join(" ").as_bytes()),
            },
            "tick" => Event::Tick,
            other => panic!("no event {other}"),
        };
        self.supervisor.handle(Duration::from_millis(at), event)
    }

    /// `db#2`, or the latest life of `db`.
    fn run(&self, text: &str) -> Run {
        let (service, number) = match text.split_once('#') {
            Some((service, number)) => (service, number.parse().expect("a number")),
            None => {
                let restarts = self.supervisor.status_of(text).expect("a service").restarts;
                (text, u64::from(restarts) + 1)
            }
        };
        Run {
            service: name(service),
            number,
        }
    }

    /// `STATE: reason` of a service.
    fn state(&self, service: &str) -> String {
        let status = self.supervisor.status_of(service).expect("a service");
        format!("{}: {}", status.state, status.reason)
    }
}

/// An action in words, unless it is a timer or a report.
fn words(action: &Action) -> Option<String> {
    Some(match action {
        Action::Start(run) => format!("start {}", run.service),
        Action::Probe(run) => format!("probe {}", run.service),
        Action::Signal { run, signal } => format!("{signal} {}", run.service),
        Action::Kill(run) => format!("kill {}", run.service),
        Action::StopFinished { slow } => {
            let slow: Vec<String> = slow
                .iter()
                .map(|slow| {
                    let ended = if slow.ended {
                        ""
                    } else {
                        ", and is still there"
                    };
                    format!(": {} {}{ended}", slow.service, slow.reason)
                })
                .collect();
            format!("finished{}", slow.concat())
        }
        Action::ArmTimer(_) | Action::Report(_) => return None,
    })
}
