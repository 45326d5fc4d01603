//! Finding packages, and giving a live environment more of them.

use std::sync::Arc;

use envd_agents::service::{
    Call, Failure,
    package::{Package, PackageAdd, PackageSearch, Packages, PackagesAdded},
};
use toml::Spanned;

use super::{
    Shared, blocking, failure,
    lending::{self, stand_on},
    live::{Lent, Live, Over},
    told::Told,
};
use crate::{
    cli::{self, operations::Operations as _, search::Request},
    config::EnvironmentSection,
    operations::Local,
};

/// What is refused while something runs inside: another root is another mount namespace, into which no running process can be
/// brought, and two of them over the same upper directories are none that overlayfs allows.
fn busy(shared: &Shared, lent: &Lent) -> Failure {
    let running: Vec<String> = shared
        .all()
        .commands
        .values()
        .filter(|command| command.environment == lent.id && command.is_running())
        .map(|command| format!("{} ({})", command.title, command.id))
        .collect();
    let who = match &running[..] {
        [] => "processes that ended commands left in the background".to_owned(),
        running => running.join(", "),
    };
    Failure::Unsupported {
        what: format!("add packages to an environment while processes run in it: {who}"),
        fix: "Wait for them or end them (command_signal with KILL takes all descendants along; left processes: run `kill`), then \
              call again. Or fork it (environment_fork works while it runs) and add the packages to the fork, in which nothing \
              runs."
            .to_owned(),
    }
}

/// `package_search`
pub(super) async fn search(
    shared: &Arc<Shared>,
    call: &Call,
    request: PackageSearch,
) -> Result<Packages, Failure> {
    let (shared, listener) = (shared.clone(), call.listener.clone());
    blocking(move || {
        let told = |failure: cli::Failure| failure::of("query", &failure);
        let context = &shared.context;
        let section = match context.project_if_any().map_err(told)? {
            Some((_, manifest)) => manifest.environment,
            None => EnvironmentSection::one_off(Vec::new()),
        };
        let limit = request.limit as usize;
        let channels = section.channels.into_iter();
        let wanted = Request {
            words: request
                .query
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            channels: channels.map(Spanned::into_inner).collect(),
            limit: limit.saturating_add(1),
        };
        let mut hits = Local::new(context)
            .search(&wanted, &Told(&*listener))
            .map_err(told)?;
        let more = hits.len() > limit;
        hits.truncate(limit);
        let packages = hits.into_iter().filter_map(|hit| {
            let offer = hit.versions.into_iter().next()?;
            Some(Package {
                name: hit.name,
                version: offer.version,
                channel: offer.channel.to_string(),
                summary: hit.description,
            })
        });
        Ok(Packages {
            packages: packages.collect(),
            more,
        })
    })
    .await
}

/// `package_add`: what it had and what is asked for, resolved together; launched again over the files that were written.
pub(super) async fn add(
    shared: &Arc<Shared>,
    call: &Call,
    request: PackageAdd,
) -> Result<PackagesAdded, Failure> {
    let lent = shared.environment(&call.owner, &request.environment)?;
    lent.policy.judge_packages()?;
    let (worker, listener) = (shared.clone(), call.listener.clone());
    let packages = request.packages.clone();
    // Resolving and fetching takes its time, in which everything else goes on.
    let (ground, fresh) = {
        let live = lent.live.clone().read_owned().await;
        let Some(live) = &*live else {
            return Err(Failure::no_such_environment(&lent.id));
        };
        if live.is_busy() {
            return Err(busy(shared, &lent));
        }
        let (ground, same) = (live.parts.ground.clone(), lent.clone());
        let before = ground.clone();
        let fresh = blocking(move || {
            let told = |failure: cli::Failure| failure::of("packages", &failure);
            let none = || EnvironmentSection::one_off(Vec::new());
            let mut section = before.section.clone().unwrap_or_else(none);
            let more = packages.into_iter();
            section
                .packages
                .extend(more.map(|package| Spanned::new(0..0, package)));
            let environment = Local::new(&worker.context)
                .realise_once(&section, &Told(&*listener))
                .map_err(told)?;
            let project = before.blueprint.targets().project;
            // Its layers stay where they are.
            let linked = before.blueprint.linked().cloned();
            let realised = Some((environment.view, section));
            stand_on(&worker, realised, project, linked, &same.network)
        });
        (ground, Arc::new(fresh.await?))
    };
    let mut slot = lent.live.clone().write_owned().await;
    let (worker, same) = (shared.clone(), lent.clone());
    blocking(move || {
        let Some(live) = slot.take() else {
            return Err(Failure::no_such_environment(&same.id));
        };
        let moved = !Arc::ptr_eq(&live.parts.ground, &ground);
        if moved || live.is_busy() {
            *slot = Some(live);
            return Err(busy(&worker, &same));
        }
        let mut parts = live.end();
        parts.ground = fresh;
        *slot = Some(Live::launch(
            &worker,
            parts.load(|layers| Over::Own(Box::new(layers))),
            &same.network,
        )?);
        Ok(())
    })
    .await?;
    Ok(PackagesAdded {
        added: request.packages,
        environment: lending::describe(shared, &lent).await?,
    })
}
