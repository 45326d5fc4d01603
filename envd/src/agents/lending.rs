//! Creating environments, forking them, freezing their files and putting them back, ending them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use envd_agents::{
    changes::Base,
    policy::Effective,
    service::{
        Call, EnvironmentId, Failure, Listener, Owner, SnapshotId,
        environment::{
            Environment, EnvironmentCreate, EnvironmentDestroyed, EnvironmentFork,
            EnvironmentRestore, Environments, Limits, Network, Snapshot, Source,
        },
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    berth::Berth,
    blocking,
    blueprint::{Blueprint, Ground as Drawn},
    checkout::Checkout,
    failure,
    known::Wanted,
    layers::Frozen,
    limits,
    live::{Beginning, Ground, Lent, Live, Load, Over},
    quota, secrets, spare,
    taken::freeze,
    told::Told,
};
use crate::{
    cli::{self, operations::Operations as _},
    config::EnvironmentSection,
    environment::{Caller, Workplace, git::Linked},
    operations::Local,
    project::Project,
};

/// Most forks of one call.
const MOST_FORKS: u32 = 64;

/// What a request comes to when it has been judged.
struct Wish {
    from: Source,
    project: Option<PathBuf>,
    network: Network,
    policy: Arc<Effective>,
}

/// `environment_create`
pub(super) async fn create(
    shared: &Arc<Shared>,
    call: &Call,
    request: EnvironmentCreate,
) -> Result<Environment, Failure> {
    let (worker, listener) = (shared.clone(), call.listener.clone());
    let (from, project, network) = (request.from, request.project, request.network);
    let mut berth = Berth::take(shared)?;
    let asked = request.limits;
    let (wish, live, mut warnings) = blocking(move || {
        let project = project_of(&worker, &from, project.as_deref())?;
        let policy = worker
            .grants
            .policy_for(&worker.context, project.as_deref())?;
        policy.judge_source(&from)?;
        let wish = Wish {
            project,
            from,
            network: policy.judge_network(network)?,
            policy,
        };
        let ground = ground(&worker, &wish, &*listener)?;
        let (headers, not_had) = secrets::headers(&worker, &wish.policy, &wish.network);
        berth.headers = Arc::new(headers);
        let (allowed, mut warnings) = wish.policy.judge_limits(asked);
        warnings.extend(not_had);
        warnings.extend(limits::warnings(Some(&allowed), worker.controllers()));
        let settled = limits::settle(Some(allowed), worker.machine)?;
        let nothing = Frozen::default();
        let live = launch(
            &worker,
            ground,
            nothing,
            None,
            &wish.network,
            berth,
            settled,
        )?;
        Ok((wish, live, warnings))
    })
    .await?;
    let (lasts, cut) = wish.policy.judge_time_to_live(request.ttl_seconds);
    warnings.extend(cut);
    let downgrades = live
        .body
        .resident()
        .map_or(&[][..], |resident| resident.downgrades());
    warnings.extend(downgrades.iter().map(|downgrade| format!("{downgrade}")));
    let lent = lend(shared, live, |id, number, directory| Lent {
        id,
        owner: call.owner.clone(),
        number,
        name: request.name,
        from: wish.from,
        network: wish.network,
        directory,
        forked_from: None,
        policy: wish.policy,
        warnings,
        tally: Arc::default(),
        headers: Arc::default(),
        lasts: lasts.map(Duration::from_secs),
        expires: None,
        ending: CancellationToken::new(),
        live: Arc::default(),
    });
    describe(shared, &lent).await
}

/// The directory whose files are to be seen inside.
fn project_of(
    shared: &Shared,
    from: &Source,
    wished: Option<&str>,
) -> Result<Option<PathBuf>, Failure> {
    let context = &shared.context;
    if let Some(wished) = wished {
        return shared
            .grants
            .project(&context.directory.join(wished))
            .map(Some);
    }
    match context.project() {
        Ok(project) => Ok(Some(project.root)),
        Err(failure) if *from == Source::Project => Err(Failure::Invalid {
            field: "from".to_owned(),
            problem: failure.message,
            expected: "from = {\"packages\": [...]} for tools by name, or \"empty\"".to_owned(),
        }),
        Err(_) => {
            let caller = Caller::of_this_process(&context.variables);
            Ok(match Workplace::current(&context.directory, &caller.home) {
                Workplace::Bound(directory) => Some(directory),
                Workplace::Nothing => None,
            })
        }
    }
}

