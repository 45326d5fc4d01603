//! Any services, any luck: what holds whatever happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use envd_supervision::{
    Action, Event, ExitStatus, Limit, Name, Policy, Readiness, Restart, Run, Service, Supervisor,
    notify::Notice,
};
use proptest::prelude::*;

use super::name;

const COUNT: usize = 7;

/// Services that need only such as come before them in the alphabet.
fn services() -> impl Strategy<Value = Vec<Service>> {
    let readiness = prop_oneof![
        Just(Readiness::Started),
        Just(Readiness::Notify),
        Just(Readiness::Descriptor(3)),
        Just(Readiness::Tcp(80)),
        Just(Readiness::Command),
        Just(Readiness::Exit),
    ];
    let policy = prop_oneof![
        Just(Policy::Never),
        Just(Policy::OnFailure),
        Just(Policy::Always)
    ];
    let timeout = prop_oneof![Just(None), (0_u64..3000).prop_map(Some)];
    let one = (
        readiness,
        policy,
        prop::option::of(0_u32..4),
        timeout,
        0_u64..3000,
        any::<[u8; 2]>(),
        prop::option::of(1_u64..500),
    );
    prop::collection::vec(one, COUNT).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(
                |(index, (readiness, policy, limit, start, stop, edges, watchdog))| {
                    let pick = |mask: u8| -> Vec<Name> {
                        (0..index)
                            .filter(|other| mask >> other & 1 == 1)
                            .map(nth)
                            .collect()
                    };
                    let policy = match (readiness, policy) {
                        (Readiness::Exit, Policy::Always) => Policy::OnFailure,
                        (_, policy) => policy,
                    };
                    let limit = limit.map(|count| Limit {
                        count,
                        window: Duration::from_secs(5),
                    });
                    Service {
                        needs: pick(edges[0] & 0x55),
                        after: pick(edges[1] & edges[0]),
                        readiness,
                        restart: Restart {
                            policy,
                            limit,
                            ..Restart::default()
                        },
                        start_timeout: start.map(Duration::from_millis),
                        stop_timeout: Duration::from_millis(stop),
                        watchdog: watchdog.map(Duration::from_millis),
                        ..Service::new(nth(index))
                    }
                },
            )
            .collect()
    })
}

fn nth(index: usize) -> Name {
    name(&((b'a' + index as u8) as char).to_string())
}

/// What may happen: a kind, whom it concerns, and a time that passes before.
type Chance = (u8, usize, u64);

/// The world outside: which processes there really are, kept apart from what the supervisor believes.
struct World {
    supervisor: Supervisor,
    services: BTreeMap<Name, Service>,
    now: Duration,
    timer: Option<Duration>,
    /// Lives that were asked for and have not ended, with whether they run yet.
    lives: BTreeMap<Name, (Run, bool)>,
    /// Those of them that are ready, and tasks that are done.
    up: BTreeSet<Name>,
    /// When order may be given up at the earliest.
    hurry: Option<Duration>,
    closing: bool,
    finished: bool,
    killed: BTreeSet<Name>,
}

impl World {
    fn new(services: Vec<Service>) -> Self {
        Self {
            supervisor: Supervisor::new(services.clone()).expect("acyclic"),
            services: services.into_iter().map(|s| (s.name.clone(), s)).collect(),
            now: Duration::ZERO,
            timer: None,
            lives: BTreeMap::new(),
            up: BTreeSet::new(),
            hurry: None,
            closing: false,
            finished: false,
            killed: BTreeSet::new(),
        }
    }

