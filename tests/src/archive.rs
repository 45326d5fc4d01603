//! A small signed Debian archive: suites, by-hash indexes, a pool from which versions disappear, and the past of all
//! that as snapshot.debian.org keeps it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use crate::{
    architecture,
    clock::{DAY, release_date, stamp},
    deb::{Compression, Deb},
    key::Key,
    sha256_hex,
};

/// What a server serves: path without the leading slash, content.
pub type Files = BTreeMap<String, Vec<u8>>;

/// One suite, such as `trixie` or `trixie-security`.
#[derive(Clone, Debug)]
pub struct Suite {
    name: String,
    packages: Vec<(Deb, Vec<u8>)>,
    /// `Date` of its Release file.
    pub date: SystemTime,
    /// `Valid-Until`, if it has one.
    pub valid_until: Option<SystemTime>,
    /// Whether indexes are also kept under their digests.
    pub by_hash: bool,
    /// Paragraphs of the index as they stand, for what no honest archive lists.
    pub raw_stanzas: Vec<String>,
    /// The name its Release file gives it, where that is not its own.
    pub claimed_name: Option<String>,
}

impl Suite {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            packages: Vec::new(),
            date: SystemTime::now() - 2 * DAY,
            valid_until: None,
            by_hash: true,
            raw_stanzas: Vec::new(),
            claimed_name: None,
        }
    }

    /// Adds a package.
    pub fn add(&mut self, deb: Deb) -> &mut Self {
        let bytes = deb.build();
        self.add_bytes(deb, bytes)
    }

    /// Adds a package whose file is not what its description would build.
    pub fn add_bytes(&mut self, deb: Deb, bytes: Vec<u8>) -> &mut Self {
        self.packages.push((deb, bytes));
        self
    }

    /// Removes every version of a package: the archive moves on.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.packages.retain(|(deb, _)| deb.name() != name);
        self
    }

    /// Removes every version of a package and adds this one.
    pub fn supersede(&mut self, deb: Deb) -> &mut Self {
        let name = deb.name().to_owned();
        self.remove(&name).add(deb)
    }

    fn area(&self) -> &'static str {
        if self.name.ends_with("-security") {
            "debian-security"
        } else {
            "debian"
        }
    }

    fn packages_index(&self) -> Vec<u8> {
        let stanzas: Vec<_> = self
            .packages
            .iter()
            .map(|(deb, bytes)| deb.stanza(bytes))
            .chain(self.raw_stanzas.iter().cloned())
            .collect();
        stanzas.join("\n").into_bytes()
    }

    fn publish(&self, key: &Key, files: &mut Files) {
        let area = self.area();
        let dists = format!("{area}/dists/{}", self.name);
        let binary = format!("main/binary-{}", architecture());
        let index = self.packages_index();
        let mut listed = String::new();
        for compression in [Compression::Plain, Compression::Gz, Compression::Xz] {
            let bytes = compression.compress(&index);
            let digest = sha256_hex(&bytes);
            let name = format!("{binary}/Packages{}", compression.suffix());
            listed.push_str(&format!(" {digest} {} {name}\n", bytes.len()));
            if self.by_hash {
                files.insert(
                    format!("{dists}/{binary}/by-hash/SHA256/{digest}"),
                    bytes.clone(),
                );
            }
            // Debian lists the plain form and does not serve it.
            if compression != Compression::Plain {
                files.insert(format!("{dists}/{name}"), bytes);
            }
        }
        let name = self.claimed_name.as_deref().unwrap_or(&self.name);
        let mut release = format!(
            "Origin: Debian\nLabel: Debian\nSuite: {name}\nCodename: {name}\nDate: {}\n",
            release_date(self.date)
        );
        if let Some(moment) = self.valid_until {
            release.push_str(&format!("Valid-Until: {}\n", release_date(moment)));
        }
        if self.by_hash {
            release.push_str("Acquire-By-Hash: yes\n");
        }
        release.push_str(&format!(
            "No-Support-for-Architecture-all: Packages\nArchitectures: all {}\nComponents: main\n\
             Description: made for a test\nSHA256:\n{listed}",
            architecture()
        ));
        files.insert(
            format!("{dists}/InRelease"),
            key.clearsign(&release).into_bytes(),
        );
        files.insert(format!("{dists}/Release"), release.into_bytes());
        for (deb, bytes) in &self.packages {
            files.insert(format!("{area}/{}", deb.pool_path()), bytes.clone());
        }
    }
}

/// An archive with the suites `trixie` and `bookworm`, their `-updates`, and their `-security` beside it.
#[derive(Clone, Debug)]
pub struct Archive {
    key: Key,
    suites: BTreeMap<String, Suite>,
    past: Files,
}

impl Default for Archive {
    fn default() -> Self {
        Self::new()
    }
}

impl Archive {
    /// Six empty suites and a new key.
    pub fn new() -> Self {
        let suites = ["trixie", "bookworm"]
            .iter()
            .flat_map(|name| ["", "-updates", "-security"].map(|kind| format!("{name}{kind}")))
            .map(|name| (name.clone(), Suite::new(&name)))
            .collect();
        Self {
            key: Key::generate("archive"),
            suites,
            past: Files::new(),
        }
    }