/// Realises what was asked for.
fn ground(shared: &Shared, wish: &Wish, listener: &dyn Listener) -> Result<Arc<Ground>, Failure> {
    let wanted = Wanted::now(&wish.from, wish.project.as_deref(), &wish.network);
    let known = shared.known.get(&wanted);
    if let (Some(known), Source::Project | Source::Empty) = (&known, &wish.from) {
        return Ok(known.clone());
    }
    let context = &shared.context;
    let told = |failure: cli::Failure| failure::of("from", &failure);
    let local = Local::new(context);
    let progress = Told(listener);
    let realised = match &wish.from {
        Source::Empty => None,
        Source::Packages(packages) => {
            let section = EnvironmentSection::one_off(packages.clone());
            let environment = local.realise_once(&section, &progress).map_err(told)?;
            Some((environment.view, section))
        }
        Source::Project => {
            let directory = wish.project.as_deref().unwrap_or(&context.directory);
            let project = Project::at(directory).map_err(|error| told(error.into()))?;
            let manifest = context.manifest(&project).map_err(told)?;
            let environment = local
                .realise(&project, &manifest, &progress)
                .map_err(told)?;
            Some((environment.view, manifest.environment))
        }
    };
    if let (Some(known), Some((view, _))) = (known, &realised)
        && known.blueprint.view() == view
    {
        // What packages come to may be decided anew.
        return Ok(known);
    }
    let project = wish.project.as_deref();
    let linked = wanted.linked.clone();
    let ground = stand_on(shared, realised, project, linked, &wish.network)?;
    let ground = Arc::new(ground);
    shared.known.put(wanted, &ground);
    Ok(ground)
}

/// What environments stand on, from a view that is there.
pub(super) fn stand_on(
    shared: &Shared,
    realised: Option<(PathBuf, EnvironmentSection)>,
    project: Option<&Path>,
    linked: Option<Linked>,
    network: &Network,
) -> Result<Ground, Failure> {
    let told = |failure: cli::Failure| failure::of("drawing the plan", &failure);
    let none = Default::default();
    let (view, section) = match realised {
        Some((view, section)) => (Some(view), Some(section)),
        None => (None, None),
    };
    let root = view
        .as_deref()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    let hold = match root.as_deref().and_then(|root| root.parse().ok()) {
        None => None,
        Some(tree) => {
            let hold = shared.place.store().hold(&tree);
            let hold = hold.map_err(|error| failure::internal("holding the view", &error))?;
            Some(hold.ok_or_else(|| {
                failure::without_cause("holding the view", "it was collected in this moment")
            })?)
        }
    };
    let blueprint = Blueprint::draw(Drawn {
        view: view.as_deref().unwrap_or(&shared.empty),
        project,
        linked,
        variables: section.as_ref().map_or(&none, |section| &section.variables),
        network,
        host_variables: &shared.context.variables,
    })
    .map_err(told)?;
    Ok(Ground {
        blueprint,
        root,
        section,
        _hold: hold,
    })
}

/// Launches an environment on its ground, over what was frozen.
pub(super) fn launch(
    shared: &Shared,
    ground: Arc<Ground>,
    frozen: Frozen,
    beginning: Option<Beginning>,
    network: &Network,
    berth: Berth,
    limits: Limits,
) -> Result<Live, Failure> {
    // Before the overlay is there: what the project changes from now on is news.
    let beginning = beginning.unwrap_or_else(|| Beginning {
        base: Base::now(),
        checkout: Checkout::of(ground.blueprint.targets().project),
    });
    let load = Load {
        ground,
        over: Over::Frozen(frozen),
        beginning,
        berth,
        limits,
    };
    Live::launch(shared, load, network)
}

fn expiry(lasts: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(lasts?)
}

/// Makes a live environment one of its owner's.
fn lend(
    shared: &Arc<Shared>,
    live: Live,
    make: impl FnOnce(EnvironmentId, u64, String) -> Lent,
) -> Arc<Lent> {
    let directory = live.parts.ground.blueprint.plan().command.directory.clone();
    let directory = directory.to_string_lossy().into_owned();
    // Where one is asked for, another is likely to be.
    let kind = (live.parts.ground.clone(), live.parts.limits.clone());
    let mut lent = make(EnvironmentId::random(), shared.count(), directory);
    lent.tally = live.parts.berth.tally.clone();
    lent.headers = live.parts.berth.headers.clone();
    lent.live = Arc::new(tokio::sync::RwLock::new(Some(live)));
    lent.expires = expiry(lent.lasts);
    let lent = Arc::new(lent);
    shared
        .all()
        .environments
        .insert(lent.id.clone(), lent.clone());
    shared.changed.notify_one();
    quota::watch(shared);
    spare::refill(shared, &kind.0, &kind.1);
    if let Some(expires) = lent.expires {
        let (weak, id) = (Arc::downgrade(shared), lent.id.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(expires.into()).await;
            let Some(shared) = weak.upgrade() else { return };
            let lent = shared.all().environments.remove(&id);
            if let Some(lent) = lent {
                end(&shared, &lent).await;
            }
            shared.changed.notify_one();
        });
    }
    lent
}

