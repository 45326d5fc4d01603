//! This is one file because it is one suite: everything a hostile or unlucky archive can do between a channel's name and its
//! opened indexes, each against the same small signed archive on loopback.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    testing::{PLAIN, Publication, TestArchive, XZ, packages, publication, xz},
    *,
};
use crate::{
    fetch::{FetchError, FetchSettings, Fetcher, testing::fetcher},
    progress::Silent,
    provider::debian::{
        index::IndexError,
        trust::{
            TrustError,
            testing::{BORN, TestKey, moment},
        },
    },
};

const DAY: u32 = 24 * 3600;

impl TestArchive {
    async fn refresh(&self, cache: &Path) -> Result<ChannelIndexes, ArchiveError> {
        self.refresh_at(cache, BORN + DAY, false).await
    }

    async fn refresh_at(
        &self,
        cache: &Path,
        now: u32,
        accept_expired: bool,
    ) -> Result<ChannelIndexes, ArchiveError> {
        self.archive()
            .refresh(
                &trixie(),
                &fetcher(),
                cache,
                moment(now),
                accept_expired,
                &Silent,
            )
            .await
    }

    fn asked_for(&self, part: &str) -> usize {
        let requests = self.server.requests();
        let part = part.to_lowercase();
        requests.iter().filter(|r| r.path.contains(&part)).count()
    }
}

fn trixie() -> Channel {
    "debian:trixie".parse().unwrap()
}

fn names(indexes: &ChannelIndexes) -> Vec<(&str, Vec<&str>)> {
    indexes
        .suites
        .iter()
        .map(|suite| (suite.name.as_str(), suite.index.names().collect()))
        .collect()
}

