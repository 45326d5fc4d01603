//! The trait, method by method: who may ask, and who answers.

use std::pin::Pin;

use envd_agents::service::{
    Answer, Call, EnvironmentId, Failure, Owner, ResourceList, ResourceRead, ResourceStretch,
    Resources, Service, Stream,
    changes::{Changes, ChangesApplied, ChangesApply, ChangesDiff},
    command::{
        CommandEnded, CommandPoll, CommandPolled, CommandRun, CommandSignal, CommandSignalled,
        CommandStart, CommandStarted,
    },
    environment::{
        Environment, EnvironmentCreate, EnvironmentDestroy, EnvironmentDestroyed, EnvironmentFork,
        EnvironmentList, EnvironmentRestore, EnvironmentSnapshot, Environments, Snapshot,
    },
    file::{
        FileContent, FileEdit, FileEdited, FileEntries, FileList, FileMatches, FileRead,
        FileSearch, FileWrite, FileWritten,
    },
    package::{PackageAdd, PackageSearch, Packages, PackagesAdded},
    port::{PortPublish, PortPublished, PortWithdraw, PortWithdrawn},
};

use super::{
    Lender, Shared, blocking, commands, failure,
    files::{self, Search},
    inside::Inside,
    lending, packages, ports, project, resources,
};

/// Looks at an environment's files beside the runtime.
async fn looking<T: Send + 'static>(
    shared: &Shared,
    owner: &Owner,
    id: &EnvironmentId,
    look: impl FnOnce(&Inside<'_>, &str) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let lent = shared.environment(owner, id)?;
    // Held until it is done: what is launched again has another root.
    let live = lent.live.clone().read_owned().await;
    blocking(move || match &*live {
        Some(live) => look(&Inside::new(&live.root), &lent.directory),
        None => Err(Failure::no_such_environment(&lent.id)),
    })
    .await
}

