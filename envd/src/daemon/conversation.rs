//! What is said on one client's connection. When it ends, so does everything that runs for the client.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    time::Duration,
};

use envd_init::request::Request as Command;
use envd_shims::LaunchError;
use envd_supervision::Name;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::{Value, json};

use super::{
    channel::Channel,
    handing::{self, Handed},
    household::PATIENCE,
    lease::Lease,
    lending::{Asked, Told},
    message::{self, Answer, Ending, Event, Question, Reason, Refusal, Request},
    order::{self, Head, Joined, Malformed, Way},
    packet::Packet,
    recipe::{Recipe, Terminal, Wish},
    server::{Daemon, Guest, Tenancy, Use},
};
use crate::{
    cli::{Failure, Kind},
    services::{Following, Line, Origin},
    settings::HostVariables,
};

/// Serves one client until either is done with the other.
pub async fn converse(guest: Guest, channel: Channel) {
    let mut conversation = Conversation {
        daemon: guest.daemon.clone(),
        channel,
        lease: Lease::default(),
        runs: Vec::new(),
        opened: Vec::new(),
        refused: Vec::new(),
    };
    if let Err(error) = conversation.hold().await {
        tracing::debug!("a client is gone: {error}");
    }
    // Before the client stops being counted: a daemon that is not used has nothing left.
    drop(conversation);
    drop(guest);
}

struct Conversation {
    daemon: Rc<Daemon>,
    channel: Channel,
    lease: Lease,
    /// Environments of one command each.
    runs: Vec<Tenancy>,
    /// Environments of several.
    opened: Vec<(Tenancy, Rc<Recipe>)>,
    /// What came with a command that was refused: its connection must not seem to end before the client has heard why.
    refused: Vec<OwnedFd>,
}

impl Conversation {
    async fn hold(&mut self) -> io::Result<()> {
        if let Err(refusal) = self.known() {
            return self.refuse(refusal).await;
        }
        loop {
            let packet = tokio::select! {
                packet = self.channel.receive() => packet?,
                why = self.lease.ended() => return self.ended(why).await,
                () = self.daemon.stop_begins() => {
                    let ended = self.ended(Ending::Stop).await;
                    // The end of the connection tells that the daemon is gone.
                    std::future::pending::<()>().await;
                    return ended;
                }
            };
            let Some(mut packet) = packet else {
                return Ok(());
            };
            self.refused.clear();
            let done = match order::is_order(&packet.bytes) {
                true => match self.run(&mut packet) {
                    Ok(Some(entrance)) => {
                        self.let_in(&entrance).await?;
                        Ok(None)
                    }
                    done => done.map(|_| None),
                },
                false => self.answer(&mut packet).await.map(Some),
            };
            if done.is_err() {
                self.refused = packet.descriptors;
            }
            match done {
                Ok(None) => {}
                Ok(Some(value)) => {
                    let answer = message::packet(&Answer::Ok(value));
                    self.channel.send(&answer).await?;
                    if self.daemon.is_stopping() {
                        self.daemon.stop();
                        std::future::pending::<()>().await;
                    }
                }
                Err(refusal) if refusal.kind == Reason::Malformed => {
                    return self.refuse(refusal).await;
                }
                Err(refusal) => {
                    let answer = message::packet(&Answer::Error(refusal));
                    self.channel.send(&answer).await?;
                }
            }
        }
    }

    /// Whether the client may ask at all.
    fn known(&self) -> Result<(), Refusal> {
        let own = self.daemon.identity.uid;
        match self.channel.peer() {
            Ok(uid) if uid == own || uid == 0 => Ok(()),
            Ok(uid) => {
                let message = format!("this is the daemon of user {own}, and you are user {uid}");
                Err(Refusal::new(Reason::Foreign, message))
            }
            Err(error) => Err(Refusal::new(Reason::Foreign, error.to_string())),
        }
    }

