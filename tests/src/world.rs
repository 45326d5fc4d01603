//! The world most tests start from: a small archive, served, and a sandbox that knows it.

use crate::{
    archive::Archive, programs::small_archive, sandbox::Sandbox, server::Server, user::Account,
};

/// An archive, its server and a sandbox; used as the sandbox.
#[derive(Debug)]
pub struct World {
    /// What is published; after a change, [`World::publish`].
    pub archive: Archive,
    /// What serves it.
    pub server: Server,
    /// Where commands run.
    pub sandbox: Sandbox,
}

impl World {
    /// Around [`small_archive`]; `None` when the machine lacks what it takes and tests may skip.
    pub fn small() -> Option<Self> {
        Some(Self::around(small_archive()?))
    }

    /// Around an archive of the test's own.
    pub fn around(archive: Archive) -> Self {
        let server = Server::start(archive.files());
        let sandbox = Sandbox::of(&archive, &server);
        Self {
            archive,
            server,
            sandbox,
        }
    }

    /// Serves the archive as it is now.
    pub fn publish(&self) {
        self.server.serve(self.archive.files());
    }

    /// A second, empty sandbox that knows the same archive.
    pub fn another(&self) -> Sandbox {
        Sandbox::of(&self.archive, &self.server)
    }

    /// A second, empty sandbox of an account that knows the same archive.
    pub fn another_of(&self, account: Option<Account>) -> Sandbox {
        Sandbox::owned_by(account).knowing(&self.archive, &self.server)
    }
}

impl std::ops::Deref for World {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}