/// An environment as its owner is told of it.
pub(super) async fn describe(shared: &Shared, lent: &Lent) -> Result<Environment, Failure> {
    let (root, limits) = match &*lent.live.read().await {
        Some(live) => (live.parts.ground.root.clone(), live.parts.limits.clone()),
        None => return Err(Failure::no_such_environment(&lent.id)),
    };
    let running = shared
        .all()
        .commands
        .values()
        .filter(|command| command.environment == lent.id && command.is_running())
        .count();
    let left = |at: Instant| at.saturating_duration_since(Instant::now()).as_secs();
    Ok(Environment {
        environment: lent.id.clone(),
        name: lent.name.clone(),
        from: lent.from.clone(),
        root,
        directory: lent.directory.clone(),
        network: lent.network.clone(),
        limits,
        forked_from: lent.forked_from.clone(),
        expires_in_seconds: lent.expires.map(left),
        running_commands: running as u64,
        ports: shared.ports.of(&lent.id),
        secrets: lent.policy.secrets_for_commands(),
        warnings: lent.warnings.clone(),
    })
}

/// `environment_list`
pub(super) async fn list(shared: &Shared, owner: &Owner) -> Environments {
    let mut own: Vec<Arc<Lent>> = {
        let all = shared.all();
        let own = all
            .environments
            .values()
            .filter(|lent| lent.owner == *owner);
        own.cloned().collect()
    };
    own.sort_by_key(|lent| lent.number);
    let mut environments = Vec::new();
    for lent in own {
        // One that has just gone is none.
        environments.extend(describe(shared, &lent).await.ok());
    }
    let snapshots = {
        let all = shared.all();
        let own = all.snapshots.values().filter(|one| one.owner == *owner);
        let mut own: Vec<_> = own.cloned().collect();
        own.sort_by_key(|snapshot| snapshot.number);
        own.iter().map(|snapshot| snapshot.told()).collect()
    };
    Environments {
        environments,
        snapshots,
    }
}

/// Ends an environment that is in the list no more. How many commands were killed.
async fn end(shared: &Arc<Shared>, lent: &Arc<Lent>) -> u64 {
    let commands: Vec<_> = {
        let mut all = shared.all();
        let own = all
            .commands
            .extract_if(.., |_, command| command.environment == lent.id);
        own.map(|(_, command)| command).collect()
    };
    let killed = commands
        .iter()
        .filter(|command| command.is_running())
        .count();
    lent.ending.cancel();
    shared.ports.close(&lent.id).await;
    let live = lent.live.write().await.take();
    let ended = blocking(move || {
        drop(live);
        Ok(())
    });
    if let Err(failure) = ended.await {
        tracing::warn!(%failure, "an environment did not end");
    }
    killed as u64
}

/// `environment_destroy`
pub(super) async fn destroy(
    shared: &Arc<Shared>,
    owner: &Owner,
    id: &EnvironmentId,
) -> Result<EnvironmentDestroyed, Failure> {
    let lent = shared.environment(owner, id)?;
    lent.ending.cancel();
    let discarded = super::project::count(&lent).await;
    if shared.all().environments.remove(id).is_none() {
        return Err(Failure::no_such_environment(id));
    }
    let killed = end(shared, &lent).await;
    shared.changed.notify_one();
    Ok(EnvironmentDestroyed {
        environment: id.clone(),
        killed_commands: killed,
        discarded_changes: discarded,
    })
}

/// Ends all that was lent to an owner.
pub(super) async fn release(shared: &Arc<Shared>, owner: &Owner) {
    let own: Vec<_> = {
        let mut all = shared.all();
        all.snapshots.retain(|_, snapshot| snapshot.owner != *owner);
        let own = all
            .environments
            .extract_if(.., |_, lent| lent.owner == *owner);
        own.map(|(_, lent)| lent).collect()
    };
    for lent in own {
        end(shared, &lent).await;
    }
    shared.changed.notify_one();
}

