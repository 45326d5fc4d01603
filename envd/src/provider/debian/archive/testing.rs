//! A small signed archive on loopback, for the tests of whatever stands on one.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::Write as _,
    sync::{Arc, Mutex},
};

use envd_store::Digest;

use super::{Archive, ArchiveSettings};
use crate::{
    fetch::testing::{Reply, Server},
    provider::debian::trust::testing::{BORN, Signing, TestKey, moment},
};

/// A small archive on loopback, signed by its own key.
pub(crate) struct TestArchive {
    pub(crate) key: TestKey,
    pub(crate) files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    pub(crate) server: Server,
}

/// A suite's InRelease in the making.
#[derive(Clone)]
pub(crate) struct Publication {
    pub(crate) suite: String,
    pub(crate) codename: String,
    pub(crate) date: u32,
    pub(crate) valid_until: Option<u32>,
    /// By path below the suite: what is listed, and what is served.
    pub(crate) listed: Vec<(String, Vec<u8>)>,
}

pub(crate) fn release_date(seconds: u32) -> String {
    let iso = moment(seconds).to_string();
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month: usize = iso[5..7].parse().unwrap();
    format!(
        "Sun, {} {} {} {} UTC",
        &iso[8..10],
        months[month - 1],
        &iso[..4],
        &iso[11..19]
    )
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn packages(names: &[&str]) -> String {
    let zeros = "0".repeat(64);
    let stanza = |name| {
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: all\nFilename: pool/{name}\nSize: 1\nSHA256: {zeros}\n\n"
        )
    };
    names.iter().map(stanza).collect()
}

pub(crate) const XZ: &str = "main/binary-amd64/Packages.xz";
pub(crate) const PLAIN: &str = "main/binary-amd64/Packages";

pub(crate) fn publication(suite: &str, names: &[&str]) -> Publication {
    let text = packages(names).into_bytes();
    Publication {
        suite: format!("{suite}-purpose"),
        codename: suite.to_owned(),
        date: BORN + 100,
        valid_until: None,
        listed: vec![(XZ.to_owned(), xz(&text)), (PLAIN.to_owned(), text)],
    }
}

impl TestArchive {
    pub(crate) async fn new() -> Self {
        let files: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
        let served = files.clone();
        let server =
            Server::start(
                move |request| match served.lock().unwrap().get(&request.path) {
                    Some(body) => Reply::ranged(body, request),
                    None => Reply::status(404),
                },
            )
            .await;
        Self {
            key: TestKey::new(),
            files,
            server,
        }
    }

    /// What a mirror's path is here: Debian proper below `debian/`, security below `debian-security/`.
    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        // The server sees paths in lower case.
        let path = path.to_lowercase();
        self.files.lock().unwrap().insert(path, bytes.into());
    }

    pub(crate) fn remove(&self, path: &str) {
        let gone = self.files.lock().unwrap().remove(&path.to_lowercase());
        assert!(gone.is_some(), "{path} was not there");
    }

    pub(crate) fn release_path(suite: &str) -> String {
        let part = match suite.ends_with("-security") {
            true => "debian-security",
            false => "debian",
        };
        format!("{part}/dists/{suite}/InRelease")
    }

    pub(crate) fn publish(&self, published: &Publication) {
        let mut text = format!(
            "Origin: Test\nSuite: {}\nCodename: {}\nDate: {}\n",
            published.suite,
            published.codename,
            release_date(published.date)
        );
        if let Some(until) = published.valid_until {
            writeln!(text, "Valid-Until: {}", release_date(until)).unwrap();
        }
        text += "Acquire-By-Hash: yes\nArchitectures: all amd64\nComponents: main contrib\nSHA256:";
        let path = Self::release_path(&published.codename);
        let below = path.trim_end_matches("/InRelease");
        for (path, bytes) in &published.listed {
            let digest = Digest::of(bytes);
            write!(text, "\n {digest} {} {path}", bytes.len()).unwrap();
            let (directory, _) = path.rsplit_once('/').unwrap();
            self.put(
                &format!("{below}/{directory}/by-hash/SHA256/{digest}"),
                bytes.clone(),
            );
            self.put(&format!("{below}/{path}"), bytes.clone());
        }
        let how = Signing {
            at: published.date,
            ..Signing::default()
        };
        self.put(&path, self.key.sign_as(&text, how));
    }

    pub(crate) fn archive(&self) -> Archive {
        Archive::new(ArchiveSettings {
            mirror: Some(self.server.url("debian/")),
            keyring: self.key.keyring(),
            ..ArchiveSettings::default()
        })
    }
}