/// Every file of the cache.
fn held(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(held(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn index_files(cache: &Path) -> Vec<PathBuf> {
    held(&cache.join("indexes"))
}

async fn with_three_suites() -> TestArchive {
    let archive = TestArchive::new().await;
    archive.publish(&publication("trixie", &["hello", "bash"]));
    archive.publish(&publication("trixie-updates", &["tzdata"]));
    archive.publish(&publication("trixie-security", &["bash"]));
    archive
}

#[tokio::test]
async fn a_channel_is_its_suites_and_opens_again_without_a_network() {
    let archive = with_three_suites().await;
    let cache = tempfile::tempdir().unwrap();
    assert!(
        archive
            .archive()
            .open_cached(&trixie(), cache.path())
            .is_none()
    );
    let fresh = archive.refresh(cache.path()).await.unwrap();
    let expected = [
        ("trixie", vec!["bash", "hello"]),
        ("trixie-updates", vec!["tzdata"]),
        ("trixie-security", vec!["bash"]),
    ];
    assert_eq!(names(&fresh), expected);
    assert!(fresh.absent.is_empty());
    let security = &fresh.suites[2];
    assert_eq!(security.base_url, archive.server.url("debian-security"));
    assert_eq!(security.release_date, moment(BORN + 100));
    let served =
        archive.files.lock().unwrap()["debian-security/dists/trixie-security/inrelease"].clone();
    assert_eq!(security.release_digest, Digest::of(&served));
    // The lists themselves are not kept.
    assert!(held(&cache.path().join("partial")).is_empty());

    let asked = archive.server.requests().len();
    let cached = archive
        .archive()
        .open_cached(&trixie(), cache.path())
        .unwrap();
    assert_eq!(names(&cached), expected);
    assert_eq!(cached.suites[2].release_digest, security.release_digest);
    assert_eq!(archive.server.requests().len(), asked);

    // Looking again costs the three InReleases alone.
    archive.refresh(cache.path()).await.unwrap();
    assert_eq!(archive.server.requests().len(), asked + 3);
}

#[tokio::test]
async fn suites_that_a_channel_can_do_without_may_be_absent() {
    let archive = TestArchive::new().await;
    archive.publish(&publication("trixie", &["hello"]));
    let cache = tempfile::tempdir().unwrap();
    let fresh = archive.refresh(cache.path()).await.unwrap();
    assert_eq!(fresh.absent, ["trixie-updates", "trixie-security"]);
    let cached = archive
        .archive()
        .open_cached(&trixie(), cache.path())
        .unwrap();
    assert_eq!(cached.absent, fresh.absent);
    assert_eq!(names(&cached), [("trixie", vec!["hello"])]);

    // One that comes later is found.
    archive.publish(&publication("trixie-security", &["hello"]));
    let fresh = archive.refresh(cache.path()).await.unwrap();
    assert_eq!(fresh.absent, ["trixie-updates"]);
    // One that was there and is gone is how updates are kept from people.
    archive.remove("debian-security/dists/trixie-security/InRelease");
    let error = archive.refresh(cache.path()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Vanished { .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_suite_is_an_error_that_names_the_known_ones() {
    let archive = TestArchive::new().await;
    let cache = tempfile::tempdir().unwrap();
    let error = archive.refresh(cache.path()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::NoSuite { .. }));
    assert!(error.to_string().contains("bookworm"), "{error}");
    assert!(held(cache.path()).is_empty());
}

#[tokio::test]
async fn what_is_not_signed_by_a_trusted_key_is_refused_and_not_kept() {
    let archive = with_three_suites().await;
    let path = "debian/dists/trixie/inrelease";
    let good = archive.files.lock().unwrap()[path].clone();
    let good = String::from_utf8(good).unwrap();
    let stranger = TestKey::new().sign(&signed_part(&good));
    let tampered = good.replacen("Origin: Test", "Origin: Evil", 1);
    for (bad, appended) in [
        (stranger, false),
        (tampered, false),
        (format!("{good}\nOrigin: Evil\n"), true),
        (signed_part(&good), true),
    ] {
        archive.put(path, bad);
        let cache = tempfile::tempdir().unwrap();
        match archive.refresh(cache.path()).await {
            Err(ArchiveError::Trust { source, suite, .. }) => {
                assert_eq!(suite, "trixie");
                assert_eq!(matches!(source, TrustError::Frame { .. }), appended);
            }
            other => panic!("{other:?}"),
        }
        assert!(held(cache.path()).is_empty());
    }
}

fn signed_part(text: &str) -> String {
    let start = text.find("\n\n").unwrap() + 2;
    text[start..text.find("\n-----BEGIN PGP SIGNATURE").unwrap()].to_owned()
}

#[tokio::test]
async fn another_suite_under_the_name_is_refused() {
    let archive = with_three_suites().await;
    let mut old = publication("bookworm", &["vulnerable"]);
    old.suite = "oldstable".to_owned();
    archive.publish(&old);
    let served = archive.files.lock().unwrap()["debian/dists/bookworm/inrelease"].clone();
    archive.put("debian/dists/trixie/InRelease", served);
    let cache = tempfile::tempdir().unwrap();
    match archive.refresh(cache.path()).await {
        Err(ArchiveError::WrongSuite { found, suite, .. }) => {
            assert_eq!((found.as_str(), suite.as_str()), ("bookworm", "trixie"));
        }
        other => panic!("{other:?}"),
    }
    // By what it is for, it is right.
    let mut stable = publication("bookworm", &["hello"]);
    stable.suite = "trixie".to_owned();
    archive.publish(&stable);
    let served = archive.files.lock().unwrap()["debian/dists/bookworm/inrelease"].clone();
    archive.put("debian/dists/trixie/InRelease", served);
    for (path, bytes) in &stable.listed {
        archive.put(&format!("debian/dists/trixie/{path}"), bytes.clone());
    }
    archive.refresh(cache.path()).await.unwrap();
}

#[tokio::test]
async fn time_does_not_run_backwards() {
    let archive = with_three_suites().await;
    let cache = tempfile::tempdir().unwrap();
    let mut newer = publication("trixie", &["fixed"]);
    newer.date += 1000;
    archive.publish(&newer);
    archive.refresh(cache.path()).await.unwrap();
    let before = held(cache.path());
    archive.publish(&publication("trixie", &["vulnerable"]));
    match archive.refresh(cache.path()).await {
        Err(ArchiveError::Rollback { offered, known, .. }) => {
            assert_eq!((offered, known), (moment(BORN + 100), moment(BORN + 1100)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(held(cache.path()), before);
    let cached = archive
        .archive()
        .open_cached(&trixie(), cache.path())
        .unwrap();
    assert_eq!(names(&cached)[0], ("trixie", vec!["fixed"]));
    newer.date += 1000;
    archive.publish(&newer);
    archive.refresh(cache.path()).await.unwrap();
}

#[tokio::test]
async fn an_expired_index_is_refused_unless_accepted_or_pinned() {
    let archive = with_three_suites().await;
    let mut short = publication("trixie", &["hello"]);
    short.valid_until = Some(BORN + DAY);
    archive.publish(&short);
    let cache = tempfile::tempdir().unwrap();
    let later = BORN + 2 * DAY;
    let error = archive
        .refresh_at(cache.path(), later, false)
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("trixie")
            && message.contains("2026-01-02")
            && message.contains("accept-expired"),
        "{message}"
    );
    let accepted = archive.refresh_at(cache.path(), later, true).await.unwrap();
    assert!(accepted.check_validity(moment(later), false).is_err());
    assert!(accepted.check_validity(moment(later), true).is_ok());
    assert!(accepted.check_validity(moment(BORN + 200), false).is_ok());
    // The bytes are known by now, and still not valid.
    assert!(
        archive
            .refresh_at(cache.path(), later, false)
            .await
            .is_err()
    );
    let early = archive.refresh_at(cache.path(), BORN - 3 * DAY, true).await;
    assert!(early.is_err());
}

#[tokio::test]
async fn a_pinned_channel_comes_from_the_snapshot_service_and_does_not_age() {
    let archive = TestArchive::new().await;
    let mut pinned = publication("trixie", &["hello"]);
    pinned.valid_until = Some(BORN + DAY);
    archive.publish(&pinned);
    let moved: Vec<_> = archive.files.lock().unwrap().drain().collect();
    for (path, bytes) in moved {
        let below = path.strip_prefix("debian/").unwrap();
        archive.put(&format!("archive/debian/20260101t000200z/{below}"), bytes);
    }
    let channel: Channel = "debian:trixie@20260101T000200Z".parse().unwrap();
    let archive_there = Archive::new(ArchiveSettings {
        snapshot: Some(archive.server.url("")),
        keyring: archive.key.keyring(),
        ..ArchiveSettings::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let now = moment(BORN + 300 * DAY);
    let fresh = archive_there
        .refresh(&channel, &fetcher(), cache.path(), now, false, &Silent)
        .await
        .unwrap();
    assert_eq!(names(&fresh), [("trixie", vec!["hello"])]);
    assert!(fresh.check_validity(now, false).is_ok());
    assert!(archive_there.open_cached(&channel, cache.path()).is_some());
}

#[tokio::test]
async fn a_list_is_fetched_by_hash_or_by_name() {
    // By hash: the plain name is of the next version already.
    let archive = with_three_suites().await;
    archive.put(&format!("debian/dists/trixie/{XZ}"), "the next version");
    let cache = tempfile::tempdir().unwrap();
    archive.refresh(cache.path()).await.unwrap();
    // By name: the mirror does not keep hashes.
    let archive = with_three_suites().await;
    archive
        .files
        .lock()
        .unwrap()
        .retain(|path, _| !path.contains("by-hash"));
    let cache = tempfile::tempdir().unwrap();
    archive.refresh(cache.path()).await.unwrap();
    assert_eq!(archive.asked_for("by-hash"), 3);
}

#[tokio::test]
async fn every_packing_is_read() {
    let text = packages(&["hello"]).into_bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    let gzip = gzip.finish().unwrap();
    for listed in [
        vec![(PLAIN.to_owned(), text.clone())],
        vec![(format!("{PLAIN}.gz"), gzip)],
        vec![(XZ.to_owned(), xz(&text))],
    ] {
        let archive = TestArchive::new().await;
        let published = Publication {
            listed,
            ..publication("trixie", &[])
        };
        archive.publish(&published);
        let cache = tempfile::tempdir().unwrap();
        let fresh = archive.refresh(cache.path()).await.unwrap();
        assert_eq!(names(&fresh), [("trixie", vec!["hello"])]);
    }
}

#[tokio::test]
async fn a_tampered_list_is_refused_and_what_was_kept_stays() {
    let archive = with_three_suites().await;
    let cache = tempfile::tempdir().unwrap();
    archive.refresh(cache.path()).await.unwrap();
    let before = held(cache.path());
    let mut newer = publication("trixie", &["hello", "more"]);
    newer.date += 10;
    archive.publish(&newer);
    let digest = Digest::of(&newer.listed[0].1);
    let mut evil = newer.listed[0].1.clone();
    evil[20] ^= 1;
    archive.put(&format!("debian/dists/trixie/{XZ}"), evil.clone());
    archive.put(
        &format!("debian/dists/trixie/main/binary-amd64/by-hash/SHA256/{digest}"),
        evil,
    );
    let error = archive.refresh(cache.path()).await.unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("the list of packages of suite trixie"),
        "{message}"
    );
    assert!(matches!(
        error,
        ArchiveError::Fetch(FetchError::Nowhere { .. })
    ));
    assert_eq!(held(cache.path()), before);
}

#[tokio::test]
async fn a_list_that_unpacks_to_something_else_is_refused() {
    let text = packages(&["hello"]).into_bytes();
    let other = packages(&["jello"]).into_bytes();
    let bomb = [&text[..], &vec![b'\n'; 10_000_000]].concat();
    for (packed, what) in [
        (xz(&other), "digest"),
        (xz(&bomb), "bomb"),
        (xz(&text[..text.len() - 40]), "short"),
        (xz(&text)[..60].to_vec(), "cut"),
        (b"no xz at all".to_vec(), "garbage"),
    ] {
        let archive = TestArchive::new().await;
        let published = Publication {
            listed: vec![(XZ.to_owned(), packed), (PLAIN.to_owned(), text.clone())],
            ..publication("trixie", &[])
        };
        archive.publish(&published);
        let cache = tempfile::tempdir().unwrap();
        match archive.refresh(cache.path()).await {
            Err(ArchiveError::WrongPackages { .. }) if what == "digest" => {}
            Err(ArchiveError::Index { source, .. }) if what != "digest" => match source {
                IndexError::Read(_) => assert_ne!(what, "short"),
                // The last field is gone.
                IndexError::Package { .. } => assert_eq!(what, "short"),
                other => panic!("{what}: {other:?}"),
            },
            other => panic!("{what}: {other:?}"),
        }
        assert!(index_files(cache.path()).is_empty(), "{what}");
        assert!(
            archive
                .archive()
                .open_cached(&trixie(), cache.path())
                .is_none()
        );
    }
}

#[tokio::test]
async fn a_damaged_index_is_made_anew() {
    let archive = with_three_suites().await;
    let cache = tempfile::tempdir().unwrap();
    archive.refresh(cache.path()).await.unwrap();
    let whole: Vec<_> = index_files(cache.path())
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    assert_eq!(whole.len(), 3);
    for (bytes, path) in &whole {
        for damage in [&bytes[..bytes.len() / 2], b"", &bytes[1..]] {
            fs::write(path, damage).unwrap();
            assert!(
                archive
                    .archive()
                    .open_cached(&trixie(), cache.path())
                    .is_none()
            );
            archive.refresh(cache.path()).await.unwrap();
            assert_eq!(&fs::read(path).unwrap(), bytes);
        }
        // Damage that opening does not see, as it is in a part that is read when it is wanted.
        let mut damaged = bytes.clone();
        damaged[30] ^= 1;
        fs::write(path, damaged).unwrap();
        archive.refresh(cache.path()).await.unwrap();
        assert_eq!(&fs::read(path).unwrap(), bytes);
    }
    fs::remove_file(&whole[0].1).unwrap();
    assert!(
        archive
            .archive()
            .open_cached(&trixie(), cache.path())
            .is_none()
    );
}

#[tokio::test]
async fn components_are_taken_as_configured() {
    let archive = TestArchive::new().await;
    let mut published = publication("trixie", &["hello"]);
    let contrib = packages(&["rar"]).into_bytes();
    published
        .listed
        .push(("contrib/binary-amd64/Packages.xz".to_owned(), xz(&contrib)));
    archive.publish(&published);
    archive.publish(&publication("trixie-updates", &["tzdata"]));
    let cache = tempfile::tempdir().unwrap();
    archive.refresh(cache.path()).await.unwrap();
    let with = |components: &[&str], architecture: &str| {
        Archive::new(ArchiveSettings {
            components: components.iter().map(|c| (*c).to_owned()).collect(),
            architecture: architecture.to_owned(),
            ..archive.archive().settings().clone()
        })
    };
    let both = with(&["main", "contrib"], "amd64");
    // An index that is not there yet is no cached channel.
    assert!(both.open_cached(&trixie(), cache.path()).is_none());
    let now = moment(BORN + DAY);
    let fetcher = fetcher();
    let fresh = both
        .refresh(&trixie(), &fetcher, cache.path(), now, false, &Silent)
        .await
        .unwrap();
    let found: Vec<_> = fresh
        .suites
        .iter()
        .map(|s| (s.name.as_str(), s.component.as_str()))
        .collect();
    // Updates without contrib are whole.
    assert_eq!(
        found,
        [
            ("trixie", "main"),
            ("trixie", "contrib"),
            ("trixie-updates", "main")
        ]
    );
    for (archive, missing) in [
        (with(&["main", "contirb"], "amd64"), "contirb"),
        (with(&["main"], "m68k"), "m68k"),
    ] {
        let error = archive
            .refresh(&trixie(), &fetcher, cache.path(), now, false, &Silent)
            .await
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(missing) && message.contains("contrib"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn offline_the_cache_is_enough_and_refreshing_says_so() {
    let archive = with_three_suites().await;
    let cache = tempfile::tempdir().unwrap();
    archive.refresh(cache.path()).await.unwrap();
    let offline = Fetcher::new(FetchSettings {
        offline: true,
        ..FetchSettings::default()
    });
    let error = archive
        .archive()
        .refresh(
            &trixie(),
            &offline,
            cache.path(),
            moment(BORN + DAY),
            false,
            &Silent,
        )
        .await
        .unwrap_err();
    assert!(error.is_offline());
    assert!(error.to_string().contains("suite trixie"), "{error}");
    assert!(
        archive
            .archive()
            .open_cached(&trixie(), cache.path())
            .is_some()
    );
}

#[tokio::test]
async fn two_refreshes_at_once_both_succeed() {
    let archive = with_three_suites().await;
    let cache = tempfile::tempdir().unwrap();
    let all = futures_util::future::join_all((0..4).map(|_| archive.refresh(cache.path()))).await;
    for one in all {
        assert_eq!(one.unwrap().suites.len(), 3);
    }
    assert_eq!(index_files(cache.path()).len(), 3);
    assert!(held(&cache.path().join("partial")).is_empty());
}

#[tokio::test]
async fn pruning_removes_what_no_kept_release_names() {
    let archive = with_three_suites().await;
    let cache = tempfile::tempdir().unwrap();
    archive.refresh(cache.path()).await.unwrap();
    let mut newer = publication("trixie", &["hello", "more"]);
    newer.date += 10;
    archive.publish(&newer);
    archive.refresh(cache.path()).await.unwrap();
    let leftover = cache.path().join("indexes/1-1.tmp");
    fs::write(&leftover, "half").unwrap();
    assert_eq!(index_files(cache.path()).len(), 5);
    let now = SystemTime::now();
    assert!(prune(cache.path(), now).unwrap() > 0);
    // What may still be being written stays for a day.
    assert!(leftover.exists());
    assert_eq!(index_files(cache.path()).len(), 4);
    prune(cache.path(), now + Duration::from_secs(2 * 24 * 3600)).unwrap();
    assert!(!leftover.exists());
    assert!(
        archive
            .archive()
            .open_cached(&trixie(), cache.path())
            .is_some()
    );
    assert_eq!(prune(&cache.path().join("none"), now).unwrap(), 0);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_says_where() {
    let archive = with_three_suites().await;
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("a file");
    fs::write(&cache, "").unwrap();
    let error = archive.refresh(&cache).await.unwrap_err();
    assert!(error.to_string().contains("a file"), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<io::Error>().is_some());
}

fn urls(settings: ArchiveSettings, channel: &str) -> Vec<(String, bool)> {
    Archive::new(settings)
        .suites(&channel.parse().unwrap())
        .into_iter()
        .map(|s| (format!("{}/dists/{}", s.base_url, s.name), s.optional))
        .collect()
}

#[test]
fn suites_have_their_addresses() {
    let own = |text: &str, optional| (text.to_owned(), optional);
    assert_eq!(
        urls(ArchiveSettings::default(), "debian:trixie"),
        [
            own("https://deb.debian.org/debian/dists/trixie", false),
            own("https://deb.debian.org/debian/dists/trixie-updates", true),
            own(
                "https://deb.debian.org/debian-security/dists/trixie-security",
                true
            ),
        ]
    );
    let mirror = |mirror: &str, security: Option<&str>| ArchiveSettings {
        mirror: Some(mirror.to_owned()),
        security_mirror: security.map(str::to_owned),
        ..ArchiveSettings::default()
    };
    assert_eq!(
        urls(
            mirror("http://m.example.org/debian/", None),
            "debian:trixie"
        )[2]
        .0,
        "http://m.example.org/debian-security/dists/trixie-security"
    );
    assert_eq!(
        urls(
            mirror("http://m.example.org/d", Some("http://s.example.org/")),
            "debian:trixie"
        )[2]
        .0,
        "http://s.example.org/dists/trixie-security"
    );
    for alone in ["sid", "unstable", "experimental", "trixie-backports"] {
        let urls = urls(
            mirror("http://m.example.org", None),
            &format!("debian:{alone}"),
        );
        assert_eq!(
            urls,
            [(format!("http://m.example.org/dists/{alone}"), false)]
        );
    }
    let pinned = urls(
        mirror("http://m.example.org", None),
        "debian:bookworm@20260901T000000Z",
    );
    assert_eq!(
        pinned[0].0,
        "https://snapshot.debian.org/archive/debian/20260901T000000Z/dists/bookworm"
    );
    assert_eq!(
        pinned[2].0,
        "https://snapshot.debian.org/archive/debian-security/20260901T000000Z/dists/bookworm-security"
    );
}

#[test]
fn a_locked_file_is_sought_at_the_mirror_and_then_in_the_past() {
    let archive = Archive::new(ArchiveSettings::default());
    let date = "2026-09-12T07:55:41Z".parse().unwrap();
    assert_eq!(
        archive.artifact_urls(&trixie(), "trixie-security", "pool/b/bash.deb", date),
        [
            "https://deb.debian.org/debian-security/pool/b/bash.deb",
            "https://snapshot.debian.org/archive/debian-security/20260912T195541Z/pool/b/bash.deb",
        ]
    );
    let pinned = "debian:trixie@20260901T000000Z".parse().unwrap();
    assert_eq!(
        archive.artifact_urls(&pinned, "trixie", "pool/b/bash.deb", date),
        ["https://snapshot.debian.org/archive/debian/20260901T000000Z/pool/b/bash.deb"]
    );
}
