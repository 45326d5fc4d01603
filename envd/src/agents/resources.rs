//! What is kept whole, by address.

use envd_agents::service::{
    Failure, Owner, Resource, ResourceRead, ResourceStretch, ResourceUri, Resources, Stream,
};

use super::{Shared, failure, project};

/// What there is for an owner.
pub(super) fn list(shared: &Shared, owner: &Owner) -> Resources {
    let all = shared.all();
    let mut resources = Vec::new();
    let own = all.commands.values().filter(|one| one.owner == *owner);
    let mut own: Vec<_> = own.collect();
    own.sort_by_key(|running| running.began);
    for running in own {
        for stream in [Stream::Stdout, Stream::Stderr] {
            resources.push(Resource {
                uri: running.resource(stream),
                title: format!("{} of {}", stream.name(), running.title),
                size_bytes: Some(running.spool(stream).total()),
            });
        }
    }
    for lent in all.environments.values().filter(|one| one.owner == *owner) {
        let name = lent.name.clone().unwrap_or_else(|| lent.id.to_string());
        resources.push(Resource {
            uri: ResourceUri::Changes {
                environment: lent.id.clone(),
            },
            title: format!("changes of {name}"),
            size_bytes: None,
        });
    }
    Resources { resources }
}

/// A stretch of one.
pub(super) async fn read(
    shared: &Shared,
    owner: &Owner,
    request: ResourceRead,
) -> Result<ResourceStretch, Failure> {
    let gone = |_| Failure::NoSuchResource {
        uri: request.uri.to_string(),
    };
    match &request.uri {
        ResourceUri::Output { command, stream } => {
            let running = shared.command(owner, command).map_err(gone)?;
            let spool = running.spool(*stream);
            let bytes = spool
                .read(request.offset, request.limit)
                .map_err(|error| failure::internal("reading the kept output", &error))?;
            Ok(ResourceStretch {
                bytes,
                total_bytes: spool.total(),
            })
        }
        ResourceUri::Changes { environment } => {
            let lent = shared.environment(owner, environment).map_err(gone)?;
            let text = project::whole(shared, &lent).await?;
            let from = usize::try_from(request.offset).unwrap_or(usize::MAX);
            let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
            let bytes = text.as_bytes().iter().skip(from).take(limit);
            Ok(ResourceStretch {
                bytes: bytes.copied().collect(),
                total_bytes: text.len() as u64,
            })
        }
    }
}
