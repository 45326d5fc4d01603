//! An archive of a few packages, written as an index is written.

use std::collections::{BTreeMap, HashMap};

use envd_store::Digest;

use super::{
    Candidate, MultiArch, Priority, Request, Requirement, Resolution, ResolveError, Universe,
    nearest, resolve_with,
};
use crate::{catalogue::Catalogue, provider::debian::architecture::Architecture};

/// Paragraphs of fields. `Channel` and `Suite` hold for the paragraphs that follow.
pub(super) struct Toy {
    channels: Vec<String>,
    packages: Vec<Package>,
}

struct Package {
    channel: usize,
    suite: usize,
    fields: BTreeMap<String, String>,
    sha256: Digest,
}

impl Toy {
    pub(super) fn new(text: &str) -> Self {
        let mut toy = Self {
            channels: Vec::new(),
            packages: Vec::new(),
        };
        let mut suite = 0;
        for paragraph in text.split("\n\n") {
            let mut fields = BTreeMap::new();
            for line in paragraph
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
            {
                let (key, value) = line.split_once(':').expect("a field is NAME: VALUE");
                fields.insert(key.to_owned(), value.trim().to_owned());
            }
            if let Some(channel) = fields.remove("Channel") {
                toy.channels.push(channel);
                suite = 0;
            }
            if let Some(number) = fields.remove("Suite") {
                suite = number.parse().expect("a suite is its number");
            }
            if fields.is_empty() {
                continue;
            }
            if toy.channels.is_empty() {
                toy.channels.push("debian:toy".to_owned());
            }
            fields
                .entry("Version".to_owned())
                .or_insert_with(|| "1".to_owned());
            fields
                .entry("Architecture".to_owned())
                .or_insert_with(|| "amd64".to_owned());
            let path = format!("pool/{}_{}.deb", fields["Package"], fields["Version"]);
            let channel = toy.channels.len() - 1;
            // The same paragraph in two channels is the same file.
            let sha256 = Digest::of(format!("{fields:?}").as_bytes());
            fields.insert("Filename".to_owned(), path);
            toy.packages.push(Package {
                channel,
                suite,
                fields,
                sha256,
            });
        }
        toy
    }

    /// The same archive, its index read in another order.
    pub(super) fn shuffled(mut self, seed: u64) -> Self {
        self.packages.sort_by_key(|package| {
            let place = format!("{seed} {}", package.sha256);
            Digest::of(place.as_bytes())
        });
        self
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.packages.iter().map(Package::candidate)
    }
}

impl Package {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            name: self.field("Package"),
            version: self.field("Version"),
            architecture: self.field("Architecture"),
            path: self.field("Filename"),
            size: 1,
            sha256: self.sha256,
            channel: self.channel,
            suite: self.suite,
            priority: Priority::parse(self.field("Priority")),
            multi_arch: MultiArch::parse(self.field("Multi-Arch")),
            installed_size: 1,
            depends: self.field("Depends"),
            pre_depends: self.field("Pre-Depends"),
            recommends: self.field("Recommends"),
            conflicts: self.field("Conflicts"),
            breaks: self.field("Breaks"),
            provides: self.field("Provides"),
        }
    }
}

impl Universe for Toy {
    fn channels(&self) -> Vec<String> {
        self.channels.clone()
    }

    fn named<'u>(&'u self, name: &str) -> Vec<Candidate<'u>> {
        self.all()
            .filter(|candidate| candidate.name == name)
            .collect()
    }

    fn providing<'u>(&'u self, name: &str) -> Vec<&'u str> {
        self.all()
            .filter(|candidate| {
                let mut entries = candidate.provides.split(',').map(str::trim);
                entries.any(|entry| entry.split([' ', ':', '(']).next() == Some(name))
            })
            .map(|candidate| candidate.name)
            .collect()
    }

    fn essential(&self) -> Vec<String> {
        let first = self.packages.iter().filter(|package| package.channel == 0);
        first
            .filter(|package| package.field("Essential") == "yes")
            .map(|package| package.field("Package").to_owned())
            .collect()
    }

    fn names_like(&self, name: &str) -> Vec<String> {
        nearest(name, self.all().map(|candidate| candidate.name), 5)
    }
}

/// A request for these, without Essential packages.
pub(super) fn request(requirements: &[&str]) -> Request {
    Request {
        requirements: requirements
            .iter()
            .map(|text| text.parse::<Requirement>().expect("a requirement"))
            .collect(),
        essential: false,
        architecture: Architecture::AMD64,
        locked: HashMap::new(),
    }
}

pub(super) fn attempt(archive: &str, request: &Request) -> Result<Resolution, ResolveError> {
    let catalogue =
        Catalogue::parse("tool = [\"real-tool\", \"tool-data\"]\ncc = [\"gcc\"]").unwrap();
    resolve_with(&Toy::new(archive), request, &catalogue)
}

/// `name version` of what is chosen, with the channel's number behind it where it is not the first.
pub(super) fn shown(resolution: &Resolution) -> Vec<String> {
    let packages = resolution.packages.iter();
    packages
        .map(|package| {
            let artifact = &package.artifact;
            match package.channel {
                0 => format!("{} {}", artifact.name, artifact.version),
                channel => format!("{} {} of {channel}", artifact.name, artifact.version),
            }
        })
        .collect()
}

/// What asking for these chooses.
pub(super) fn chosen(archive: &str, requirements: &[&str]) -> Vec<String> {
    shown(&attempt(archive, &request(requirements)).unwrap_or_else(|error| panic!("{error}")))
}

/// What the refusal says.
pub(super) fn refused(archive: &str, requirements: &[&str]) -> String {
    match attempt(archive, &request(requirements)) {
        Ok(resolution) => panic!("resolved to {:?}", shown(&resolution)),
        Err(error) => error.to_string(),
    }
}
