use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn package(name: &str, version: &str, more: &str) -> String {
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}_{version}.deb\nSize: 12\n\
         SHA256: {ZEROS}\nDescription: what {name} is\n and more\n{more}\n"
    )
}

fn build_into(text: &str, directory: &Path) -> Result<Index, IndexError> {
    let mut bytes = Vec::new();
    let built = Index::build(text.as_bytes(), &mut bytes)?;
    assert_eq!(built.bytes, bytes.len() as u64);
    let path = directory.join("test.idx");
    std::fs::write(&path, bytes).unwrap();
    Index::open(&path)
}

fn sample() -> String {
    [
        package("zlib1g", "1:1.3", "Essential: no\n"),
        package("dash", "0.5", "Essential: yes\nMulti-Arch: foreign\n"),
        package(
            "mawk",
            "1.3",
            "Provides: awk, awk:any, posix-awk (= 1.3)\nSource: mawk-src (1.2)\nDepends: a,\n b\n",
        ),
        package("gawk", "5", "Provides: awk\nPre-Depends: libc6 (>= 2)\n"),
        package("dash", "0.6", "Installed-Size: 77\n"),
    ]
    .concat()
}

fn names(records: Vec<Record<'_>>) -> Vec<String> {
    records.iter().map(|r| format!("{r:?}")).collect()
}

#[test]
fn records_are_found_by_name_by_provided_name_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let index = build_into(&sample(), directory.path()).unwrap();
    assert_eq!(index.len(), 5);
    assert_eq!(
        names(index.named("dash").unwrap()),
        ["dash 0.5 amd64", "dash 0.6 amd64"]
    );
    assert!(index.named("das").unwrap().is_empty());
    assert!(index.contains("mawk") && !index.contains("awk"));
    assert_eq!(
        names(index.providing("awk").unwrap()),
        ["gawk 5 amd64", "mawk 1.3 amd64"]
    );
    assert_eq!(
        names(index.providing("posix-awk").unwrap()),
        ["mawk 1.3 amd64"]
    );
    assert!(index.providing("mawk").unwrap().is_empty());
    assert_eq!(names(index.essential().unwrap()), ["dash 0.5 amd64"]);
    let all: Vec<_> = index.records().unwrap().map(|r| r.name()).collect();
    assert_eq!(all, ["dash", "dash", "gawk", "mawk", "zlib1g"]);
    assert_eq!(all, index.names().collect::<Vec<_>>());
    for record in index.records().unwrap() {
        assert_eq!(
            index.record(record.id()).unwrap().version(),
            record.version()
        );
    }
}

#[test]
fn a_record_is_what_the_archive_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let index = build_into(&sample(), directory.path()).unwrap();
    let mawk = index.named("mawk").unwrap()[0];
    assert_eq!(mawk.depends(), "a,  b");
    assert_eq!(mawk.provides(), "awk, awk:any, posix-awk (= 1.3)");
    assert_eq!((mawk.source(), mawk.source_version()), ("mawk-src", "1.2"));
    assert_eq!(mawk.description(), "what mawk is");
    assert_eq!(mawk.filename(), "pool/mawk_1.3.deb");
    assert_eq!((mawk.size(), mawk.installed_size()), (12, 0));
    assert_eq!(mawk.sha256().to_string(), ZEROS);
    assert_eq!(mawk.multi_arch(), MultiArch::No);
    assert!(!mawk.is_essential());
    let [old, new] = index.named("dash").unwrap()[..] else {
        panic!("two versions of dash");
    };
    assert!(old.is_essential() && old.multi_arch() == MultiArch::Foreign);
    assert_eq!((old.source(), old.source_version()), ("dash", "0.5"));
    assert_eq!(new.installed_size(), 77);
    let gawk = index.named("gawk").unwrap()[0];
    assert_eq!(gawk.pre_depends(), "libc6 (>= 2)");
    assert_eq!(
        (gawk.recommends(), gawk.conflicts(), gawk.breaks()),
        ("", "", "")
    );
}

#[test]
fn what_a_terminal_would_obey_is_blanked() {
    let directory = tempfile::tempdir().unwrap();
    let text = package("evil", "1", "").replace("what evil is", "\u{1b}]0;owned\u{9b}1m n\u{e4}me");
    let index = build_into(&text, directory.path()).unwrap();
    assert_eq!(
        index.named("evil").unwrap()[0].description(),
        " ]0;owned 1m n\u{e4}me"
    );
}

#[test]
fn hostile_packages_are_refused_by_line() {
    let good = package("a", "1", "");
    for (from, to, line) in [
        ("Package: a\n", "", 1),
        ("Package: a\n", "Package: ../a\n", 1),
        ("Package: a\n", "Package: -rf\n", 1),
        ("Package: a\n", "Package: a\nPackage: b\n", 2),
        ("Version: 1\n", "Version: 1\nVersion: 2\n", 3),
        ("Version: 1\n", "Version: 1/../../x\n", 2),
        ("Version: 1\n", "", 1),
        ("pool/a_1.deb", "../../etc/passwd", 4),
        ("pool/a_1.deb", "/etc/passwd", 4),
        ("pool/a_1.deb", "pool/./a", 4),
        ("pool/a_1.deb", "http://example.org/a", 4),
        ("pool/a_1.deb", "pool/a?x", 4),
        ("Size: 12", "Size: -12", 5),
        ("Size: 12", "Size: 1e3", 5),
        ("Size: 12", "Size: 99999999999999999999", 5),
        ("Size: 12\n", "", 1),
        (ZEROS, "00", 6),
        (ZEROS, "zz", 6),
    ] {
        assert!(good.contains(from), "{from:?}");
        // A good package before, so that the line is not the first by chance.
        let text = format!("{good}{}", good.replacen(from, to, 1));
        let before = good.lines().count() as u64;
        match Index::build(text.as_bytes(), &mut Vec::new()) {
            Err(IndexError::Package { line: found, .. }) => {
                assert_eq!(found, before + line, "{to:?}");
            }
            other => panic!("{to:?}: {other:?}"),
        }
    }
    let garbage = format!("{good}garbage\n");
    assert!(matches!(
        Index::build(garbage.as_bytes(), &mut Vec::new()),
        Err(IndexError::Control(e)) if e.line == 10
    ));
}

