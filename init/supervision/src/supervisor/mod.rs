//! The state machine itself: events in, actions out. What people want is in `wishes`, what services do in `lives`, what
//! follows from both and from time passing in `course`.

mod course;
mod lives;
mod wishes;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Action, Event, Name, Run, Service, Slow, Status, SupervisorError, clock::Clock, graph,
    unit::Unit,
};

/// A set of services, and what becomes of them.
pub struct Supervisor {
    /// In an order in which each comes after what it needs and what it is after.
    units: Vec<Unit>,
    places: BTreeMap<Name, usize>,
    now: Duration,
    /// Set while somebody waits for services to stop.
    clock: Option<Clock>,
    slow: Vec<Slow>,
    /// Whether everything ends.
    closing: bool,
    /// What the driver's timer is set to.
    armed: Option<Duration>,
    actions: Vec<Action>,
}

impl Supervisor {
    /// A supervisor of these services, none of which is wanted yet.
    pub fn new(services: Vec<Service>) -> Result<Self, SupervisorError> {
        let mut by_name: BTreeMap<Name, Service> = BTreeMap::new();
        for service in services {
            if let Some(problem) = service.problem() {
                let service = service.name;
                return Err(SupervisorError::Service { service, problem });
            }
            let name = service.name.clone();
            if by_name.insert(name.clone(), service).is_some() {
                return Err(SupervisorError::Twice(name));
            }
        }
        let before = |service: &Service| -> Vec<Name> {
            let mut before: Vec<Name> = service.needs.clone();
            before.extend(service.after.iter().cloned());
            before
        };
        let all: BTreeMap<Name, Vec<Name>> = by_name
            .iter()
            .map(|(name, service)| (name.clone(), before(service)))
            .collect();
        let edges: BTreeMap<&str, Vec<&str>> = all
            .iter()
            .map(|(name, before)| (name.as_str(), before.iter().map(Name::as_str).collect()))
            .collect();
        let order = graph::order(&edges)?;
        let places: BTreeMap<Name, usize> = order
            .iter()
            .enumerate()
            .map(|(place, name)| (by_name[*name].name.clone(), place))
            .collect();
        let mut units: Vec<Unit> = order
            .iter()
            .filter_map(|name| by_name.remove(*name))
            .map(Unit::new)
            .collect();
        for place in 0..units.len() {
            let find = |names: &[Name]| -> Vec<usize> { names.iter().map(|n| places[n]).collect() };
            let (needs, after) = (
                find(&units[place].service.needs),
                find(&units[place].service.after),
            );
            for &need in &needs {
                units[need].needed_by.push(place);
            }
            for &before in needs.iter().chain(&after) {
                units[before].followers.push(place);
            }
            units[place].needs = needs;
            units[place].after = after;
        }
        Ok(Self {
            units,
            places,
            now: Duration::ZERO,
            clock: None,
            slow: Vec::new(),
            closing: false,
            armed: None,
            actions: Vec::new(),
        })
    }

    /// What is known of every service, in the order in which they start.
    pub fn status(&self) -> Vec<Status> {
        self.units.iter().map(Unit::status).collect()
    }

    /// What is known of one service.
    pub fn status_of(&self, name: &str) -> Option<Status> {
        self.places
            .get(name)
            .map(|place| self.units[*place].status())
    }

    /// The services themselves, in the order in which they start.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.units.iter().map(|unit| &unit.service)
    }

    /// Takes in what has happened, at `now` on a clock that never goes back, and says what to do about it, in this order.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        match event {
            Event::StartWanted(names) => self.start_wanted(&names),
            Event::StopWanted { services, within } => self.stop_wanted(&services, within),
            Event::Shutdown { within } => self.shutdown(within),
            Event::Started { run, pid } => self.with(&run, |this, place| this.started(place, pid)),
            Event::StartFailed { run, why } => {
                self.with(&run, |this, place| this.start_failed(place, &why));
            }
            Event::Ready { run } => self.with(&run, Self::seen_ready),
            Event::ProbeFailed { run, why } => {
                self.with(&run, |this, place| this.probe_failed(place, why));
            }
            Event::Notified { run, notices } => self.with(&run, |this, place| {
                for notice in notices {
                    this.notified(place, notice);
                }
            }),
            Event::Exited { run, status } => {
                self.with(&run, |this, place| this.exited(place, status));
            }
            // The timer is spent, whatever it was set to.
            Event::Tick => self.armed = None,
        }
        self.settle();
        self.arm();
        std::mem::take(&mut self.actions)
    }

    /// Does something about the service of `run`, if that is its present life.
    fn with(&mut self, run: &Run, act: impl FnOnce(&mut Self, usize)) {
        if let Some(&place) = self.places.get(&run.service)
            && self.units[place].run == run.number
            && self.units[place].is_alive()
        {
            act(self, place);
        }
    }
}