    /// Says why not, for the last time.
    async fn refuse(&mut self, refusal: Refusal) -> io::Result<()> {
        tracing::warn!("refused a client: {}", refusal.message);
        let answer = message::packet(&Answer::Error(refusal));
        self.channel.send(&answer).await
    }

    async fn ended(&mut self, why: Ending) -> io::Result<()> {
        if self.runs.is_empty() && self.opened.is_empty() {
            return Ok(());
        }
        tracing::info!("what ran for a client is ended: {why:?}");
        let event = message::packet(&Answer::Event(Event::Ended { why }));
        let said = self.channel.send(&event).await;
        self.runs.clear();
        self.opened.clear();
        said
    }

    async fn answer(&mut self, packet: &mut Packet) -> Result<Value, Refusal> {
        whole(packet)?;
        let question = message::json_of::<Question>(packet)
            .map_err(|error| Refusal::malformed(error.to_string()))?;
        if question.version != message::VERSION {
            return Err(self.other_version());
        }
        let same = question.build == format!("{:016x}", self.daemon.identity.build);
        match question.request {
            Request::Status => Ok(json!(self.daemon.status())),
            Request::Stop { if_idle } => self.stop(if_idle).await,
            _ if !same => Err(self.other_version()),
            Request::Warm => {
                let variables = self.daemon.variables.clone();
                let recipe = self.recipe(0, &variables)?;
                self.daemon.refill(&recipe);
                Ok(json!({}))
            }
            Request::Open { inside } => {
                let variables = self.daemon.variables.clone();
                let recipe = self.recipe(inside, &variables)?;
                let tenancy = self.daemon.lend(&recipe, Use::Open)?;
                self.tell_downgrades(&tenancy, &recipe, true);
                self.daemon.refill(&recipe);
                let handle = tenancy.handle();
                self.opened.push((tenancy, recipe));
                Ok(json!({ "handle": handle }))
            }
            Request::Close { handle } => {
                self.opened
                    .retain(|(tenancy, _)| tenancy.handle() != handle);
                Ok(json!({}))
            }
            Request::Up { services } => self.up(&services).await,
            Request::Down { services } => {
                let names = names(&services)?;
                let slow = self.daemon.household.down(&names, PATIENCE).await?;
                let slow = slow.iter().map(|slow| {
                    json!({ "service": slow.service.as_str(), "reason": slow.reason, "ended": slow.ended })
                });
                Ok(json!({ "slow": slow.collect::<Vec<_>>() }))
            }
            Request::Ps => {
                let now = self.recipe(0, &self.daemon.variables.clone()).ok();
                Ok(json!(self.daemon.household.state(now.as_ref())?))
            }
            Request::Follow { services, lines } => self.follow(&services, lines).await,
            Request::Agent { method, arguments } => {
                let descriptors = std::mem::take(&mut packet.descriptors);
                let asked = Asked::new(method, arguments, descriptors)?;
                self.agent(asked).await
            }
            Request::Lease { time } => {
                let owner = packet.descriptors.pop();
                self.lease = Lease::new(time.map(Duration::from_millis), owner)
                    .map_err(|error| Refusal::malformed(format!("no owner: {error}")))?;
                Ok(json!({}))
            }
        }
    }

    /// Waits until services are up, and says meanwhile what becomes of them.
    async fn up(&mut self, services: &[String]) -> Result<Value, Refusal> {
        let names = names(services)?;
        let recipe = self.recipe(0, &self.daemon.variables.clone())?;
        self.daemon.household.bury().await;
        let services = self.daemon.household.services(&self.daemon, &recipe)?;
        self.daemon.watch(&services);
        let mut reports = services.reports();
        let up = services.up(&names);
        let mut up = std::pin::pin!(up);
        loop {
            tokio::select! {
                biased;
                report = reports.recv() => if let Ok(report) = report {
                    let event = Answer::Event(Event::Service {
                        service: report.service.as_str().to_owned(),
                        state: report.state.as_str().to_owned(),
                        reason: report.reason,
                    });
                    self.channel.try_send(&message::packet(&event));
                },
                result = &mut up => {
                    result.map_err(Failure::from)?;
                    return Ok(json!(self.daemon.household.state(Some(&recipe))?));
                }
                () = self.channel.hung_up() => {
                    return Err(Refusal::new(Reason::Gone, "nobody waits for it any more"));
                }
            }
        }
    }