    /// Tells the supervisor, and checks all that it answers.
    fn tell(&mut self, event: Event) {
        let mut last_reason = String::new();
        for action in self.supervisor.handle(self.now, event) {
            match action {
                Action::Start(run) => {
                    assert!(!self.closing, "{run} started in a shutdown");
                    for need in &self.services[&run.service].needs {
                        assert!(self.up.contains(need), "{run} started before {need} was up");
                    }
                    let twin = self.lives.insert(run.service.clone(), (run.clone(), false));
                    assert!(twin.is_none(), "{run} started beside another life");
                    self.up.remove(&run.service);
                    self.killed.remove(&run.service);
                }
                Action::Probe(run) => {
                    assert!(self.services[&run.service].readiness.is_probed());
                    assert_eq!(self.lives.get(&run.service), Some(&(run, true)));
                }
                Action::Signal { run, signal } => {
                    assert_eq!(
                        self.lives.get(&run.service),
                        Some(&(run.clone(), true)),
                        "a signal for a process that is not there"
                    );
                    // As long as nothing hurries, those that need it have ended before.
                    let by_wish = last_reason == format!("sent {signal}");
                    if by_wish && self.hurry.is_none_or(|hurry| self.now < hurry) {
                        for other in self.services.values() {
                            let needs = other.needs.contains(&run.service);
                            assert!(!(needs && self.lives.contains_key(&other.name)));
                        }
                    }
                }
                Action::Kill(run) => {
                    assert!(self.lives.contains_key(&run.service), "{run} is not there");
                    assert!(self.killed.insert(run.service), "killed twice");
                }
                Action::ArmTimer(at) => {
                    assert!(at > self.now, "a timer that is over already");
                    self.timer = Some(at);
                }
                Action::Report(report) => {
                    assert!(!report.reason.is_empty());
                    last_reason = report.reason;
                }
                Action::StopFinished { slow } => {
                    self.finished = true;
                    self.hurry = None;
                    for slow in slow {
                        // The other way round it may be a later life that is there.
                        let there = self.lives.contains_key(&slow.service);
                        assert!(slow.ended || there, "{slow:?}");
                    }
                }
            }
        }
        for status in self.supervisor.status() {
            let there = self.lives.contains_key(&status.service);
            let rest = status.state.is_at_rest() && !status.state.is_up();
            assert!(!(there && rest), "{status:?} has a process");
        }
    }

    fn hurry_within(&mut self, within: Duration) {
        let hurry = self.now + within / 4 * 3;
        self.hurry = Some(self.hurry.map_or(hurry, |present| present.min(hurry)));
    }

    fn life(&self, index: usize) -> Option<(Run, bool)> {
        self.lives
            .values()
            .nth(index % self.lives.len().max(1))
            .cloned()
    }

    /// Lets one thing happen.
    fn happen(&mut self, (kind, index, time): Chance) {
        self.pass(Duration::from_millis(time));
        match kind % 10 {
            0 | 1 => self.tell(Event::StartWanted(vec![nth(index % COUNT)])),
            2 if !self.closing => {
                let within = Duration::from_millis(time * 7);
                self.hurry_within(within);
                self.tell(Event::StopWanted {
                    services: vec![nth(index % COUNT)],
                    within,
                });
            }
            3 | 4 => {
                if let Some((run, false)) = self.life(index) {
                    self.start(&run);
                }
            }
            5 => {
                if let Some((run, false)) = self.life(index) {
                    self.lives.remove(&run.service);
                    let why = "bad luck".to_owned();
                    self.tell(Event::StartFailed { run, why });
                }
            }
            6 | 7 => {
                if let Some((run, true)) = self.life(index) {
                    self.ready(run);
                }
            }
            8 => {
                if let Some((run, true)) = self.life(index) {
                    self.end(run, if time % 3 == 0 { 0 } else { 1 });
                }
            }
            _ => {
                if let Some((run, true)) = self.life(index) {
                    let why = "not yet".to_owned();
                    self.tell(Event::ProbeFailed { run, why });
                }
            }
        }
    }

    fn start(&mut self, run: &Run) {
        self.lives.insert(run.service.clone(), (run.clone(), true));
        if self.services[&run.service].readiness == Readiness::Started {
            self.up.insert(run.service.clone());
        }
        self.tell(Event::Started {
            run: run.clone(),
            pid: 1,
        });
    }

