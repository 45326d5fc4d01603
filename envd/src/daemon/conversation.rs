//! What is said on one client's connection. When it ends, so does everything that runs for the client.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    time::Duration,
};

use envd_init::request::Request as Command;
use serde_json::{Value, json};

use super::{
    channel::Channel,
    handing,
    lease::Lease,
    message::{self, Answer, Ending, Event, Question, Reason, Refusal, Request},
    order::{self, Head, Malformed},
    packet::Packet,
    recipe::{Recipe, Wish},
    server::{Daemon, Guest, Tenancy, Use},
};
use crate::settings::HostVariables;

/// Serves one client until either is done with the other.
pub async fn converse(guest: Guest, channel: Channel) {
    let mut conversation = Conversation {
        daemon: guest.daemon.clone(),
        channel,
        lease: Lease::default(),
        runs: Vec::new(),
        opened: Vec::new(),
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
            let Some(packet) = packet else {
                return Ok(());
            };
            let done = match order::is_order(&packet.bytes) {
                true => self.run(packet).map(|()| None),
                false => self.answer(packet).await.map(Some),
            };
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

    async fn answer(&mut self, mut packet: Packet) -> Result<Value, Refusal> {
        let question = whole(&packet).and_then(|()| {
            message::json::<Question>(&packet.bytes)
                .ok_or_else(|| Refusal::malformed("a packet of an unknown kind"))?
                .map_err(|error| Refusal::malformed(format!("no question: {error}")))
        })?;
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
                self.tell_downgrades(&tenancy, &recipe);
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
            Request::Lease { time } => {
                let owner = packet.descriptors.pop();
                self.lease = Lease::new(time.map(Duration::from_millis), owner)
                    .map_err(|error| Refusal::malformed(format!("no owner: {error}")))?;
                Ok(json!({}))
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
        let unready = |message: String| Refusal::new(Reason::NotRealised, message);
        if self.daemon.is_stopping() {
            return Err(unready("the daemon is about to end".to_owned()));
        }
        let wish = Wish::of(inside, variables);
        // Whatever is wrong with the project's files, the client finds it, too, and says it as it always does.
        match self.daemon.recipes.get(&wish, variables) {
            Ok(Some(recipe)) => Ok(recipe),
            Ok(None) => Err(unready("the environment is not realised".to_owned())),
            Err(failure) => Err(unready(failure.message)),
        }
    }

    /// Starts a command. Nothing here waits, but for the making of an environment where none is ready.
    fn run(&mut self, mut packet: Packet) -> Result<(), Refusal> {
        whole(&packet)?;
        let (head, tail) = Head::parse(&packet.bytes)?;
        if head.build != self.daemon.identity.build {
            return Err(self.other_version());
        }
        let memory;
        let tail = match head.inside & order::IN_MEMORY {
            0 => tail,
            _ => {
                memory = handing::read_memory(packet.descriptors.pop()).map_err(|error| {
                    Refusal::malformed(format!("a command that is not in memory: {error}"))
                })?;
                &memory
            }
        };
        let (extra, bytes) = head.split(tail)?;
        let command = Command::parse(bytes).map_err(|_| Malformed)?;
        let descriptors = <[OwnedFd; 4]>::try_from(packet.descriptors).map_err(|_| {
            Refusal::malformed("a command without standard descriptors and a connection")
        })?;
        let caller = handing::variables(&command);
        let fresh = head.handle.is_none();
        let (tenancy, recipe) = match head.handle {
            Some(handle) => self.opened(handle)?,
            None => {
                let recipe = self.recipe(head.inside, &caller)?;
                let tenancy = self.daemon.lend(&recipe, Use::Run)?;
                self.tell_downgrades(&tenancy, &recipe);
                (&*push(&mut self.runs, tenancy), recipe)
            }
        };
        let command = handing::adapt(&command, &recipe, &caller, &extra);
        let [input, output, error, connection] = &descriptors;
        let stdio = [input.as_fd(), output.as_fd(), error.as_fd()];
        let handed =
            tenancy.with(|environment| environment.execute(&command, stdio, connection.as_fd()));
        if fresh {
            self.daemon.refill(&recipe);
        }
        match handed {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(Refusal::new(
                Reason::Gone,
                format!("the environment takes no command: {error}"),
            )),
            None => Err(Refusal::new(Reason::Gone, "the environment has ended")),
        }
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

    /// For untrusted work a wall less is news; for people's own it is what `envd doctor` is for.
    fn tell_downgrades(&self, tenancy: &Tenancy, recipe: &Recipe) {
        if !recipe.is_strict() {
            return;
        }
        let downgrades = tenancy.with(|environment| environment.downgrades());
        for message in downgrades.unwrap_or_default() {
            let event = Answer::Event(Event::Downgrade { message });
            self.channel.try_send(&message::packet(&event));
        }
    }
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