    /// Has something done that has to do with lent environments, and says meanwhile how far it is.
    async fn agent(&mut self, asked: Asked) -> Result<Value, Refusal> {
        if self.daemon.is_stopping() {
            return Err(stopped());
        }
        let (listener, mut events) = Told::new();
        let work = self.daemon.lending.carry_out(asked, listener);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => {
                    self.channel.try_send(&message::packet(&Answer::Event(event)));
                }
                lent = &mut work => return Ok(json!(lent?)),
                () = self.channel.hung_up() => {
                    return Err(Refusal::new(Reason::Gone, "nobody waits for it any more"));
                }
                () = self.daemon.stop_begins() => return Err(stopped()),
            }
        }
    }

    /// Tells what services write until the client hangs up, or they are no more.
    async fn follow(&mut self, services: &[String], lines: usize) -> Result<Value, Refusal> {
        let Some(running) = self.daemon.household.started() else {
            return Err(Refusal::new(Reason::Gone, "no service was started"));
        };
        let all = running.status().into_iter().map(|status| status.name);
        let names = match services {
            [] => all.collect(),
            some => names(some)?,
        };
        let mut followed = FuturesUnordered::new();
        for name in names {
            let mut log = running.logs(&name).map_err(Failure::from)?;
            for line in log.skip_to_last(lines).unwrap_or_default() {
                let sent = self
                    .channel
                    .send(&message::packet(&told(&name, line)))
                    .await;
                sent.map_err(|error| Refusal::new(Reason::Gone, error.to_string()))?;
            }
            followed.push(next_line(name, log));
        }
        drop(running);
        loop {
            tokio::select! {
                line = followed.next() => match line {
                    Some((name, log, Some(line))) => {
                        let sent = self.channel.send(&message::packet(&told(&name, line))).await;
                        sent.map_err(|error| Refusal::new(Reason::Gone, error.to_string()))?;
                        followed.push(next_line(name, log));
                    }
                    Some((_, _, None)) => {}
                    None => return Ok(json!({})),
                },
                () = self.channel.hung_up() => {
                    return Err(Refusal::new(Reason::Gone, "nobody reads it any more"));
                }
            }
        }
    }

    async fn stop(&mut self, if_idle: bool) -> Result<Value, Refusal> {
        if if_idle && self.daemon.is_busy() {
            return Err(Refusal::new(Reason::Busy, "something runs in it"));
        }
        tracing::info!("asked to stop");
        self.daemon.begin_stop();
        self.daemon.end_all().await;
        Ok(json!({ "pid": self.daemon.identity.pid }))
    }

    fn other_version(&self) -> Refusal {
        let version = &self.daemon.identity.version;
        let message = format!("the daemon of this project is envd {version}");
        Refusal::new(Reason::OtherVersion, message)
    }

    /// How what is asked for is made.
    fn recipe(&self, inside: u32, variables: &HostVariables) -> Result<Rc<Recipe>, Refusal> {
        // Only who opens a shell has one opened.
        let inside = inside & !order::SHELL;
        self.recipe_of(Wish::of(inside, variables), variables)
    }

    fn recipe_of(&self, wish: Wish, variables: &HostVariables) -> Result<Rc<Recipe>, Refusal> {
        let unready = |message: String| Refusal::new(Reason::NotRealised, message);
        if self.daemon.is_stopping() {
            return Err(unready("the daemon is about to end".to_owned()));
        }
        // Whatever is wrong with the project's files, the client finds it, too, and says it as it always does.
        match self.daemon.recipes.get(&wish, variables) {
            Ok(Some(recipe)) => Ok(recipe),
            Ok(None) => Err(unready("the environment is not realised".to_owned())),
            Err(failure) => Err(unready(failure.message)),
        }
    }

    /// Starts a command, or has its client start it. Nothing here waits, but for the making of an environment where none is ready.
    fn run(&mut self, packet: &mut Packet) -> Result<Option<Entrance>, Refusal> {
        whole(packet)?;
        let (head, tail) = Head::parse(&packet.bytes)?;
        if ![self.daemon.identity.build, order::ANY_BUILD].contains(&head.build) {
            return Err(self.other_version());
        }
        let memory;
        let tail = match head.inside & order::IN_MEMORY {
            0 => tail,
            _ => {
                memory = handing::read_memory(packet.descriptors.pop(), order::TAIL as u64)
                    .map_err(|error| {
                        Refusal::malformed(format!("a command that is not in memory: {error}"))
                    })?;
                &memory
            }
        };
        let (extra, bytes) = head.split(tail)?;
        let command = Command::parse(bytes).map_err(|_| Malformed)?;
        let [input, output, error, connection] = &packet.descriptors[..] else {
            return Err(Refusal::malformed(
                "a command without standard descriptors and a connection",
            ));
        };
        let caller = handing::variables(&command);
        let recipe = match head.way {
            Way::Execute(handle) => self.opened(handle)?.1,
            Way::Run => self.recipe_of(Wish::of(head.inside, &caller), &caller)?,
            Way::Join => {
                let terminal = Terminal::of(input.as_fd(), &caller)
                    .ok_or_else(|| Refusal::malformed("a terminal to be joined with is none"))?;
                self.recipe_of(Wish::of(head.inside, &caller).on(terminal), &caller)?
            }
        };
        let handed = Handed {
            command: &command,
            recipe: &recipe,
            caller: &caller,
            extra: &extra,
        };
        let (connection, stdio) = (
            connection.as_fd(),
            [input.as_fd(), output.as_fd(), error.as_fd()],
        );
        match head.way {
            Way::Execute(handle) => {
                let command = handed.for_init()?;
                let (tenancy, _) = self.opened(handle)?;
                taken(
                    tenancy
                        .with(|environment| environment.execute(&command, stdio, connection, &[])),
                )?;
                Ok(None)
            }
            Way::Run => {
                let command = handed.for_init()?;
                let tenancy = self.fresh(&recipe, head.inside)?;
                let done = tenancy
                    .with(|environment| environment.execute(&command, stdio, connection, &[]));
                self.daemon.refill(&recipe);
                taken(done)?;
                Ok(None)
            }
            Way::Join => {
                let blueprint = &recipe.blueprint;
                let program = blueprint.joining().map_err(Failure::from)?;
                let namespaces = blueprint.namespaces();
                let answer = Joined {
                    program: program.bytes(),
                    request: &handed.for_caller()?,
                }
                .bytes();
                let tenancy = self.fresh(&recipe, head.inside)?;
                let done = tenancy.with(|environment| {
                    let end = environment.pidfd().try_clone_to_owned();
                    environment
                        .hand_namespaces(namespaces, connection)
                        .map(|()| end)
                });
                self.daemon.refill(&recipe);
                let end = taken(done)?
                    .map_err(|error| Refusal::new(Reason::Gone, format!("no pidfd: {error}")))?;
                Ok(Some(Entrance { answer, end }))
            }
        }
    }

    /// Gives a client what it needs to join an environment.
    async fn let_in(&self, entrance: &Entrance) -> io::Result<()> {
        let tag = order::JOINED.to_ne_bytes();
        if entrance.answer.len() <= order::INLINE {
            let packet = [&tag[..], &entrance.answer].concat();
            let end = [entrance.end.as_fd()];
            return self.channel.send_packet(&packet, &end).await;
        }
        let memory = handing::in_memory(&entrance.answer)?;
        let descriptors = [entrance.end.as_fd(), memory.as_fd()];
        self.channel.send_packet(&tag, &descriptors).await
    }

    /// An environment of one command's own.
    fn fresh(&mut self, recipe: &Rc<Recipe>, inside: u32) -> Result<&Tenancy, Refusal> {
        let tenancy = self.daemon.lend(recipe, Use::Run)?;
        let heard = inside & order::LISTENS != 0;
        if self.tell_downgrades(&tenancy, recipe, heard) > 0 && !heard {
            let message = "there is something to say before it runs";
            return Err(Refusal::new(Reason::Unheard, message));
        }
        Ok(push(&mut self.runs, tenancy))
    }

    fn opened(&self, handle: u64) -> Result<(&Tenancy, Rc<Recipe>), Refusal> {
        let mut opened = self.opened.iter();
        match opened.find(|(tenancy, _)| tenancy.handle() == handle) {
            Some((tenancy, recipe)) => Ok((tenancy, recipe.clone())),
            None => Err(Refusal::new(
                Reason::Gone,
                format!("there is no environment {handle}"),
            )),
        }
    }

    /// For untrusted work a wall less is news; for people's own it is what `envd doctor` is for. Says how many there are, and
    /// which, if that is heard.
    fn tell_downgrades(&self, tenancy: &Tenancy, recipe: &Recipe, heard: bool) -> usize {
        if !recipe.is_strict() {
            return 0;
        }
        let downgrades = tenancy.with(|environment| environment.downgrades());
        let downgrades = downgrades.unwrap_or_default();
        let count = downgrades.len();
        for message in downgrades.into_iter().filter(|_| heard) {
            let event = Answer::Event(Event::Downgrade { message });
            self.channel.try_send(&message::packet(&event));
        }
        count
    }
}