    fn ready(&mut self, run: Run) {
        match self.services[&run.service].readiness {
            Readiness::Notify => {
                self.up.insert(run.service.clone());
                let notices = vec![Notice::Ready, Notice::Alive];
                self.tell(Event::Notified { run, notices });
            }
            Readiness::Exit | Readiness::Started => {}
            _ => {
                self.up.insert(run.service.clone());
                self.tell(Event::Ready { run });
            }
        }
    }

    fn end(&mut self, run: Run, code: u8) {
        self.lives.remove(&run.service);
        self.up.remove(&run.service);
        if self.services[&run.service].readiness == Readiness::Exit && code == 0 {
            self.up.insert(run.service.clone());
        }
        let status = ExitStatus::Code(code);
        self.tell(Event::Exited { run, status });
    }

    /// Time passes, and the timer goes off whenever it is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.timer.filter(|at| *at <= end) {
            self.now = at;
            self.timer = None;
            self.tell(Event::Tick);
        }
        self.now = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever people and services do, nothing is started before what it needs, twice, or in a shutdown; and a shutdown is over by
    /// its deadline, whether anybody ends or not.
    #[test]
    fn the_promises_hold(
        services in services(),
        chances in prop::collection::vec((any::<u8>(), 0_usize..COUNT, 0_u64..700), 1..120),
        within in 0_u64..20_000,
        stubborn in any::<u8>(),
    ) {
        let mut world = World::new(services);
        for chance in chances {
            world.happen(chance);
        }
        let within = Duration::from_millis(within);
        let deadline = world.now + within;
        world.closing = true;
        world.finished = false;
        world.hurry_within(within);
        world.tell(Event::Shutdown { within });
        // Some end when they are told to, some only when killed, some never.
        while !world.finished {
            let next = world.lives.values().enumerate().find(|(index, (run, _))| {
                let killed = world.killed.contains(&run.service);
                let asked = world.supervisor.status_of(run.service.as_str()).is_some_and(|s| s.state.as_str() == "stopping");
                match stubborn >> index & 3 {
                    0 => asked || killed,
                    1 => killed,
                    _ => false,
                }
            }).map(|(_, life)| life.clone());
            match next {
                Some((run, _)) => world.end(run, 0),
                None => {
                    let at = world.timer.expect("a shutdown that waits has a timer");
                    prop_assert!(at <= deadline);
                    world.pass(at - world.now);
                }
            }
        }
        prop_assert!(world.now <= deadline);
    }

    /// With services that work, everything that is asked for comes up, and goes down in order.
    #[test]
    fn what_works_comes_up(services in services(), wanted in 0_usize..COUNT) {
        let services: Vec<Service> = services
            .into_iter()
            .map(|service| Service { start_timeout: None, watchdog: None, ..service })
            .collect();
        let mut world = World::new(services);
        world.tell(Event::StartWanted(vec![nth(wanted)]));
        let mut steps = 0;
        while let Some((run, started)) = world.lives.values().find(|(run, started)| !started || !world.up.contains(&run.service)).cloned() {
            steps += 1;
            prop_assert!(steps <= 3 * COUNT);
            if !started {
                world.start(&run);
            } else if world.services[&run.service].readiness == Readiness::Exit {
                world.end(run, 0);
            } else {
                world.ready(run);
            }
        }
        let status = world.supervisor.status_of(nth(wanted).as_str()).expect("known");
        prop_assert!(status.state.is_up(), "{:?}", status);
        world.closing = true;
        world.tell(Event::Shutdown { within: Duration::from_secs(1000) });
        while let Some((run, _)) = world.lives.values().find(|(run, _)| {
            world.supervisor.status_of(run.service.as_str()).is_some_and(|s| s.state.as_str() == "stopping")
        }).cloned() {
            for other in world.services.values() {
                let before_it = other.needs.contains(&run.service) || other.after.contains(&run.service);
                prop_assert!(!(before_it && world.lives.contains_key(&other.name)), "{} before {}", run, other.name);
            }
            world.end(run, 0);
        }
        prop_assert!(world.finished && world.lives.is_empty());
    }
}
