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
    live::Lent,
    told::Told,
};
use crate::{
    cli::{self, operations::Operations as _, search::Request},
    config::EnvironmentSection,
    operations::Local,
};

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

/// `package_add`: what it had and what is asked for, resolved together, and seen from then on by all that runs inside.
pub(super) async fn add(
    shared: &Arc<Shared>,
    call: &Call,
    request: PackageAdd,
) -> Result<PackagesAdded, Failure> {
    let lent = shared.environment(&call.owner, &request.environment)?;
    lent.policy.judge_packages()?;
    // Again where somebody else has added others meanwhile.
    while !add_to(shared, call, &lent, &request.packages).await? {}
    Ok(PackagesAdded {
        added: request.packages,
        environment: lending::describe(shared, &lent).await?,
    })
}

/// Whether what it had when this began is what it had at the end.
async fn add_to(
    shared: &Arc<Shared>,
    call: &Call,
    lent: &Arc<Lent>,
    packages: &[String],
) -> Result<bool, Failure> {
    // Resolving and fetching takes its time, in which everything else goes on.
    let ground = match &*lent.live.read().await {
        Some(live) => live.parts.ground.clone(),
        None => return Err(Failure::no_such_environment(&lent.id)),
    };
    let (worker, listener) = (shared.clone(), call.listener.clone());
    let (before, same, packages) = (ground.clone(), lent.clone(), packages.to_vec());
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
    let fresh = Arc::new(fresh.await?);
    let mut slot = lent.live.clone().write_owned().await;
    let (worker, same) = (shared.clone(), lent.clone());
    blocking(move || {
        let Some(live) = &mut *slot else {
            return Err(Failure::no_such_environment(&same.id));
        };
        if !Arc::ptr_eq(&live.parts.ground, &ground) {
            return Ok(false);
        }
        live.stand_on(&worker, fresh).map(|()| true)
    })
    .await
}
