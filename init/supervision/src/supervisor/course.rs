//! What follows, and when.

use std::time::Duration;

use super::Supervisor;
use crate::{
    Action, Report, Signal, Slow,
    status::spoken,
    unit::{Attempt, Ending, Phase, Unit},
};

/// The pause between the first two probes of a service.
const PROBE_FIRST: Duration = Duration::from_millis(20);

impl Supervisor {
    /// Carries on wherever something can be carried on with.
    pub(super) fn settle(&mut self) {
        loop {
            let mut changed = self.expire();
            for place in 0..self.units.len() {
                changed |= self.advance(place);
            }
            if !changed {
                break;
            }
        }
        if let Some(clock) = self.clock {
            let stopping = |unit: &Unit| !unit.wanted && unit.is_alive();
            if clock.is_over(self.now) || !self.units.iter().any(stopping) {
                self.clock = None;
                let slow = std::mem::take(&mut self.slow);
                self.actions.push(Action::StopFinished { slow });
            }
        }
    }

    /// One step of one service; whether there was one.
    fn advance(&mut self, place: usize) -> bool {
        let unit = &self.units[place];
        match (&unit.phase, unit.wanted) {
            (Phase::Waiting, true) => {
                let can = unit.needs.iter().all(|need| self.units[*need].is_up())
                    && !unit
                        .after
                        .iter()
                        .any(|other| self.units[*other].is_on_its_way());
                if can {
                    self.start(place);
                }
                can
            }
            (Phase::Waiting | Phase::Pausing { .. }, false) => {
                self.ended_as_asked(place, "stopped".to_owned());
                true
            }
            (Phase::Starting(_) | Phase::Ready { .. }, false) => {
                let rushed = self.clock.is_some_and(|clock| clock.is_rushed(self.now));
                let in_turn = |other: &usize| {
                    let other = &self.units[*other];
                    other.wanted || !other.is_alive()
                };
                let can = rushed || unit.followers.iter().all(in_turn);
                if can {
                    self.ask_to_end(place, unit.service.stop_signal, None);
                }
                can
            }
            _ => false,
        }
    }

    fn start(&mut self, place: usize) {
        let now = self.now;
        let unit = &mut self.units[place];
        unit.run += 1;
        unit.main_pid = None;
        unit.text = None;
        let timeout = unit.service.start_timeout;
        let attempt = Attempt {
            began: now,
            deadline: timeout.map(|timeout| now.saturating_add(timeout)),
            probe: None,
            pause: PROBE_FIRST,
            failure: None,
        };
        let run = unit.run();
        let reason = match unit.restarts {
            0 => "started".to_owned(),
            restarts => format!("restart {restarts}"),
        };
        self.set(place, Phase::Launching(attempt), reason);
        self.actions.push(Action::Start(run));
    }

    /// Acts on what has had its time; whether anything had.
    fn expire(&mut self) -> bool {
        let mut changed = false;
        for place in 0..self.units.len() {
            if self.units[place].timers().any(|time| time <= self.now) {
                self.expire_one(place);
                changed = true;
            }
        }
        if self
            .clock
            .as_mut()
            .is_some_and(|clock| clock.take_kill(self.now))
        {
            self.kill_the_rest();
            changed = true;
        }
        changed
    }

    fn expire_one(&mut self, place: usize) {
        let now = self.now;
        let is_due = |time: &Option<Duration>| time.is_some_and(|time| time <= now);
        let unit = &mut self.units[place];
        let run = unit.run();
        match &mut unit.phase {
            Phase::Pausing { .. } => {
                self.set(place, Phase::Waiting, "its pause is over".to_owned());
            }
            Phase::Launching(attempt) | Phase::Starting(attempt) if is_due(&attempt.deadline) => {
                let timeout = spoken(now.saturating_sub(attempt.began));
                let fault = match &attempt.failure {
                    Some(failure) => format!("not ready after {timeout}: {failure}"),
                    None => format!("not ready after {timeout}"),
                };
                let signal = unit.service.stop_signal;
                self.end_for(place, signal, fault);
            }
            Phase::Starting(attempt) => {
                attempt.probe = None;
                self.actions.push(Action::Probe(run));
            }
            Phase::Ready { .. } => {
                let every = spoken(unit.service.watchdog.unwrap_or_default());
                let fault = format!("has not said that it is alive for {every}");
                self.end_for(place, Signal::ABORT, fault);
            }
            Phase::Ending(ending) => {
                let took = spoken(now.saturating_sub(ending.asked));
                let reason = format!(
                    "did not end within {took} of {} and was killed",
                    ending.with
                );
                self.kill(place, reason);
            }
            _ => {}
        }
    }