/// `environment_fork`
pub(super) async fn fork(
    shared: &Arc<Shared>,
    owner: &Owner,
    request: EnvironmentFork,
) -> Result<Environments, Failure> {
    let origin = shared.environment(owner, &request.environment)?;
    if !(1..=MOST_FORKS).contains(&request.count) {
        return Err(Failure::Invalid {
            field: "count".to_owned(),
            problem: format!("{} forks", request.count),
            expected: format!("a count from 1 to {MOST_FORKS}"),
        });
    }
    let berths: Vec<_> = (0..request.count)
        .map(|_| Berth::like(shared, &origin.headers))
        .collect::<Result<_, _>>()?;
    let forks = freeze(shared, &origin, move |shared, network, taken| {
        let berths = berths.into_iter();
        let forks = berths.map(|berth| taken.launch(shared, network, berth));
        forks.collect::<Result<Vec<_>, _>>()
    })
    .await?;
    let mut environments = Vec::new();
    for (number, live) in (1..).zip(forks) {
        let name = request.name.as_ref().map(|name| match request.count {
            1 => name.clone(),
            _ => format!("{name}-{number}"),
        });
        let lent = again(shared, &origin, live, name, request.ttl_seconds);
        environments.push(describe(shared, &lent).await?);
    }
    Ok(Environments {
        environments,
        snapshots: Vec::new(),
    })
}

/// One more like another.
fn again(
    shared: &Arc<Shared>,
    origin: &Lent,
    live: Live,
    name: Option<String>,
    seconds: Option<u64>,
) -> Arc<Lent> {
    let (lasts, cut) = origin.policy.judge_time_to_live(seconds);
    let warnings = origin.warnings.iter().cloned().chain(cut).collect();
    lend(shared, live, |id, number, directory| Lent {
        id,
        owner: origin.owner.clone(),
        number,
        name,
        from: origin.from.clone(),
        network: origin.network.clone(),
        directory,
        forked_from: Some(origin.id.clone()),
        policy: origin.policy.clone(),
        warnings,
        tally: Arc::default(),
        headers: Arc::default(),
        lasts: lasts.map(Duration::from_secs),
        expires: None,
        ending: CancellationToken::new(),
        live: Arc::default(),
    })
}

/// `environment_snapshot`
pub(super) async fn snapshot(
    shared: &Arc<Shared>,
    owner: &Owner,
    id: &EnvironmentId,
    name: Option<String>,
) -> Result<Snapshot, Failure> {
    let lent = shared.environment(owner, id)?;
    let taken = freeze(shared, &lent, |_, _, taken| Ok(taken)).await?;
    let changes = super::project::count(&lent).await;
    let expires = expiry(lent.lasts);
    let snapshot = Arc::new(super::Snapshot {
        id: SnapshotId::random(),
        owner: owner.clone(),
        number: shared.count(),
        name,
        changes,
        environment: lent,
        taken,
    });
    let answer = snapshot.told();
    if let Some(expires) = expires {
        // As long as a new environment of its kind would last.
        let (weak, id) = (Arc::downgrade(shared), snapshot.id.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(expires.into()).await;
            if let Some(shared) = weak.upgrade() {
                let _ = forget(&shared, None, &id).await;
            }
        });
    }
    shared.all().snapshots.insert(snapshot.id.clone(), snapshot);
    Ok(answer)
}

/// Lets go of a snapshot, of this owner if one is named, and of its files where nobody else has them.
pub(super) async fn forget(
    shared: &Arc<Shared>,
    owner: Option<&Owner>,
    id: &SnapshotId,
) -> Result<(), Failure> {
    if let Some(owner) = owner {
        shared.snapshot(owner, id)?;
    }
    let snapshot = shared.all().snapshots.remove(id);
    let dropped = blocking(move || {
        drop(snapshot);
        Ok(())
    });
    dropped.await?;
    shared.changed.notify_one();
    Ok(())
}

/// `environment_restore`
pub(super) async fn restore(
    shared: &Arc<Shared>,
    owner: &Owner,
    request: EnvironmentRestore,
) -> Result<Environment, Failure> {
    let snapshot = shared.snapshot(owner, &request.snapshot)?;
    let origin = snapshot.environment.clone();
    let worker = shared.clone();
    let relaunch = move |snapshot: &super::Snapshot, berth| {
        let network = &snapshot.environment.network;
        snapshot.taken.launch(&worker, network, berth)
    };
    if request.as_new {
        let berth = Berth::like(shared, &origin.headers)?;
        let live = blocking(move || relaunch(&snapshot, berth)).await?;
        let lasts = origin.lasts.map(|lasts| lasts.as_secs());
        let lent = again(shared, &origin, live, request.name, lasts);
        return describe(shared, &lent).await;
    }
    let lent = shared.environment(owner, &origin.id)?;
    let mut slot = lent.live.clone().write_owned().await;
    blocking(move || {
        let Some(live) = &mut *slot else {
            return Err(Failure::no_such_environment(&snapshot.environment.id));
        };
        let berth = live.parts.berth.without_room();
        let mut fresh = relaunch(&snapshot, berth)?;
        fresh.parts.berth.room = live.parts.berth.room.take();
        *slot = Some(fresh);
        Ok(())
    })
    .await?;
    describe(shared, &lent).await
}