#[test]
fn an_empty_list_is_an_empty_index() {
    let directory = tempfile::tempdir().unwrap();
    let index = build_into("", directory.path()).unwrap();
    assert!(index.is_empty() && index.named("a").unwrap().is_empty());
    assert!(index.essential().unwrap().is_empty() && index.providing("a").unwrap().is_empty());
    index.verify().unwrap();
}

#[test]
fn many_blocks_hold_together() {
    let directory = tempfile::tempdir().unwrap();
    let depends = format!(
        "Depends: {}\n",
        vec!["some-library (>= 1.0)"; 40].join(", ")
    );
    let text: String = (0..500)
        .map(|n| package(&format!("p{n:03}"), "1", &depends))
        .collect();
    let index = build_into(&text, directory.path()).unwrap();
    assert!(index.blocks.len() > 4);
    for n in 0..500 {
        let name = format!("p{n:03}");
        let found = index.named(&name).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].filename(), format!("pool/{name}_1.deb"));
    }
    assert_eq!(index.records().unwrap().count(), 500);
}

/// The bytes of the format: when this fails, the version has to go up.
#[test]
fn the_format_is_the_golden_one() {
    let mut bytes = Vec::new();
    Index::build(sample().as_bytes(), &mut bytes).unwrap();
    let golden = include_bytes!("golden-v1.idx");
    assert!(bytes == golden, "another file than index/golden-v1.idx");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("golden.idx");
    std::fs::write(&path, golden).unwrap();
    Index::open(&path).unwrap().verify().unwrap();
}

/// Everything an index says.
fn all(path: &Path) -> Result<String, IndexError> {
    let index = Index::open(path)?;
    index.verify()?;
    let mut said = String::new();
    for r in index.records()? {
        said += &format!(
            "{r:?} {} {} {} {:?} {} {}\n",
            r.depends(),
            r.provides(),
            r.sha256(),
            r.multi_arch(),
            r.size(),
            r.description()
        );
    }
    said += &format!(
        "{:?} {:?}",
        names(index.essential()?),
        names(index.providing("awk")?)
    );
    Ok(said)
}

#[test]
fn a_truncated_file_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    Index::build(sample().as_bytes(), &mut bytes).unwrap();
    let path = directory.path().join("cut.idx");
    for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(
            matches!(all(&path), Err(IndexError::Corrupt { .. })),
            "{length}"
        );
    }
    std::fs::write(&path, &bytes).unwrap();
    all(&path).unwrap();
    assert!(matches!(
        Index::open(&directory.path().join("none")),
        Err(IndexError::Open { .. })
    ));
}

proptest! {
    #[test]
    fn a_damaged_file_never_answers(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        Index::build(sample().as_bytes(), &mut bytes).unwrap();
        let path = directory.path().join("damaged.idx");
        std::fs::write(&path, &bytes).unwrap();
        let whole = all(&path).unwrap();
        let at = at.index(bytes.len());
        let same = bytes[at] == to;
        bytes[at] = to;
        std::fs::write(&path, &bytes).unwrap();
        match all(&path) {
            // The first magic is for people and `file`; nothing is read from it.
            Ok(said) => {
                prop_assert!(same || at < format::MAGIC.len());
                prop_assert_eq!(said, whole);
            }
            Err(IndexError::Corrupt { .. }) => prop_assert!(!same),
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }

    #[test]
    fn whatever_goes_in_comes_out(
        packages in prop::collection::vec(
            ("[a-z][a-z0-9+.-]{0,8}", "[0-9a-z.+~-]{1,6}", "[ -~\u{e4}]{0,30}", prop::collection::vec("[a-z]{1,3}", 0..4)),
            0..20,
        )
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut text = String::new();
        let mut by_name: BTreeMap<&str, Vec<(&str, String)>> = BTreeMap::new();
        let mut providers: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, version, depends, provides) in &packages {
            let mut more = format!("Depends: {depends}\n");
            if !provides.is_empty() {
                more += &format!("Provides: {}\n", provides.join(" (= 1), "));
            }
            text += &package(name, version, &more);
            by_name.entry(name).or_default().push((version, depends.trim().to_owned()));
            let mut distinct: Vec<_> = provides.iter().map(String::as_str).collect();
            distinct.sort_unstable();
            distinct.dedup();
            for name in distinct {
                *providers.entry(name).or_default() += 1;
            }
        }
        let index = build_into(&text, directory.path()).unwrap();
        for (name, expected) in &by_name {
            let found: Vec<_> = index
                .named(name)
                .unwrap()
                .iter()
                .map(|r| (r.version(), r.depends().to_owned()))
                .collect();
            prop_assert_eq!(&found, expected);
        }
        for (name, count) in &providers {
            prop_assert_eq!(index.providing(name).unwrap().len(), *count);
        }
        prop_assert_eq!(index.records().unwrap().count(), packages.len());
    }

    #[test]
    fn no_text_panics(text in "((Package|Version|Size|Filename|SHA256|Provides|Description)?:? ?[a-z0-9./(),]{0,12}\n?){0,12}") {
        let _ = Index::build(text.as_bytes(), &mut Vec::new());
    }
}