    /// Kills whatever has not ended though it was to.
    fn kill_the_rest(&mut self) {
        let within = spoken(self.clock.map(|clock| clock.within()).unwrap_or_default());
        for place in 0..self.units.len() {
            let unit = &self.units[place];
            let reason = match &unit.phase {
                _ if unit.wanted || !unit.is_alive() => continue,
                Phase::Ending(Ending { kill: None, .. }) => continue,
                Phase::Ending(ending) => format!(
                    "did not end within {} of {} and was killed: all had {within} together",
                    spoken(self.now.saturating_sub(ending.asked)),
                    ending.with,
                ),
                _ => format!("was killed: all had {within} together"),
            };
            self.kill(place, reason);
        }
    }

    /// Ends a service that has done something wrong.
    pub(super) fn end_for(&mut self, place: usize, signal: Signal, fault: String) {
        if let Phase::Launching(_) = self.units[place].phase {
            // There is nothing to send a signal to, and nobody to wait for.
            self.ask_to_end(place, Signal::KILL, Some(fault));
        } else {
            self.ask_to_end(place, signal, Some(fault));
        }
    }

    pub(super) fn ask_to_end(&mut self, place: usize, signal: Signal, fault: Option<String>) {
        let now = self.now;
        let unit = &self.units[place];
        let run = unit.run();
        let ready = match unit.phase {
            Phase::Ready { since, .. } => now.saturating_sub(since),
            _ => Duration::ZERO,
        };
        let reason = match &fault {
            Some(fault) => format!("{fault}; sent {signal}"),
            None => format!("sent {signal}"),
        };
        let gentle = signal != Signal::KILL;
        let ending = Ending {
            asked: now,
            kill: gentle.then(|| now.saturating_add(unit.service.stop_timeout)),
            with: signal.to_string(),
            fault,
            ready,
        };
        self.set(place, Phase::Ending(ending), reason);
        self.actions.push(if gentle {
            Action::Signal { run, signal }
        } else {
            Action::Kill(run)
        });
    }

    fn kill(&mut self, place: usize, reason: String) {
        let now = self.now;
        let unit = &mut self.units[place];
        let (service, run) = (unit.service.name.clone(), unit.run());
        if let Phase::Ending(ending) = &mut unit.phase {
            ending.kill = None;
        } else {
            unit.phase = Phase::Ending(Ending {
                asked: now,
                kill: None,
                with: Signal::KILL.to_string(),
                fault: None,
                ready: Duration::ZERO,
            });
        }
        if self.clock.is_some() && !unit.wanted {
            // Once for each, however often it was brought back meanwhile.
            self.slow.retain(|slow| slow.service != service);
            self.slow.push(Slow {
                service,
                reason: reason.clone(),
                ended: false,
            });
        }
        self.report(place, reason);
        self.actions.push(Action::Kill(run));
    }

    pub(super) fn arm(&mut self) {
        let now = self.now;
        let units = self.units.iter().flat_map(Unit::timers);
        let clock = self.clock.iter().flat_map(|clock| clock.timers(now));
        let next = units.chain(clock).min();
        if next.is_some() && next != self.armed {
            self.actions.extend(next.map(Action::ArmTimer));
        }
        self.armed = next;
    }

    pub(super) fn set(&mut self, place: usize, phase: Phase, reason: String) {
        let unit = &mut self.units[place];
        unit.phase = phase;
        unit.reloading = false;
        if !unit.is_alive() {
            unit.pid = None;
            unit.main_pid = None;
            let name = &unit.service.name;
            for slow in self.slow.iter_mut().filter(|slow| slow.service == *name) {
                slow.ended = true;
            }
        }
        self.report(place, reason);
    }

    pub(super) fn report(&mut self, place: usize, reason: String) {
        let now = self.now;
        let unit = &mut self.units[place];
        unit.since = now;
        unit.reason.clone_from(&reason);
        self.actions.push(Action::Report(Report {
            service: unit.service.name.clone(),
            state: unit.state(),
            reason,
        }));
    }
}
