//! What services do.

use std::time::Duration;

use super::Supervisor;
use crate::{
    ExitStatus, Policy, Readiness, Signal, notify::Notice, restart::Verdict, status::spoken,
    unit::Phase,
};

/// The longest pause between two probes of a service; each is twice as long as the one before.
const PROBE_LONGEST: Duration = Duration::from_millis(500);
/// How much longer than its timeouts a service may take by asking for time.
const EXTENSION_MAX: Duration = Duration::from_secs(3600);

impl Supervisor {
    pub(super) fn started(&mut self, place: usize, pid: u32) {
        let now = self.now;
        let unit = &mut self.units[place];
        if !matches!(unit.phase, Phase::Launching(_)) {
            // It was killed before it was there; its end is still to come.
            unit.pid = Some(pid);
            return;
        }
        let Phase::Launching(mut attempt) = std::mem::replace(&mut unit.phase, Phase::Waiting)
        else {
            return;
        };
        unit.pid = Some(pid);
        if unit.service.readiness.is_probed() {
            attempt.probe = Some(now);
        }
        unit.phase = Phase::Starting(attempt);
        if unit.service.readiness == Readiness::Started {
            self.become_ready(place);
        }
    }

    pub(super) fn start_failed(&mut self, place: usize, why: &str) {
        match &self.units[place].phase {
            Phase::Launching(_) if self.units[place].wanted => {
                self.failed(place, format!("cannot be started: {why}"), Duration::ZERO);
            }
            Phase::Launching(_) | Phase::Ending(_) => {
                self.ended_as_asked(place, format!("cannot be started: {why}"));
            }
            _ => {}
        }
    }

    pub(super) fn seen_ready(&mut self, place: usize) {
        let unit = &self.units[place];
        let by_driver = unit.service.readiness.is_probed()
            || matches!(unit.service.readiness, Readiness::Descriptor(_));
        if by_driver && matches!(unit.phase, Phase::Starting(_)) {
            self.become_ready(place);
        }
    }

    pub(super) fn probe_failed(&mut self, place: usize, why: String) {
        let now = self.now;
        let unit = &mut self.units[place];
        if let Phase::Starting(attempt) = &mut unit.phase
            && unit.service.readiness.is_probed()
        {
            attempt.failure = Some(why);
            attempt.probe = Some(now.saturating_add(attempt.pause));
            attempt.pause = (attempt.pause * 2).min(PROBE_LONGEST);
        }
    }

    pub(super) fn become_ready(&mut self, place: usize) {
        let now = self.now;
        let unit = &self.units[place];
        let Phase::Starting(attempt) = &unit.phase else {
            return;
        };
        let reason = match unit.service.readiness {
            Readiness::Started => "started".to_owned(),
            _ => format!("ready after {}", spoken(now.saturating_sub(attempt.began))),
        };
        let watchdog = unit.service.watchdog;
        let phase = Phase::Ready {
            since: now,
            watchdog: watchdog.map(|every| now.saturating_add(every)),
        };
        self.set(place, phase, reason);
    }

    pub(super) fn notified(&mut self, place: usize, notice: Notice) {
        let now = self.now;
        let unit = &mut self.units[place];
        match notice {
            Notice::Ready => match &unit.phase {
                Phase::Starting(_) if unit.service.readiness == Readiness::Notify => {
                    self.become_ready(place);
                }
                Phase::Ready { .. } if unit.reloading => {
                    unit.reloading = false;
                    self.report(place, "has read its configuration again".to_owned());
                }
                _ => {}
            },
            Notice::Reloading => {
                if matches!(unit.phase, Phase::Ready { .. }) && !unit.reloading {
                    unit.reloading = true;
                    self.report(place, "reads its configuration again".to_owned());
                }
            }
            // Its end will say the rest.
            Notice::Stopping => {}
            Notice::Status(text) => unit.text = Some(text).filter(|text| !text.is_empty()),
            Notice::MainPid(pid) => unit.main_pid = Some(pid),
            Notice::Alive => {
                if let Phase::Ready { watchdog, .. } = &mut unit.phase
                    && let Some(every) = unit.service.watchdog
                {
                    *watchdog = Some(now.saturating_add(every));
                }
            }
            Notice::GivesUp => {
                if matches!(unit.phase, Phase::Ready { .. } | Phase::Starting(_)) {
                    self.end_for(place, Signal::ABORT, "gave itself up".to_owned());
                }
            }
            Notice::NeedsTime(time) => {
                let (began, deadline) = match &mut unit.phase {
                    Phase::Starting(attempt) => (attempt.began, &mut attempt.deadline),
                    Phase::Ending(ending) => (ending.asked, &mut ending.kill),
                    _ => return,
                };
                let wanted = now
                    .saturating_add(time)
                    .min(began.saturating_add(EXTENSION_MAX));
                *deadline = deadline.map(|present| present.max(wanted));
            }
        }
    }

