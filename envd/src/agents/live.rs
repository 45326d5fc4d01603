//! One lent environment: what it is made of, and the processes in it.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use envd_agents::{
    audit::Tally,
    changes::{
        Base,
        protected::{Judged, Protected, Rule},
    },
    egress::{Allowlist, Egress, Event, Limits, SecretHeader},
    policy::Effective,
    service::{
        EnvironmentId, Failure, Owner,
        environment::{self, Network, Source},
    },
};
use envd_shims::{
    LaunchError, Resident,
    cgroup::{Controller, Group},
    plan::Limit,
};
use envd_store::Hold;
use rustix::event::{PollFd, PollFlags, poll};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    berth::Berth,
    blueprint::Blueprint,
    checkout::Checkout,
    failure,
    inside::Inside,
    layers::{Frozen, Layers},
    quota::Meter,
    secrets,
    spare::{Prepared, Ready, Unfinished},
};
use crate::config::EnvironmentSection;

/// So often packages are added to one: what was seen before stays mounted below.
const MOST_GROUNDS: usize = 64;

/// What all forks of an environment have in common.
#[derive(Debug)]
pub(super) struct Ground {
    /// How it is launched.
    pub(super) blueprint: Blueprint,
    /// Digest of its root.
    pub(super) root: Option<String>,
    /// What it was realised from, to add packages to.
    pub(super) section: Option<EnvironmentSection>,
    /// Keeps its view from gc.
    pub(super) _hold: Option<Hold>,
}

/// What is left of an environment when its processes are gone.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) ground: Arc<Ground>,
    pub(super) layers: Layers,
    pub(super) beginning: Beginning,
    pub(super) berth: Berth,
    pub(super) limits: environment::Limits,
}

impl Parts {
    /// To launch it again with.
    pub(super) fn load(self, over: impl FnOnce(Layers) -> Over) -> Load {
        let Self {
            ground,
            layers,
            beginning,
            berth,
            limits,
        } = self;
        Load {
            ground,
            over: over(layers),
            beginning,
            berth,
            limits,
        }
    }
}

/// What its project was when it began.
#[derive(Clone, Debug)]
pub(super) struct Beginning {
    /// When that was.
    pub(super) base: Base,
    /// The commit that was checked out.
    pub(super) checkout: Checkout,
}

/// An environment in which commands can be run.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) body: Body,
    /// Its root, to look at files as they are inside.
    pub(super) root: Arc<OwnedFd>,
    _proxy: Option<Proxy>,
    /// What it takes of the machine.
    pub(super) meter: Arc<Meter>,
    /// After the body: it can be taken away when nobody is in it.
    pub(super) group: Option<Arc<Group>>,
    /// Whether that has the memory controller.
    holds_memory: bool,
    /// Limits that each command gets (setrlimit(2)).
    pub(super) rlimits: BTreeMap<Limit, u64>,
    /// After the body: nothing may have the layers mounted when they go.
    pub(super) parts: Parts,
    /// What else it stands on, which what runs inside may still use: what it had before packages were added.
    before: Vec<Arc<Ground>>,
}

/// Its PID 1. When this is dropped, every process inside is gone.
#[derive(Debug)]
pub(super) struct Body(Option<Resident>);

impl Body {
    pub(super) fn resident(&self) -> Option<&Resident> {
        self.0.as_ref()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(resident) = self.0.take() {
            put_an_end(resident.pidfd());
        }
    }
}

/// Ends a PID 1 and all that is inside, and waits until it is gone.
pub(super) fn put_an_end(pidfd: BorrowedFd<'_>) {
    // Not by closing its connection alone: it may wait for a child that somebody inside has stopped.
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    // The kernel kills all that is inside; nothing in there can hold that up.
    while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None) {
    }
}

/// What an environment is launched over.
#[derive(Debug)]
pub(super) enum Over {
    /// What was frozen; nothing, for a new one.
    Frozen(Frozen),
    /// What it had written to when it ran before.
    Own(Box<Layers>),
}

/// What an environment is launched with beside what it stands on.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) ground: Arc<Ground>,
    pub(super) over: Over,
    pub(super) beginning: Beginning,
    pub(super) berth: Berth,
    pub(super) limits: environment::Limits,
}

/// The way out of an environment, which ends when this is dropped.
#[derive(Debug)]
struct Proxy(CancellationToken);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Live {
    /// Launches one: one that was made ahead, where there is one of its kind. Blocks; in a thread of a runtime, which is to serve
    /// its way out.
    pub(super) fn launch(shared: &Shared, load: Load, network: &Network) -> Result<Self, Failure> {
        let Load {
            ground,
            over,
            beginning,
            berth,
            limits,
        } = load;
        let step = "launching the environment";
        let make = |frozen| Prepared::make(shared, &ground, &limits, frozen, None);
        let anew = |over| {
            let _launching = shared.spare.launching();
            let (prepared, over) = match over {
                Over::Frozen(frozen) => (make(frozen)?, None),
                own => (make(Frozen::default())?, Some(own)),
            };
            let ready = prepared.finish(shared, over);
            ready.map_err(|unfinished| unfinished.failure)
        };
        let ready = match shared.spare.take(&ground, &limits, &over) {
            None => anew(over)?,
            Some(spare) => match spare.finish(shared, Some(over)) {
                Ok(ready) => ready,
                Err(unfinished) => {
                    let Unfinished { failure, over } = *unfinished;
                    tracing::warn!(%failure, "what was made ahead is of no use");
                    anew(over.ok_or(failure)?)?
                }
            },
        };
        let Ready {
            mut resident,
            rlimits,
            group,
            layers,
        } = ready;
        let root = resident.take_root();
        let listening = resident.take_listening();
        let body = Body(Some(resident));
        let root =
            root.ok_or_else(|| failure::without_cause(step, "its root was not handed out"))?;
        let parts = Parts {
            ground,
            layers,
            beginning,
            berth,
            limits,
        };
        let mut live = Self {
            body,
            root: Arc::new(root),
            _proxy: None,
            meter: Arc::default(),
            group: group.map(Arc::new),
            holds_memory: shared.controllers().contains(&Controller::Memory),
            rlimits,
            parts,
            before: Vec::new(),
        };
        if let (Network::Allow(names), Some(socket)) = (network, listening) {
            live._proxy = Some(serve(names, socket, &live.parts.berth)?);
        }
        Ok(live)
    }