impl Service for Lender {
    fn environment_create<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentCreate,
    ) -> Answer<'a, Environment> {
        Box::pin(lending::create(&self.0, call, request))
    }

    fn environment_list<'a>(
        &'a self,
        call: &'a Call,
        _: EnvironmentList,
    ) -> Answer<'a, Environments> {
        Box::pin(async { Ok(lending::list(&self.0, &call.owner).await) })
    }

    fn environment_destroy<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentDestroy,
    ) -> Answer<'a, EnvironmentDestroyed> {
        Box::pin(async move { lending::destroy(&self.0, &call.owner, &request.environment).await })
    }

    fn environment_fork<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentFork,
    ) -> Answer<'a, Environments> {
        Box::pin(lending::fork(&self.0, &call.owner, request))
    }

    fn environment_snapshot<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentSnapshot,
    ) -> Answer<'a, Snapshot> {
        Box::pin(async move {
            let EnvironmentSnapshot { environment, name } = request;
            lending::snapshot(&self.0, &call.owner, &environment, name).await
        })
    }

    fn environment_restore<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentRestore,
    ) -> Answer<'a, Environment> {
        Box::pin(async move { lending::restore(&self.0, &call.owner, request).await })
    }

    fn command_run<'a>(&'a self, call: &'a Call, request: CommandRun) -> Answer<'a, CommandEnded> {
        Box::pin(commands::run(&self.0, call, request))
    }

    fn command_start<'a>(
        &'a self,
        call: &'a Call,
        request: CommandStart,
    ) -> Answer<'a, CommandStarted> {
        Box::pin(commands::begin(&self.0, call, request))
    }

    fn command_poll<'a>(
        &'a self,
        call: &'a Call,
        request: CommandPoll,
    ) -> Answer<'a, CommandPolled> {
        Box::pin(commands::poll(&self.0, &call.owner, request))
    }

    fn command_signal<'a>(
        &'a self,
        call: &'a Call,
        request: CommandSignal,
    ) -> Answer<'a, CommandSignalled> {
        Box::pin(commands::signal(&self.0, &call.owner, request))
    }

    fn file_read<'a>(&'a self, call: &'a Call, request: FileRead) -> Answer<'a, FileContent> {
        let id = request.environment.clone();
        let patterns = self.0.keyring.patterns();
        Box::pin(async move {
            looking(&self.0, &call.owner, &id, move |inside, directory| {
                let mut content = files::read(inside, directory, &request)?;
                files::scrub(&mut content, &patterns);
                Ok(content)
            })
            .await
        })
    }

    fn file_write<'a>(&'a self, call: &'a Call, request: FileWrite) -> Answer<'a, FileWritten> {
        let id = request.environment.clone();
        Box::pin(async move {
            looking(&self.0, &call.owner, &id, move |inside, directory| {
                files::write(inside, directory, &request)
            })
            .await
        })
    }

    fn file_edit<'a>(&'a self, call: &'a Call, request: FileEdit) -> Answer<'a, FileEdited> {
        let id = request.environment.clone();
        Box::pin(async move {
            looking(&self.0, &call.owner, &id, move |inside, directory| {
                files::edit(inside, directory, &request)
            })
            .await
        })
    }

    fn file_list<'a>(&'a self, call: &'a Call, request: FileList) -> Answer<'a, FileEntries> {
        let id = request.environment.clone();
        Box::pin(async move {
            looking(&self.0, &call.owner, &id, move |inside, directory| {
                files::list(inside, directory, &request)
            })
            .await
        })
    }

    fn file_search<'a>(&'a self, call: &'a Call, request: FileSearch) -> Answer<'a, FileMatches> {
        let id = request.environment.clone();
        Box::pin(async move {
            let Some(command) = &request.command else {
                let patterns = self.0.keyring.patterns();
                return looking(&self.0, &call.owner, &id, move |inside, directory| {
                    let mut found = files::search(inside, directory, &request)?;
                    for one in &mut found.matches {
                        patterns.scrub_text(&mut one.text);
                    }
                    Ok(found)
                })
                .await;
            };
            let running = self.0.command(&call.owner, command)?;
            let mut search = Search::new(&request)?;
            blocking(move || {
                for stream in [Stream::Stdout, Stream::Stderr] {
                    let text = running
                        .spool(stream)
                        .read(0, files::MOST_TEXT)
                        .map_err(|error| failure::internal("reading the kept output", &error))?;
                    if !search.look(stream.name(), 1, &String::from_utf8_lossy(&text)) {
                        break;
                    }
                }
                Ok(search.finish())
            })
            .await
        })
    }

    fn changes_diff<'a>(&'a self, call: &'a Call, request: ChangesDiff) -> Answer<'a, Changes> {
        Box::pin(project::diff(&self.0, &call.owner, request))
    }

    fn changes_apply<'a>(
        &'a self,
        call: &'a Call,
        request: ChangesApply,
    ) -> Answer<'a, ChangesApplied> {
        Box::pin(project::apply(&self.0, &call.owner, request))
    }

    fn package_search<'a>(
        &'a self,
        call: &'a Call,
        request: PackageSearch,
    ) -> Answer<'a, Packages> {
        Box::pin(packages::search(&self.0, call, request))
    }

    fn package_add<'a>(&'a self, call: &'a Call, request: PackageAdd) -> Answer<'a, PackagesAdded> {
        Box::pin(packages::add(&self.0, call, request))
    }

    fn port_publish<'a>(
        &'a self,
        call: &'a Call,
        request: PortPublish,
    ) -> Answer<'a, PortPublished> {
        Box::pin(async move { ports::publish(&self.0, &call.owner, &request) })
    }

    fn port_withdraw<'a>(
        &'a self,
        call: &'a Call,
        request: PortWithdraw,
    ) -> Answer<'a, PortWithdrawn> {
        Box::pin(async move { ports::withdraw(&self.0, &call.owner, &request).await })
    }

    fn resource_list<'a>(&'a self, call: &'a Call, _: ResourceList) -> Answer<'a, Resources> {
        Box::pin(async { Ok(resources::list(&self.0, &call.owner)) })
    }

    fn resource_read<'a>(
        &'a self,
        call: &'a Call,
        request: ResourceRead,
    ) -> Answer<'a, ResourceStretch> {
        Box::pin(resources::read(&self.0, &call.owner, request))
    }

    fn release<'a>(&'a self, owner: &'a Owner) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(lending::release(&self.0, owner))
    }
}
