//! What the solver asks of the archives. A trait, so that tests can invent an archive of ten packages.

use envd_store::Digest;

use crate::provider::Artifact;

/// All packages of all channels, opened for one resolution.
///
/// The order of what is returned carries no meaning: the solver sorts.
pub trait Universe {
    /// The channels in order of preference, as the project names them.
    fn channels(&self) -> Vec<String>;

    /// Every version of the package `name`, in every suite of every channel.
    fn named<'u>(&'u self, name: &str) -> Vec<Candidate<'u>>;

    /// The names of the packages of which some version has `name` in its Provides.
    fn providing<'u>(&'u self, name: &str) -> Vec<&'u str>;

    /// The names of the first channel's Essential packages.
    fn essential(&self) -> Vec<String>;

    /// Names of packages that a person who wrote `name` may have meant, best first. See [`super::nearest`].
    fn names_like(&self, name: &str) -> Vec<String>;
}

/// One version of one package in one suite, borrowed from the index. The relationship fields are as the index has them,
/// empty where absent; the solver reads those that it comes by.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'u> {
    /// Package.
    pub name: &'u str,
    /// Version.
    pub version: &'u str,
    /// Architecture.
    pub architecture: &'u str,
    /// Filename.
    pub path: &'u str,
    /// Size, in bytes.
    pub size: u64,
    /// SHA256.
    pub sha256: Digest,
    /// Index into [`Universe::channels`].
    pub channel: usize,
    /// Which of the channel's suites has it.
    pub suite: usize,
    /// Priority: decides between providers of a virtual package, as apt does.
    pub priority: Priority,
    /// Multi-Arch.
    pub multi_arch: MultiArch,
    /// Installed-Size, in KiB.
    pub installed_size: u64,
    /// Depends.
    pub depends: &'u str,
    /// Pre-Depends.
    pub pre_depends: &'u str,
    /// Recommends.
    pub recommends: &'u str,
    /// Conflicts.
    pub conflicts: &'u str,
    /// Breaks.
    pub breaks: &'u str,
    /// Provides.
    pub provides: &'u str,
}

impl Candidate<'_> {
    /// What fetching it takes.
    pub fn artifact(&self) -> Artifact {
        Artifact {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            architecture: self.architecture.to_owned(),
            path: self.path.to_owned(),
            size: self.size,
            sha256: self.sha256,
        }
    }
}

/// How important the archive holds a package (Policy 2.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    /// `required`
    Required,
    /// `important`
    Important,
    /// `standard`
    Standard,
    /// `optional`
    Optional,
    /// `extra`, anything else, or absent
    #[default]
    Extra,
}

impl Priority {
    /// Reads the field. There is no wrong value: what is not known counts as least important.
    pub fn parse(text: &str) -> Self {
        match text {
            "required" => Self::Required,
            "important" => Self::Important,
            "standard" => Self::Standard,
            "optional" => Self::Optional,
            _ => Self::Extra,
        }
    }
}

/// Whether a package serves others of another architecture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MultiArch {
    /// `no`, or absent
    #[default]
    No,
    /// `same`
    Same,
    /// `foreign`
    Foreign,
    /// `allowed`: `name:any` is satisfied by it
    Allowed,
}

impl MultiArch {
    /// Reads the field; an unknown value is `no`.
    pub fn parse(text: &str) -> Self {
        match text {
            "same" => Self::Same,
            "foreign" => Self::Foreign,
            "allowed" => Self::Allowed,
            _ => Self::No,
        }
    }
}