    /// The key that signs.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// A suite, made when it is not there yet.
    pub fn suite(&mut self, name: &str) -> &mut Suite {
        self.suites
            .entry(name.to_owned())
            .or_insert_with(|| Suite::new(name))
    }

    /// Without a suite, which then is nowhere, or wherever the server passes requests on to.
    pub fn forget(&mut self, name: &str) {
        self.suites.remove(name);
    }

    /// The suite everybody tests with.
    pub fn trixie(&mut self) -> &mut Suite {
        self.suite("trixie")
    }

    /// All that a mirror and the snapshot service hold now.
    pub fn files(&self) -> Files {
        self.files_signed_by(&self.key)
    }

    /// The same, signed by another key.
    pub fn files_signed_by(&self, key: &Key) -> Files {
        let mut files = self.past.clone();
        for suite in self.suites.values() {
            suite.publish(key, &mut files);
        }
        files
    }

    /// Keeps what is published now as the snapshot of a moment; returns its name.
    ///
    /// snapshot.debian.org imports an archive some time *after* the date in its Release file.
    pub fn take_snapshot(&mut self, moment: SystemTime) -> String {
        let stamp = stamp(moment);
        let mut now = Files::new();
        for suite in self.suites.values() {
            suite.publish(&self.key, &mut now);
        }
        for (path, bytes) in now {
            let (area, rest) = path.split_once('/').expect("area and path");
            self.past
                .insert(format!("archive/{area}/{stamp}/{rest}"), bytes);
        }
        stamp
    }

    /// Lets time pass: every suite is published again a day later than before.
    pub fn pass_a_day(&mut self) {
        for suite in self.suites.values_mut() {
            suite.date += DAY;
        }
    }

    /// Dates every suite this long ago.
    pub fn dated(mut self, ago: Duration) -> Self {
        for suite in self.suites.values_mut() {
            suite.date = SystemTime::now() - ago;
        }
        self
    }
}

/// Flips the lowest bit of the byte in the middle of a file; an empty one gets a byte.
pub fn flip_a_bit(bytes: &mut Vec<u8>) {
    let middle = bytes.len() / 2;
    match bytes.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => bytes.push(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest in the index that is not the file's would make every tamper test pass for the wrong reason.
    #[test]
    fn what_is_listed_is_what_is_served() {
        let mut archive = Archive::new();
        archive
            .trixie()
            .add(Deb::new("hello", "1.0").file("usr/share/hello", "hi"));
        let files = archive.files();
        let release = String::from_utf8(files["debian/dists/trixie/Release"].clone()).unwrap();
        let index = format!("main/binary-{}/Packages.xz", architecture());
        let line = release.lines().find(|line| line.ends_with(&index)).unwrap();
        let bytes = &files[&format!("debian/dists/trixie/{index}")];
        assert!(line.contains(&sha256_hex(bytes)));
        let deb = &files[&format!("debian/pool/main/h/hello/hello_1.0_{}.deb", architecture())];
        let mut text = String::new();
        std::io::Read::read_to_string(
            &mut liblzma::read::XzDecoder::new(bytes.as_slice()),
            &mut text,
        )
        .unwrap();
        assert!(text.contains(&sha256_hex(deb)));
    }

    /// apt is the judge of what a Debian archive is: it must take ours, signature, indexes, package and all.
    #[test]
    fn apt_takes_it_for_an_archive() {
        if !crate::requirement::program("apt-get") {
            return;
        }
        let mut archive = Archive::new();
        archive
            .trixie()
            .add(Deb::new("hello", "1:1.0-1").file("usr/share/hello", "hi"));
        let server = crate::server::Server::start(archive.files());
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["lists/partial", "cache/archives/partial", "etc"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("key.gpg"), archive.key().keyring()).unwrap();
        std::fs::write(path("status"), "").unwrap();
        std::fs::write(
            path("sources.list"),
            format!(
                "deb [signed-by={}] {}/debian trixie main\n",
                path("key.gpg").display(),
                server.url()
            ),
        )
        .unwrap();
        let apt = |arguments: &[&str]| {
            let mut command = std::process::Command::new("apt-get");
            for (option, name) in [
                ("Dir::State::Lists", "lists"),
                ("Dir::State::status", "status"),
                ("Dir::Cache", "cache"),
                ("Dir::Etc", "etc"),
                ("Dir::Etc::SourceList", "sources.list"),
            ] {
                command.arg(format!("-o{option}={}", path(name).display()));
            }
            let output = command
                .args(["-oAPT::Sandbox::User=root", "-oAPT::Update::Error-Mode=any"])
                .args(arguments)
                .current_dir(directory.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        apt(&["update"]);
        apt(&["download", "hello"]);
        let fetched = format!("hello_1%3a1.0-1_{}.deb", architecture());
        assert!(path(&fetched).exists());
    }

    /// A snapshot must outlive what the mirror drops.
    #[test]
    fn the_past_stays() {
        let mut archive = Archive::new();
        archive.trixie().add(Deb::new("hello", "1.0"));
        let stamp = archive.take_snapshot(SystemTime::now());
        archive.trixie().supersede(Deb::new("hello", "1.1"));
        let files = archive.files();
        let file = format!("pool/main/h/hello/hello_1.0_{}.deb", architecture());
        assert!(!files.contains_key(&format!("debian/{file}")));
        assert!(files.contains_key(&format!("archive/debian/{stamp}/{file}")));
    }
}