    pub(super) fn exited(&mut self, place: usize, status: ExitStatus) {
        let now = self.now;
        let unit = &self.units[place];
        let readiness = unit.service.readiness;
        match &unit.phase {
            Phase::Launching(attempt) | Phase::Starting(attempt) => {
                let took = spoken(now.saturating_sub(attempt.began));
                if !unit.wanted {
                    self.ended_as_asked(place, status.to_string());
                } else if readiness == Readiness::Exit && status.success() {
                    self.set(place, Phase::Done, format!("done after {took}"));
                } else if readiness == Readiness::Exit {
                    self.failed(place, status.to_string(), Duration::ZERO);
                } else {
                    let reason = format!("{status} after {took}, before it was ready");
                    self.failed(place, reason, Duration::ZERO);
                }
            }
            Phase::Ready { since, .. } => {
                let ready = now.saturating_sub(*since);
                if !unit.wanted {
                    self.ended_as_asked(place, status.to_string());
                } else if status.success() && unit.service.restart.policy != Policy::Always {
                    let reason = format!("ended by itself after {}", spoken(ready));
                    self.rest(place, Phase::Ended, reason, "has ended");
                } else {
                    self.failed(place, format!("{status} after {}", spoken(ready)), ready);
                }
            }
            Phase::Ending(ending) => {
                let (fault, ready) = (ending.fault.clone(), ending.ready);
                match fault {
                    Some(fault) if unit.wanted => self.failed(place, fault, ready),
                    _ => self.ended_as_asked(place, status.to_string()),
                }
            }
            _ => {}
        }
    }

    /// The process of a service that was to stop is gone.
    pub(super) fn ended_as_asked(&mut self, place: usize, reason: String) {
        if self.units[place].wanted {
            // Somebody changed their mind meanwhile.
            self.set(place, Phase::Waiting, "wanted again".to_owned());
            return;
        }
        match self.units[place].verdict.take() {
            Some(verdict) => self.set(place, Phase::Failed, verdict),
            None => self.set(place, Phase::Stopped, reason),
        }
    }

    /// A wanted service is gone, or never came, for `reason`.
    pub(super) fn failed(&mut self, place: usize, reason: String, ready: Duration) {
        let now = self.now;
        let unit = &mut self.units[place];
        let restart = unit.service.restart;
        let for_good = match restart.policy {
            Policy::Never => reason,
            _ => match unit.history.next(now, ready, &restart) {
                Verdict::At(until) => {
                    unit.restarts = unit.restarts.saturating_add(1);
                    let pause = spoken(until.saturating_sub(now));
                    let reason = format!("{reason}; started again in {pause}");
                    self.set(place, Phase::Pausing { until }, reason);
                    return;
                }
                Verdict::TooOften(limit) => format!(
                    "{reason}; given up after {} restarts within {}",
                    limit.count,
                    spoken(limit.window)
                ),
            },
        };
        self.rest(place, Phase::Failed, for_good, "has failed");
    }

    /// A service is down and stays down, and with it all that need it.
    pub(super) fn rest(&mut self, place: usize, phase: Phase, reason: String, how: &str) {
        self.units[place].wanted = false;
        self.set(place, phase, reason);
        let mut open = vec![place];
        while let Some(needed) = open.pop() {
            let name = self.units[needed].service.name.clone();
            let how = if needed == place { how } else { "cannot be" };
            for dependent in self.units[needed].needed_by.clone() {
                let unit = &mut self.units[dependent];
                // A task that has done its work needs nothing any more.
                if unit.wanted && !matches!(unit.phase, Phase::Done) {
                    unit.wanted = false;
                    unit.verdict = Some(format!("it needs `{name}`, which {how}"));
                    open.push(dependent);
                }
            }
        }
    }
}
