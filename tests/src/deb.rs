//! Real .deb files (deb(5)) made in memory from a description.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
};

use crate::{
    architecture, sha256_hex,
    tape::{Entry, Kind, ar, tar},
};

/// How a member of a .deb is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip.
    Gz,
    /// xz, what Debian uses.
    Xz,
    /// zstd, what Ubuntu uses.
    Zst,
}

impl Compression {
    /// What follows `.tar` in the member's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gz => ".gz",
            Self::Xz => ".xz",
            Self::Zst => ".zst",
        }
    }

    /// The bytes, compressed.
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gz => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect("memory");
                encoder.finish().expect("memory")
            }
            Self::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(bytes).expect("memory");
                encoder.finish().expect("memory")
            }
            Self::Zst => zstd::encode_all(bytes, 1).expect("memory"),
        }
    }
}

/// A package, described.
#[derive(Clone, Debug)]
pub struct Deb {
    name: String,
    version: String,
    architecture: String,
    fields: Vec<(String, String)>,
    entries: Vec<Entry>,
    conffiles: Vec<String>,
    scripts: BTreeMap<String, String>,
    compression: Compression,
}

impl Deb {
    /// A package with nothing in it, for this machine's architecture, xz like Debian's own.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture().to_owned(),
            fields: Vec::new(),
            entries: Vec::new(),
            conffiles: Vec::new(),
            scripts: BTreeMap::new(),
            compression: Compression::Xz,
        }
    }

    /// The package's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The package's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// For another architecture, or `all`.
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// A further field of the control file, such as `Depends`.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `Depends`.
    pub fn depends(self, relation: &str) -> Self {
        self.field("Depends", relation)
    }

    /// Both members compressed like this.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// A file of mode 644. Paths are without the leading `./`; parents are added.
    pub fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.entry(Entry::file(path, 0o644, content))
    }

    /// An executable.
    pub fn program(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.entry(Entry::file(path, 0o755, content))
    }

    /// A directory.
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(Entry::new(path, Kind::Directory, mode))
    }

    /// A symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(Entry::symlink(path, target))
    }

    /// A hard link to a path of this package.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(Entry::hard_link(path, format!("./{target}")))
    }

    /// Any entry; its name without the leading `./`.
    pub fn entry(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// A configuration file, under `/etc` say.
    pub fn conffile(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.conffiles.push(format!("/{path}"));
        self.file(path, content)
    }

    /// A maintainer script (`preinst`, `postinst`, `prerm`, `postrm`, or `triggers`).
    pub fn script(mut self, name: &str, text: &str) -> Self {
        self.scripts.insert(name.to_owned(), text.to_owned());
        self
    }

    /// The control file's text.
    pub fn control(&self) -> String {
        let size: usize = self.entries.iter().map(|entry| entry.content.len()).sum();
        let mut text = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: envd tests <tests@example.invalid>\nInstalled-Size: {}\n",
            self.name,
            self.version,
            self.architecture,
            size.div_ceil(1024)
        );
        for (name, value) in &self.fields {
            let _ = writeln!(text, "{name}: {value}");
        }
        if !self.fields.iter().any(|(name, _)| name == "Description") {
            let _ = writeln!(text, "Description: {} made for a test", self.name);
        }
        text
    }

    /// The members `control.tar…` and `data.tar…`, uncompressed.
    pub fn members(&self) -> (Vec<u8>, Vec<u8>) {
        let mut control = vec![
            Entry::directory("./"),
            Entry::file("./control", 0o644, self.control()),
        ];
        if !self.conffiles.is_empty() {
            let list = self.conffiles.join("\n") + "\n";
            control.push(Entry::file("./conffiles", 0o644, list));
        }
        for (name, text) in &self.scripts {
            control.push(Entry::file(format!("./{name}"), 0o755, text.as_str()));
        }
        (tar(&control), tar(&self.data_entries()))
    }

    /// What `data.tar` holds: the entries, each after its parents, named as dpkg-deb names them.
    fn data_entries(&self) -> Vec<Entry> {
        let explicit: BTreeSet<_> = self
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::Directory)
            .map(|entry| entry.name.clone())
            .collect();
        let mut made = BTreeSet::new();
        let mut entries = vec![Entry::directory("./")];
        for entry in &self.entries {
            for (at, _) in entry
                .name
                .iter()
                .enumerate()
                .filter(|&(_, &byte)| byte == b'/')
            {
                let parent = entry.name[..at].to_vec();
                if !explicit.contains(&parent) && made.insert(parent.clone()) {
                    let name = [b"./".as_slice(), &parent, b"/"].concat();
                    entries.push(Entry::directory(name));
                }
            }
            let slash: &[u8] = match entry.kind {
                Kind::Directory => b"/",
                _ => b"",
            };
            entries.push(Entry {
                name: [b"./".as_slice(), &entry.name, slash].concat(),
                ..entry.clone()
            });
        }
        entries
    }

    /// The .deb.
    pub fn build(&self) -> Vec<u8> {
        let (control, data) = self.members();
        let suffix = self.compression.suffix();
        ar(&[
            ("debian-binary", b"2.0\n"),
            (
                &format!("control.tar{suffix}"),
                &self.compression.compress(&control),
            ),
            (
                &format!("data.tar{suffix}"),
                &self.compression.compress(&data),
            ),
        ])
    }

    /// Where an archive keeps it.
    pub fn pool_path(&self) -> String {
        let version = match self.version.split_once(':') {
            Some((_epoch, rest)) => rest,
            None => &self.version,
        };
        let name = &self.name;
        let initial = &name[..1];
        format!(
            "pool/main/{initial}/{name}/{name}_{version}_{}.deb",
            self.architecture
        )
    }

    /// Its paragraph of a `Packages` file, for these bytes.
    pub fn stanza(&self, bytes: &[u8]) -> String {
        format!(
            "{}Filename: {}\nSize: {}\nSHA256: {}\n",
            self.control(),
            self.pool_path(),
            bytes.len(),
            sha256_hex(bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// dpkg must take these for Debian packages, whatever they are compressed with.
    #[test]
    fn dpkg_reads_what_is_built() {
        let directory = tempfile::tempdir().unwrap();
        for compression in [
            Compression::Plain,
            Compression::Gz,
            Compression::Xz,
            Compression::Zst,
        ] {
            let deb = Deb::new("greeter", "1:2.0-1")
                .compression(compression)
                .depends("libgreet (>= 1)")
                .program("usr/bin/greet", "#!/bin/sh\necho hi\n")
                .hard_link("usr/bin/welcome", "usr/bin/greet")
                .conffile("etc/greet.conf", "loud\n")
                .script("postinst", "#!/bin/sh\nexit 0\n");
            let path = directory.path().join("greeter.deb");
            std::fs::write(&path, deb.build()).unwrap();
            let run = |option: &str| {
                let output = Command::new("dpkg-deb")
                    .arg(option)
                    .arg(&path)
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{compression:?}: {output:?}");
                String::from_utf8(output.stdout).unwrap()
            };
            let contents = run("--contents");
            assert!(
                contents.contains("./usr/bin/welcome link to ./usr/bin/greet"),
                "{contents}"
            );
            assert!(run("--field").contains("Version: 1:2.0-1"));
        }
    }
}
