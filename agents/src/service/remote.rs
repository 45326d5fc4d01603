//! The service across a process boundary: requests by name and as JSON on one side, carried out on the other.
//!
//! The daemon owns environments; the MCP server and the command line run in processes of their own. [`Remote`] is the service
//! on their side, over whatever carries a name, a request and an answer; [`carry_out`] is its counterpart in the daemon.

use std::pin::Pin;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Answer, Call, Failure, Owner, Service,
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
    resource::{ResourceList, ResourceRead, ResourceStretch, Resources},
};

/// Carries requests to where the service is.
pub trait Channel: Send + Sync + 'static {
    /// Carries a request over and its answer back, and the events on the way to the call's listener. Dropping the future
    /// must drop the one of [`carry_out`] over there.
    fn exchange<'a>(
        &'a self,
        call: &'a Call,
        method: &'static str,
        request: Value,
    ) -> Answer<'a, Value>;

    /// See [`Service::release`].
    fn release<'a>(&'a self, owner: &'a Owner) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// The service at the other end of a channel.
#[derive(Clone, Debug)]
pub struct Remote<C>(pub C);

fn written(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::Internal {
        step: "writing a message".to_owned(),
        reason: error.to_string(),
    })
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::Internal {
        step: "reading a message (are both sides the same version of envd?)".to_owned(),
        reason: error.to_string(),
    })
}

macro_rules! methods {
    ($($method:ident: $request:ty => $answer:ty;)*) => {
        /// Carries out a request that came by name. What it names and how it is written is as [`Remote`] writes it.
        pub async fn carry_out(
            service: &dyn Service,
            call: &Call,
            method: &str,
            request: Value,
        ) -> Result<Value, Failure> {
            match method {
                $(stringify!($method) => {
                    written(&service.$method(call, read::<$request>(request)?).await?)
                })*
                unknown => Err(Failure::Internal {
                    step: format!("looking for the method {unknown:?}"),
                    reason: "this version of envd has none of that name".to_owned(),
                }),
            }
        }

        impl<C: Channel> Service for Remote<C> {
            $(fn $method<'a>(&'a self, call: &'a Call, request: $request) -> Answer<'a, $answer> {
                Box::pin(async move {
                    let request = written(&request)?;
                    read(self.0.exchange(call, stringify!($method), request).await?)
                })
            })*

            fn release<'a>(
                &'a self,
                owner: &'a Owner,
            ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
                self.0.release(owner)
            }
        }
    };
}

methods! {
    environment_create: EnvironmentCreate => Environment;
    environment_list: EnvironmentList => Environments;
    environment_destroy: EnvironmentDestroy => EnvironmentDestroyed;
    environment_fork: EnvironmentFork => Environments;
    environment_snapshot: EnvironmentSnapshot => Snapshot;
    environment_restore: EnvironmentRestore => Environment;
    command_run: CommandRun => CommandEnded;
    command_start: CommandStart => CommandStarted;
    command_poll: CommandPoll => CommandPolled;
    command_signal: CommandSignal => CommandSignalled;
    file_read: FileRead => FileContent;
    file_write: FileWrite => FileWritten;
    file_edit: FileEdit => FileEdited;
    file_list: FileList => FileEntries;
    file_search: FileSearch => FileMatches;
    changes_diff: ChangesDiff => Changes;
    changes_apply: ChangesApply => ChangesApplied;
    package_search: PackageSearch => Packages;
    package_add: PackageAdd => PackagesAdded;
    port_publish: PortPublish => PortPublished;
    port_withdraw: PortWithdraw => PortWithdrawn;
    resource_list: ResourceList => Resources;
    resource_read: ResourceRead => ResourceStretch;
}
