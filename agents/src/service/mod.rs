//! What an agent can ask for: the trait between those who ask (the MCP server, `envd agent`) and who carries it out (the
//! daemon).
//!
//! Requests and results are plain data with a JSON Schema. Four rules hold for every method:
//!
//! * **Owner.** A handle belongs to the owner of the call that made it. For every other owner it does not exist: the
//!   failure is the one for a handle that never was.
//! * **Cancellation.** Dropping the future is cancelling the call. What the call alone holds (a command that
//!   [`Service::command_run`] waits for, a download that nobody else wants, an environment half made) ends with it.
//! * **Policy.** A request says what is wished, never what is allowed: a project's directory, a network, limits and secrets are
//!   judged where they are carried out.
//! * **Verdicts are results.** A command that fails, is killed or runs out of time is an `Ok`. [`Failure`] is for a call that
//!   could not be carried out.

pub mod changes;
pub mod command;
pub mod environment;
pub mod excerpt;
mod failure;
pub mod file;
mod handle;
pub mod package;
pub mod port;
mod progress;
pub mod remote;
mod resource;

use std::{pin::Pin, sync::Arc};

use changes::{Changes, ChangesApplied, ChangesApply, ChangesDiff};
use command::{
    CommandEnded, CommandPoll, CommandPolled, CommandRun, CommandSignal, CommandSignalled,
    CommandStart, CommandStarted,
};
use environment::{
    Environment, EnvironmentCreate, EnvironmentDestroy, EnvironmentDestroyed, EnvironmentFork,
    EnvironmentList, EnvironmentRestore, EnvironmentSnapshot, Environments, Snapshot,
};
use file::{
    FileContent, FileEdit, FileEdited, FileEntries, FileList, FileMatches, FileRead, FileSearch,
    FileWrite, FileWritten,
};
use package::{PackageAdd, PackageSearch, Packages, PackagesAdded};
use port::{PortPublish, PortPublished, PortWithdraw, PortWithdrawn};

pub use failure::Failure;
pub(crate) use handle::random_hexadecimal;
pub use handle::{CommandId, EnvironmentId, NotAHandle, Owner, SnapshotId};
pub use progress::{Event, Listener, Nobody};
pub use resource::{
    NotAResource, Resource, ResourceList, ResourceRead, ResourceStretch, ResourceUri, Resources,
    Stream, TEMPLATES as RESOURCE_TEMPLATES,
};

/// What every call carries beside its request.
#[derive(Clone)]
pub struct Call {
    /// Who asks.
    pub owner: Owner,
    /// What the client says it is, for the audit; never a reason to allow anything.
    pub client: Option<String>,
    /// Who wants to know how it goes.
    pub listener: Arc<dyn Listener>,
}

impl Call {
    /// A call whose course interests nobody.
    pub fn quiet(owner: Owner) -> Self {
        Self {
            owner,
            client: None,
            listener: Arc::new(Nobody),
        }
    }
}

/// An answer that is being worked at.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Lends environments and carries out what is asked for in them.
pub trait Service: Send + Sync + 'static {
    /// Lends an environment, resolving and realising its tools when nobody asked for them before.
    fn environment_create<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentCreate,
    ) -> Answer<'a, Environment>;

    /// What this owner was lent.
    fn environment_list<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentList,
    ) -> Answer<'a, Environments>;

    /// Ends an environment with all that is in it. When this answers, nothing of it is left.
    fn environment_destroy<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentDestroy,
    ) -> Answer<'a, EnvironmentDestroyed>;

    /// Makes environments that begin with the same files. Running commands are not copied.
    fn environment_fork<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentFork,
    ) -> Answer<'a, Environments>;

    /// Freezes an environment's files.
    fn environment_snapshot<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentSnapshot,
    ) -> Answer<'a, Snapshot>;

    /// Puts files back as they were, or makes a new environment from them.
    fn environment_restore<'a>(
        &'a self,
        call: &'a Call,
        request: EnvironmentRestore,
    ) -> Answer<'a, Environment>;

    /// Runs a command to its end. Its output is told to the call's listener as it comes.
    fn command_run<'a>(&'a self, call: &'a Call, request: CommandRun) -> Answer<'a, CommandEnded>;

    /// Starts a command that goes on until it ends or its environment does.
    fn command_start<'a>(
        &'a self,
        call: &'a Call,
        request: CommandStart,
    ) -> Answer<'a, CommandStarted>;

    /// How a command stands, and its output from an offset. Dropping this does not touch the command.
    fn command_poll<'a>(
        &'a self,
        call: &'a Call,
        request: CommandPoll,
    ) -> Answer<'a, CommandPolled>;

    /// Writes to a command, resizes its terminal, signals it.
    fn command_signal<'a>(
        &'a self,
        call: &'a Call,
        request: CommandSignal,
    ) -> Answer<'a, CommandSignalled>;

    /// Reads a file of the environment.
    fn file_read<'a>(&'a self, call: &'a Call, request: FileRead) -> Answer<'a, FileContent>;

    /// Writes a file of the environment whole.
    fn file_write<'a>(&'a self, call: &'a Call, request: FileWrite) -> Answer<'a, FileWritten>;

    /// Replaces text in a file of the environment.
    fn file_edit<'a>(&'a self, call: &'a Call, request: FileEdit) -> Answer<'a, FileEdited>;

    /// Lists a directory of the environment.
    fn file_list<'a>(&'a self, call: &'a Call, request: FileList) -> Answer<'a, FileEntries>;

    /// Searches files of the environment, or a command's output.
    fn file_search<'a>(&'a self, call: &'a Call, request: FileSearch) -> Answer<'a, FileMatches>;

    /// What the environment changed in its project.
    fn changes_diff<'a>(&'a self, call: &'a Call, request: ChangesDiff) -> Answer<'a, Changes>;

    /// Brings changes back into the project: everything that was asked for, or nothing and the reasons.
    fn changes_apply<'a>(
        &'a self,
        call: &'a Call,
        request: ChangesApply,
    ) -> Answer<'a, ChangesApplied>;

    /// Searches the channels.
    fn package_search<'a>(&'a self, call: &'a Call, request: PackageSearch)
    -> Answer<'a, Packages>;

    /// Gives a live environment more packages.
    fn package_add<'a>(&'a self, call: &'a Call, request: PackageAdd) -> Answer<'a, PackagesAdded>;

    /// Has something that listens on the environment's loopback answer at a port of the machine's, until it is withdrawn or the
    /// environment ends.
    fn port_publish<'a>(
        &'a self,
        call: &'a Call,
        request: PortPublish,
    ) -> Answer<'a, PortPublished>;

    /// The end of that.
    fn port_withdraw<'a>(
        &'a self,
        call: &'a Call,
        request: PortWithdraw,
    ) -> Answer<'a, PortWithdrawn>;

    /// What is kept whole for this owner.
    fn resource_list<'a>(&'a self, call: &'a Call, request: ResourceList) -> Answer<'a, Resources>;

    /// A stretch of a resource.
    fn resource_read<'a>(
        &'a self,
        call: &'a Call,
        request: ResourceRead,
    ) -> Answer<'a, ResourceStretch>;

    /// The owner is gone: ends everything that was lent to it. When this answers, nothing of it is left.
    fn release<'a>(&'a self, owner: &'a Owner) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}