    /// Has it stand on another ground with the same layers. What runs inside goes on, and finds from here on what that has.
    pub(super) fn stand_on(&mut self, shared: &Shared, ground: Arc<Ground>) -> Result<(), Failure> {
        let step = "adding to the environment";
        let failed = |error: &LaunchError| failure::internal(step, error);
        if self.before.len() >= MOST_GROUNDS {
            return Err(Failure::LimitReached {
                limit: "additions of packages to one environment".to_owned(),
                value: format!("{MOST_GROUNDS}; create one with all of them, or fork it"),
            });
        }
        let resident = self.body.resident();
        let resident = resident.ok_or_else(|| failure::without_cause(step, "it has ended"))?;
        let before = &self.parts.ground.blueprint;
        let amendment = ground.blueprint.amendment(before).map_err(|e| failed(&e))?;
        let namespaces = resident.namespaces().map_err(|e| failed(&e))?;
        let launcher = &shared.launcher;
        let launcher = launcher.lock().unwrap_or_else(PoisonError::into_inner);
        let amended = launcher.amend(&amendment, &namespaces);
        drop(launcher);
        if let Err(error) = amended {
            // Where that failed halfway, parts of it are seen.
            self.before.push(ground);
            return Err(failed(&error));
        }
        let before = std::mem::replace(&mut self.parts.ground, ground);
        self.before.push(before);
        Ok(())
    }

    /// Ends its processes.
    pub(super) fn end(self) -> Parts {
        let Self { body, parts, .. } = self;
        drop(body);
        parts
    }

    /// Whether a control group holds its memory.
    pub(super) fn has_memory_group(&self) -> bool {
        self.holds_memory && self.group.is_some()
    }

    /// Whether anything runs inside.
    pub(super) fn is_busy(&self) -> bool {
        Inside::new(&self.root).processes() > 1
    }
}

/// Serves the way out to these names.
fn serve(names: &[String], socket: OwnedFd, berth: &Berth) -> Result<Proxy, Failure> {
    let list = Allowlist::parse(names.iter().map(String::as_str))
        .map_err(|error| failure::internal("reading the list of names", &error))?;
    let tally = berth.tally.clone();
    let reporter = move |event: Event| {
        tally.note(&event);
        tracing::debug!(?event, "egress");
    };
    let mut proxy = Egress::new(Arc::new(list), Arc::new(reporter), Limits::default());
    if !berth.headers.is_empty() {
        proxy = proxy.secrets(berth.headers.to_vec());
        if let Some(tls) = secrets::tls() {
            proxy = proxy.tls(tls);
        }
    }
    let cancellation = CancellationToken::new();
    let serving = proxy.serve(TcpListener::from(socket), cancellation.clone());
    tokio::runtime::Handle::current().spawn(serving);
    Ok(Proxy(cancellation))
}

impl Lent {
    /// What of its project may not be changed.
    pub(super) fn protected(&self) -> Protected {
        let mut protected = Protected::default();
        for said in &self.policy.protect {
            protected.rules.push(Rule {
                name: "policy".to_owned(),
                reason: format!("`protect` of [agent] names it ({})", said.origin),
                judged: Judged::Always,
                paths: vec![said.value.clone()],
            });
        }
        protected
    }
}

/// An environment as its owner knows it.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) id: EnvironmentId,
    pub(super) owner: Owner,
    /// Counts environments, so that lists are in order.
    pub(super) number: u64,
    pub(super) name: Option<String>,
    pub(super) from: Source,
    pub(super) network: Network,
    pub(super) directory: String,
    pub(super) forked_from: Option<EnvironmentId>,
    /// What holds for it.
    pub(super) policy: Arc<Effective>,
    pub(super) warnings: Vec<String>,
    /// What its proxy refused.
    pub(super) tally: Arc<Tally>,
    /// What its proxy puts into requests.
    pub(super) headers: Arc<Vec<SecretHeader>>,
    /// How long it was lent for.
    pub(super) lasts: Option<Duration>,
    pub(super) expires: Option<Instant>,
    /// Cancelled before it is ended: what waits for its PID 1, which somebody inside may hold up, waits no more.
    pub(super) ending: CancellationToken,
    /// Commands and looks at files share it; what launches it anew has it alone. `None` once it is gone.
    pub(super) live: Arc<tokio::sync::RwLock<Option<Live>>>,
}
