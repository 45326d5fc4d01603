//! The channels' indexes: opened from the cache or fetched, searched, and put before the solver.

use std::time::Duration;

use super::{Local, block_on};
use crate::{
    cli::{Failure, search},
    config::AcceptExpired,
    progress::{Phase, Progress},
    provider::{
        Channel,
        debian::{
            archive::{Archive, ChannelIndexes},
            index::{self, Record},
            release::Moment,
            search as find,
        },
    },
    resolve::{Candidate, MultiArch, Priority, Universe},
};

/// Indexes that were compared with the archive this recently are taken as they are.
const FRESH: Duration = Duration::from_secs(3600);

/// How new the indexes must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Whatever is cached.
    Cached,
    /// Compared with the archive within the hour.
    Recent,
    /// Compared with the archive now.
    Now,
}

/// The indexes of the channels, in their order.
pub(super) fn open(
    local: &Local,
    archive: &Archive,
    channels: &[Channel],
    accept: &AcceptExpired,
    freshness: Freshness,
    progress: &dyn Progress,
) -> Result<Vec<ChannelIndexes>, Failure> {
    let cache = local.store()?.path("indexes");
    let now = Moment::from(local.now);
    let mut opened = Vec::with_capacity(channels.len());
    let mut stale = Vec::new();
    for channel in channels {
        let cached = archive
            .open_cached(channel, &cache)
            .filter(|cached| match freshness {
                _ if local.settings.offline || channel.snapshot.is_some() => true,
                Freshness::Cached => true,
                Freshness::Recent => cached.refreshed.plus(FRESH) > now,
                Freshness::Now => false,
            });
        if let Some(cached) = &cached {
            cached
                .check_validity(now, accepts(accept, channel))
                .map_err(|e| Failure::of(crate::cli::Kind::Integrity, &e))?;
        }
        if cached.is_none() {
            stale.push(channel);
        }
        opened.push(cached);
    }
    if !stale.is_empty() {
        let fetcher = local.fetcher();
        progress.started(Phase::Index, 0);
        let fetched = block_on(async {
            let refreshing = stale.iter().map(|channel| {
                archive.refresh(
                    channel,
                    &fetcher,
                    &cache,
                    now,
                    accepts(accept, channel),
                    progress,
                )
            });
            futures_util::future::try_join_all(refreshing).await
        })??;
        progress.finished(Phase::Index);
        let mut fetched = fetched.into_iter();
        for slot in opened.iter_mut().filter(|slot| slot.is_none()) {
            *slot = fetched.next();
        }
    }
    Ok(opened.into_iter().flatten().collect())
}

fn accepts(accept: &AcceptExpired, channel: &Channel) -> bool {
    accept.accepts(&channel.suite)
}

/// `envd search`.
pub(super) fn search(
    local: &Local,
    request: &search::Request,
    progress: &dyn Progress,
) -> Result<Vec<search::Hit>, Failure> {
    let archive = local.archive()?;
    // Looking is harmless: an expired index is good enough for it.
    let channels = open(
        local,
        &archive,
        &request.channels,
        &AcceptExpired::All,
        Freshness::Cached,
        progress,
    )?;
    let mut owners = Vec::new();
    let mut indexes = Vec::new();
    for channel in &channels {
        for index in channel.indexes() {
            owners.push(&channel.channel);
            indexes.push(index);
        }
    }
    let mut hits = Vec::new();
    for hit in find::search(&indexes, &request.words.join(" "))?
        .into_iter()
        .take(request.limit)
    {
        let mut versions: Vec<search::Offer> = Vec::new();
        let mut description = String::new();
        for (place, id) in hit.found {
            let record = indexes[place].record(id)?;
            if description.is_empty() {
                description = record.description().to_owned();
            }
            let offer = search::Offer {
                channel: owners[place].clone(),
                version: record.version().to_owned(),
            };
            match versions
                .iter_mut()
                .find(|known| known.channel == offer.channel)
            {
                // A channel's suites follow each other: the newest version is what it offers.
                Some(known) if newer(&offer.version, &known.version) => *known = offer,
                Some(_) => {}
                None => versions.push(offer),
            }
        }
        hits.push(search::Hit {
            name: hit.name,
            description,
            versions,
        });
    }
    Ok(hits)
}

fn newer(version: &str, than: &str) -> bool {
    use crate::provider::debian::version::Version;
    match (Version::parse(version), Version::parse(than)) {
        (Ok(version), Ok(than)) => version > than,
        _ => false,
    }
}

/// Opened channels as the solver sees them.
pub(super) struct Opened<'a>(pub &'a [ChannelIndexes]);

impl Opened<'_> {
    fn each<'u>(
        &'u self,
        mut look: impl FnMut(usize, usize, &'u index::Index) -> Result<(), index::IndexError>,
    ) {
        for (channel, indexes) in self.0.iter().enumerate() {
            for (suite, opened) in indexes.suites.iter().enumerate() {
                if let Err(error) = look(channel, suite, &opened.index) {
                    // As if it had nothing: the answer then says what is missing. Fetching again repairs it.
                    tracing::error!(suite = opened.name, "the index is damaged: {error}");
                }
            }
        }
    }
}

impl Universe for Opened<'_> {
    fn channels(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|indexes| indexes.channel.to_string())
            .collect()
    }

    fn named<'u>(&'u self, name: &str) -> Vec<Candidate<'u>> {
        let mut found = Vec::new();
        self.each(|channel, suite, index| {
            found.extend(
                index
                    .named(name)?
                    .into_iter()
                    .map(|record| candidate(&record, channel, suite)),
            );
            Ok(())
        });
        found
    }

    fn providing<'u>(&'u self, name: &str) -> Vec<&'u str> {
        let mut found = Vec::new();
        self.each(|_, _, index| {
            found.extend(
                index
                    .providing(name)?
                    .into_iter()
                    .map(|record| record.name()),
            );
            Ok(())
        });
        found
    }

    fn essential(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.each(|channel, _, index| {
            if channel == 0 {
                names.extend(
                    index
                        .essential()?
                        .into_iter()
                        .map(|record| record.name().to_owned()),
                );
            }
            Ok(())
        });
        names.sort_unstable();
        names.dedup();
        names
    }

    fn names_like(&self, name: &str) -> Vec<String> {
        let indexes: Vec<&index::Index> = self.0.iter().flat_map(ChannelIndexes::indexes).collect();
        find::nearest(&indexes, name, 5)
    }
}

fn candidate<'u>(record: &Record<'u>, channel: usize, suite: usize) -> Candidate<'u> {
    Candidate {
        name: record.name(),
        version: record.version(),
        architecture: record.architecture(),
        path: record.filename(),
        size: record.size(),
        sha256: record.sha256(),
        channel,
        suite,
        priority: Priority::parse(record.priority()),
        multi_arch: match record.multi_arch() {
            index::MultiArch::No => MultiArch::No,
            index::MultiArch::Same => MultiArch::Same,
            index::MultiArch::Foreign => MultiArch::Foreign,
            index::MultiArch::Allowed => MultiArch::Allowed,
        },
        installed_size: record.installed_size(),
        depends: record.depends(),
        pre_depends: record.pre_depends(),
        recommends: record.recommends(),
        conflicts: record.conflicts(),
        breaks: record.breaks(),
        provides: record.provides(),
    }
}
