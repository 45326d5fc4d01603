//! Which packages bring a command that is not there: told at once and offline, from what is at hand, so that whoever missed it knows
//! what to ask for.
//!
//! Indexes do not say which files packages have. Three sources are next to them: the roots that were realised before, for any
//! project, whose dpkg databases do say it; the many packages that are named like their command; and a list of those that
//! are not, of commands that people and agents miss most. All of it is a hint: only packages that the channels have are
//! named, and none where nothing is known.

use std::{
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use super::Local;
use crate::{
    cli::Failure,
    provider::{Channel, debian::index::Index},
};

/// Packages that are named at most.
const MOST: usize = 4;
/// Roots that are looked into at most.
const MOST_VIEWS: usize = 64;
/// Links that are followed at most: by way of `/etc/alternatives` there are two.
const MOST_LINKS: usize = 5;
/// The longest name of a command that is looked for.
const LONGEST: usize = 64;
/// Where commands are.
const DIRECTORIES: [&str; 3] = ["usr/bin", "usr/sbin", "usr/games"];

/// Commands whose packages are named otherwise, in Debian.
const ELSEWHERE: [(&str, &str); 61] = [
    ("7z", "7zip"),
    ("ab", "apache2-utils"),
    ("ar", "binutils"),
    ("as", "binutils"),
    ("autoreconf", "autoconf"),
    ("bundle", "bundler"),
    ("c++", "g++"),
    ("cc", "gcc"),
    ("clang-format", "clang-format"),
    ("compare", "imagemagick"),
    ("convert", "imagemagick"),
    ("createdb", "postgresql-client"),
    ("dig", "bind9-dnsutils"),
    ("dot", "graphviz"),
    ("ex", "vim"),
    ("fc-list", "fontconfig"),
    ("fdfind", "fd-find"),
    ("ffprobe", "ffmpeg"),
    ("fuser", "psmisc"),
    ("go", "golang-go"),
    ("gofmt", "golang-go"),
    ("gs", "ghostscript"),
    ("host", "bind9-host"),
    ("ifconfig", "net-tools"),
    ("ip", "iproute2"),
    ("jar", "default-jdk-headless"),
    ("java", "default-jre-headless"),
    ("javac", "default-jdk-headless"),
    ("killall", "psmisc"),
    ("ld", "binutils"),
    ("mcs", "mono-mcs"),
    ("mvn", "maven"),
    ("mysql", "default-mysql-client"),
    ("nc", "netcat-openbsd"),
    ("netstat", "net-tools"),
    ("nm", "binutils"),
    ("node", "nodejs"),
    ("npx", "npm"),
    ("nslookup", "bind9-dnsutils"),
    ("objdump", "binutils"),
    ("pdftotext", "poppler-utils"),
    ("perf", "linux-perf"),
    ("pg_dump", "postgresql-client"),
    ("ping", "iputils-ping"),
    ("pip", "python3-pip"),
    ("pip3", "python3-pip"),
    ("pkg-config", "pkgconf"),
    ("pkill", "procps"),
    ("ps", "procps"),
    ("psql", "postgresql-client"),
    ("pytest", "python3-pytest"),
    ("python", "python-is-python3"),
    ("readelf", "binutils"),
    ("redis-cli", "redis-tools"),
    ("rg", "ripgrep"),
    ("ss", "iproute2"),
    ("ssh", "openssh-client"),
    ("strip", "binutils"),
    ("top", "procps"),
    ("vi", "vim"),
    ("xz", "xz-utils"),
];

/// Packages of these channels that bring a command, the likeliest first.
pub(super) fn packages(
    local: &Local,
    channels: &[Channel],
    command: &str,
) -> Result<Vec<String>, Failure> {
    let Some(command) = name_of(command) else {
        return Ok(Vec::new());
    };
    let (archive, store) = (local.archive()?, local.store()?);
    let cache = store.path("indexes");
    // What is not at hand is not fetched for a hint, and what is old is good enough for one.
    let opened: Vec<_> = channels
        .iter()
        .filter_map(|channel| archive.open_cached(channel, &cache))
        .collect();
    let indexes: Vec<&Index> = opened
        .iter()
        .flat_map(|channel| channel.indexes())
        .collect();
    let mut found = Vec::new();
    let mut name = |package: &str| {
        let known = indexes.iter().any(|index| index.contains(package));
        if known && found.len() < MOST && !found.iter().any(|other| other == package) {
            found.push(package.to_owned());
        }
    };
    for package in realised(&store.path("views"), command) {
        name(&package);
    }
    name(command);
    let elsewhere = ELSEWHERE.iter().filter(|(other, _)| *other == command);
    elsewhere.for_each(|(_, package)| name(package));
    for index in &indexes {
        for record in index.providing(command).unwrap_or_default() {
            name(record.name());
        }
    }
    Ok(found)
}

/// The name of a command, without the directory where it was looked for.
fn name_of(command: &str) -> Option<&str> {
    let name = command.rsplit('/').next().unwrap_or_default();
    let usable = (1..=LONGEST).contains(&name.len())
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
    usable.then_some(name)
}

/// Packages that brought a command into one of the roots in this directory.
fn realised(views: &Path, command: &str) -> Vec<String> {
    let mut found = Vec::new();
    for view in fs::read_dir(views)
        .into_iter()
        .flatten()
        .flatten()
        .take(MOST_VIEWS)
    {
        let view = view.path();
        for directory in DIRECTORIES {
            let owner = owner(&view, Path::new(directory).join(command));
            found.extend(owner.filter(|owner| !found.contains(owner)));
        }
    }
    found.sort();
    found
}

/// The package of a path in a root; if it is of none, as links of update-alternatives(1) are, that of what it points to.
fn owner(view: &Path, mut path: PathBuf) -> Option<String> {
    for _ in 0..MOST_LINKS {
        fs::symlink_metadata(view.join(&path)).ok()?;
        if let Some(package) = listing(view, &path) {
            return Some(package);
        }
        let target = fs::read_link(view.join(&path)).ok()?;
        // What leads up leads who knows where: a hint is not worth knowing.
        if target.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        path = match target.strip_prefix("/") {
            Ok(inside) => inside.to_owned(),
            Err(_) => path.parent()?.join(target),
        };
    }
    None
}

/// The package in whose list of files a path is (dpkg-query(1), `-S`).
fn listing(view: &Path, path: &Path) -> Option<String> {
    let line = [b"/", path.as_os_str().as_bytes()].concat();
    for entry in fs::read_dir(view.join("var/lib/dpkg/info")).ok()?.flatten() {
        let name = entry.file_name();
        let Some(package) = name.to_str().and_then(|name| name.strip_suffix(".list")) else {
            continue;
        };
        let files = fs::read(entry.path()).unwrap_or_default();
        if files.split(|byte| *byte == b'\n').any(|file| file == line) {
            // `libc6:amd64` is libc6.
            let package = package.split(':').next().unwrap_or(package);
            return Some(package.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_looked_for_by_its_name_alone() {
        assert_eq!(name_of("gcc"), Some("gcc"));
        assert_eq!(name_of("/usr/bin/g++-14"), Some("g++-14"));
        for none in ["", "/", "a b", "..", "a/..", "\u{e9}", &"x".repeat(65)] {
            assert_eq!(name_of(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_list_is_in_order_and_says_nothing_twice() {
        assert!(ELSEWHERE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_root_knows_whose_its_commands_are() {
        let views = tempfile::tempdir().unwrap();
        let view = views.path().join("one");
        let info = view.join("var/lib/dpkg/info");
        for directory in [&view.join("usr/bin"), &view.join("etc/alternatives"), &info] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(info.join("gcc.list"), "/.\n/usr\n/usr/bin/gcc\n").unwrap();
        fs::write(info.join("cpp:amd64.list"), "/usr/bin/cpp\n").unwrap();
        for name in ["gcc", "cpp", "stray"] {
            fs::write(view.join("usr/bin").join(name), "").unwrap();
        }
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, view.join(name)).unwrap();
        };
        link("/etc/alternatives/cc", "usr/bin/cc");
        link("/usr/bin/gcc", "etc/alternatives/cc");
        link("loop", "usr/bin/loop");
        link("../../../../usr/bin/gcc", "usr/bin/out");
        let of = |command: &str| realised(views.path(), command);
        assert_eq!(of("gcc"), ["gcc"]);
        assert_eq!(of("cc"), ["gcc"]);
        assert_eq!(of("cpp"), ["cpp"]);
        for none in ["stray", "loop", "out", "missing"] {
            assert!(of(none).is_empty(), "{none}");
        }
    }
}
