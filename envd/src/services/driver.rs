//! Does what the supervisor says, and tells it what happens.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use envd_supervision::{Action, Event, Name, Report, Run, Slow, State, Status, Supervisor};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    Directories, Executor, Spec, UpError,
    executor::Control,
    life::{self, Life},
    log::Log,
};

/// Happenings that may wait: whoever tells more of them waits, too.
const HAPPENINGS: usize = 64;

/// What somebody wants.
pub(super) enum Wish {
    /// These are to be up; told when they are, or cannot be.
    Up(Vec<Name>, oneshot::Sender<Result<(), UpError>>),
    /// These are to be down; told when they are, or their time is over.
    Down(Vec<Name>, Duration, oneshot::Sender<Vec<Slow>>),
    /// Everything ends.
    Shutdown(Duration, oneshot::Sender<Vec<Slow>>),
}

/// What has happened.
pub(super) enum Happening {
    /// A process is there.
    Started {
        run: Run,
        pid: u32,
        control: Box<dyn Control>,
    },
    /// Anything else.
    Event(Event),
}

/// Those who wait for services to be up.
type Waiting = (Vec<Name>, oneshot::Sender<Result<(), UpError>>);

/// What services run with.
pub(super) struct Means {
    pub specs: BTreeMap<Name, Arc<Spec>>,
    pub executor: Arc<dyn Executor>,
    pub directories: Directories,
    pub logs: Arc<BTreeMap<Name, Arc<Log>>>,
}

pub(super) struct Driver {
    supervisor: Supervisor,
    means: Means,
    /// The supervisor's clock begins here.
    began: Instant,
    timer: Option<Instant>,
    /// Lives whose end has not been told, with their reins once there are any.
    lives: HashMap<Run, Option<Box<dyn Control>>>,
    /// Those that are to end as soon as there are reins.
    doomed: Vec<Run>,
    waiting: Vec<Waiting>,
    stopping: Vec<oneshot::Sender<Vec<Slow>>>,
    status: watch::Sender<Vec<Status>>,
    reports: broadcast::Sender<Report>,
}

impl Driver {
    pub fn new(
        supervisor: Supervisor,
        means: Means,
        began: Instant,
        status: watch::Sender<Vec<Status>>,
        reports: broadcast::Sender<Report>,
    ) -> Self {
        Self {
            supervisor,
            means,
            began,
            timer: None,
            lives: HashMap::new(),
            doomed: Vec::new(),
            waiting: Vec::new(),
            stopping: Vec::new(),
            status,
            reports,
        }
    }