/// What a client needs to join an environment, beside what its PID 1 sends.
struct Entrance {
    /// See [`Joined`].
    answer: Vec<u8>,
    /// The environment's pidfd, which tells when nothing of it is left.
    end: OwnedFd,
}

/// What became of handing something over to an environment, if that was there still.
fn taken<T>(done: Option<Result<T, LaunchError>>) -> Result<T, Refusal> {
    match done {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => Err(Refusal::new(
            Reason::Gone,
            format!("the environment takes no command: {error}"),
        )),
        None => Err(Refusal::new(Reason::Gone, "the environment has ended")),
    }
}

fn stopped() -> Refusal {
    Refusal::new(Reason::Gone, "the daemon was stopped")
}

async fn next_line(name: Name, mut log: Following) -> (Name, Following, Option<Line>) {
    let line = log.next().await.unwrap_or_default();
    (name, log, line)
}

fn told(name: &Name, line: Line) -> Answer {
    Answer::Event(Event::Line {
        service: name.as_str().to_owned(),
        time: line.time,
        envd: line.origin == Origin::Envd,
        text: String::from_utf8_lossy(&line.text).into_owned(),
    })
}

fn names(services: &[String]) -> Result<Vec<Name>, Refusal> {
    let parse = |name: &String| name.parse::<Name>();
    let names = services.iter().map(parse).collect::<Result<_, _>>();
    names.map_err(|error| Failure::of(Kind::Usage, &error).into())
}

fn whole(packet: &Packet) -> Result<(), Refusal> {
    match packet.whole {
        true => Ok(()),
        false => Err(Refusal::malformed(format!(
            "a packet of more than {} bytes or with too many descriptors",
            super::packet::LONGEST
        ))),
    }
}

fn push(tenancies: &mut Vec<Tenancy>, tenancy: Tenancy) -> &Tenancy {
    let at = tenancies.len();
    tenancies.push(tenancy);
    &tenancies[at]
}
