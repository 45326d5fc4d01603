//! How long work tells how far it is. What is drawn from it, if anything, is the command line's affair.

/// A part of the work that people see.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Fetching and reading the lists of packages; counted in bytes.
    Index,
    /// Fetching packages; counted in bytes.
    Download,
    /// Unpacking packages into the store; counted in bytes of archives.
    Unpack,
    /// Configuring packages; counted in packages.
    Configure,
    /// Running what configuring put off, such as byte-compiling; counted in commands.
    Finish,
}

/// Someone who is told how far the work is. Several phases may be under way at once, from several threads.
pub trait Progress: Send + Sync {
    /// A phase begins, with so much to do in the phase's unit; or the total of one that began has changed.
    fn started(&self, phase: Phase, total: u64);
    /// So much more is done. It never goes back: work done twice is told once.
    fn advance(&self, phase: Phase, amount: u64);
    /// A phase is over.
    fn finished(&self, phase: Phase);
}

/// Nobody is told.
#[derive(Clone, Copy, Default, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: Phase, _: u64) {}
    fn advance(&self, _: Phase, _: u64) {}
    fn finished(&self, _: Phase) {}
}