    /// Runs until nobody can wish for anything any more, then kills what is left.
    pub async fn drive(mut self, mut wishes: mpsc::Receiver<Wish>) {
        let (tell, mut happenings) = mpsc::channel(HAPPENINGS);
        loop {
            let timer = self.timer;
            let event = tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(wish) => self.wish(wish),
                    None => break,
                },
                Some(happening) = happenings.recv() => match happening {
                    Happening::Event(event) => event,
                    Happening::Started { run, pid, control } => {
                        self.take_reins(run.clone(), control);
                        Event::Started { run, pid }
                    }
                },
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    self.timer = None;
                    Event::Tick
                }
            };
            if let Event::Exited { run, .. } | Event::StartFailed { run, .. } = &event {
                self.lives.remove(run);
                self.doomed.retain(|doomed| doomed != run);
            }
            for action in self.supervisor.handle(self.began.elapsed(), event) {
                self.act(action, &tell);
            }
            self.answer();
            self.status.send_replace(self.supervisor.status());
        }
        for control in self.lives.values().flatten() {
            let _ = control.kill();
        }
        // What is only being started now has to go as well.
        self.lives.retain(|_, control| control.is_none());
        drop(tell);
        while !self.lives.is_empty() {
            match happenings.recv().await {
                Some(Happening::Started { run, control, .. }) => {
                    let _ = control.kill();
                    self.lives.remove(&run);
                }
                Some(Happening::Event(Event::StartFailed { run, .. })) => {
                    self.lives.remove(&run);
                }
                Some(_) => {}
                None => break,
            }
        }
    }

    fn wish(&mut self, wish: Wish) -> Event {
        match wish {
            Wish::Up(names, reply) => {
                self.waiting.push((names.clone(), reply));
                Event::StartWanted(names)
            }
            Wish::Down(services, within, reply) => {
                self.stopping.push(reply);
                Event::StopWanted { services, within }
            }
            Wish::Shutdown(within, reply) => {
                self.stopping.push(reply);
                Event::Shutdown { within }
            }
        }
    }

    fn take_reins(&mut self, run: Run, control: Box<dyn Control>) {
        if self.doomed.contains(&run) {
            let _ = control.kill();
        }
        self.lives.insert(run, Some(control));
    }

    fn act(&mut self, action: Action, tell: &mpsc::Sender<Happening>) {
        match action {
            Action::Start(run) => self.start(run, tell),
            Action::Probe(run) => self.probe(run, tell),
            Action::Signal { run, signal } => {
                let control = self.lives.get(&run).and_then(Option::as_ref);
                if let Some(control) = control
                    && let Err(error) = control.signal(signal)
                {
                    self.say(&run.service, &format!("cannot send {signal}: {error}"));
                }
            }
            Action::Kill(run) => match self.lives.get(&run) {
                Some(Some(control)) => {
                    if let Err(error) = control.kill() {
                        self.say(&run.service, &format!("cannot kill it: {error}"));
                    }
                }
                _ => self.doomed.push(run),
            },
            Action::ArmTimer(at) => self.timer = Some(self.began + at),
            Action::Report(report) => {
                self.say(
                    &report.service,
                    &format!("{}: {}", report.state, report.reason),
                );
                // Nobody may be listening.
                let _ = self.reports.send(report);
            }
            Action::StopFinished { slow } => {
                for reply in self.stopping.drain(..) {
                    let _ = reply.send(slow.clone());
                }
            }
        }
    }

    fn start(&mut self, run: Run, tell: &mpsc::Sender<Happening>) {
        // The supervisor knows no other services than those with a specification and a log.
        let (Some(spec), Some(log)) = (
            self.means.specs.get(&run.service),
            self.means.logs.get(&run.service),
        ) else {
            return;
        };
        self.lives.insert(run.clone(), None);
        let life = Life {
            socket: self.means.directories.sockets.join(run.service.as_str()),
            state: self.means.directories.state.clone(),
            run,
            spec: spec.clone(),
            executor: self.means.executor.clone(),
            log: log.clone(),
            happenings: tell.clone(),
        };
        tokio::spawn(life.live());
    }

    fn probe(&self, run: Run, tell: &mpsc::Sender<Happening>) {
        let Some(spec) = self.means.specs.get(&run.service).cloned() else {
            return;
        };
        let (executor, state) = (
            self.means.executor.clone(),
            self.means.directories.state.clone(),
        );
        let tell = tell.clone();
        tokio::spawn(async move {
            let event = match life::probe(executor, spec, state).await {
                Ok(()) => Event::Ready { run },
                Err(why) => Event::ProbeFailed { run, why },
            };
            let _ = tell.send(Happening::Event(event)).await;
        });
    }

    fn say(&self, service: &Name, text: &str) {
        if let Some(log) = self.means.logs.get(service) {
            log.say(text);
        }
    }

    /// Tells those who wait for services to be up how it went, where that is known by now.
    fn answer(&mut self) {
        let supervisor = &self.supervisor;
        let state = |name: &Name| {
            supervisor
                .status_of(name.as_str())
                .map(|status| status.state)
        };
        let waiting = std::mem::take(&mut self.waiting);
        for (names, reply) in waiting {
            let is_up = |name: &Name| state(name).is_some_and(State::is_up);
            let is_lost = |name: &Name| !is_up(name) && state(name).is_none_or(State::is_at_rest);
            if names.iter().any(is_lost) {
                let _ = reply.send(Err(UpError::Down(self.causes(&names))));
            } else if names.iter().all(is_up) {
                let _ = reply.send(Ok(()));
            } else if !reply.is_closed() {
                self.waiting.push((names, reply));
            }
        }
    }

    /// Which of these services, and of those that they need, are down, and why; what is needed first.
    fn causes(&self, names: &[Name]) -> Vec<Report> {
        let mut open: Vec<Name> = names.to_vec();
        let mut found: Vec<Name> = Vec::new();
        while let Some(name) = open.pop() {
            if !found.contains(&name) {
                open.extend(
                    self.means
                        .specs
                        .get(&name)
                        .into_iter()
                        .flat_map(|s| s.service.needs.clone()),
                );
                found.push(name);
            }
        }
        let all = self.supervisor.status().into_iter();
        all.filter(|status| found.contains(&status.service))
            .filter(|status| status.state.is_at_rest() && !status.state.is_up())
            .map(|status| Report {
                service: status.service,
                state: status.state,
                reason: status.reason,
            })
            .collect()
    }
}
