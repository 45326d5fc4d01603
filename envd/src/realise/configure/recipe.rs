//! The recipe: how a composed root is configured by its own dpkg, as data. The data and its version are part of every
//! cached result's key; whoever changes what is done with the data raises the version.
//!
//! Measured on 547 packages of bookworm (2 cores, Linux 6.18): plain `dpkg --configure -a` 9.1 s; byte-compiling later and
//! apart 7.0 s; `update-ca-certificates` once instead of twice, packages without scripts taken as configured, and
//! `ischroot` answering yes (libc6 otherwise sleeps a second for a telinit that is not there) 3 s;
//! with scripts of `ca-certificates` said otherwise ([`super::shortcut`]), on a faster machine, 1.6 s.

use std::collections::BTreeMap;

use envd_store::{Tree, TreePath};

use super::shortcut::SHORTCUTS;

/// Raised whenever the result for the same packages may change.
pub const VERSION: u32 = 2;

/// The moment that everything configured is said to have happened at: 2025-01-01T00:00:00Z, in seconds.
pub const CLOCK: u64 = 1_735_689_600;
/// The same moment as RFC 3339 text.
pub const CLOCK_TEXT: &str = "2025-01-01T00:00:00Z";

/// Where the step's own files are, inside; a tmpfs that is never captured.
pub const WORKPLACE: &str = "/run/envd";

/// A command that is put off: while dpkg runs it only notes its arguments, afterwards it is run for real, apart, and its
/// result kept by its own inputs.
pub struct Deferred {
    /// What the file to be put off looks like: a path without its leading slash; one `*` stands for digits and dots.
    pub pattern: &'static str,
    /// What stands in for it.
    pub stub: Stub,
    /// Which packages' trees its output depends on beside its arguments, by name; one `*` as above.
    pub inputs: &'static [&'static str],
    /// Its option that names a package whose tree it also depends on.
    pub package_option: Option<&'static str>,
    /// Files and directories of the configured root that it also depends on.
    pub files: &'static [&'static str],
    /// Whether it does everything anew each time, so that of several calls the last one is enough.
    pub whole: bool,
    /// It is not put off when the root has something below this directory: hooks with inputs of their own.
    pub unless_below: Option<&'static str>,
}

/// How a stand-in notes its call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stub {
    /// A shell script.
    Shell,
    /// A Python program, started as `INTERPRETER [options] FILE arguments`.
    Python,
}

/// What is put off.
pub const DEFERRED: [Deferred; 3] = [
    Deferred {
        pattern: "usr/sbin/update-ca-certificates",
        stub: Stub::Shell,
        inputs: &["ca-certificates", "openssl"],
        package_option: None,
        files: &[
            "etc/ca-certificates.conf",
            "etc/ssl",
            "usr/local/share/ca-certificates",
        ],
        whole: true,
        unless_below: Some("etc/ca-certificates/update.d"),
    },
    Deferred {
        pattern: "usr/bin/py3compile",
        stub: Stub::Shell,
        inputs: &[
            "python3-minimal",
            "python3.*-minimal",
            "libpython3.*-minimal",
            "libpython3.*-stdlib",
        ],
        package_option: Some("-p"),
        files: &[],
        whole: false,
        unless_below: None,
    },
    Deferred {
        pattern: "usr/lib/python3.*/py_compile.py",
        stub: Stub::Python,
        inputs: &[
            "python3.*-minimal",
            "libpython3.*-minimal",
            "libpython3.*-stdlib",
        ],
        package_option: None,
        files: &[],
        whole: false,
        unless_below: None,
    },
];

/// Small stand-ins whose real selves would wait for, or change, what a build has not: (path, script).
pub const STAND_INS: [(&str, &str); 3] = [
    ("usr/bin/ischroot", "#!/bin/sh\nexit 0\n"),
    // invoke-rc.d asks this whether it may start a service (policy-rc.d interface): never.
    ("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n"),
    ("usr/sbin/start-stop-daemon", "#!/bin/sh\nexit 0\n"),
];

/// What configuration leaves behind that says when or where it ran, not what came of it.
pub fn is_noise(path: &TreePath) -> bool {
    const FILES: [&[u8]; 10] = [
        // Kept apart: that of the whole root is made of it.
        b"var/lib/dpkg/status",
        b"var/log/dpkg.log",
        b"var/log/alternatives.log",
        b"var/cache/ldconfig/aux-cache",
        b"var/lib/dpkg/lock",
        b"var/lib/dpkg/lock-frontend",
        b"var/lib/dpkg/triggers/Lock",
        b"var/lib/dpkg/triggers/Unincorp",
        b"var/lib/dpkg/status-old",
        b"usr/sbin/policy-rc.d",
    ];
    const BELOW: [&[u8]; 8] = [
        b"tmp/",
        b"run/",
        b"dev/",
        b"proc/",
        b"sys/",
        b"var/tmp/",
        b"var/log/journal/",
        b"var/lib/dpkg/updates/",
    ];
    let bytes = path.as_bytes();
    FILES.contains(&bytes)
        || BELOW.iter().any(|below| bytes.starts_with(below))
        || (bytes.starts_with(b"var/cache/debconf/") && bytes.ends_with(b"-old"))
        || (bytes.starts_with(b"var/lib/dpkg/") && bytes.ends_with(b"-old"))
}

/// The environment of every step.
pub fn environment() -> BTreeMap<String, std::ffi::OsString> {
    let clock = CLOCK.to_string();
    [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("DPKG_FORCE", "unsafe-io"),
        ("PYTHONHASHSEED", "0"),
        // Modules are compiled when it is asked for, not when some program happens to import them.
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("SOURCE_DATE_EPOCH", &clock),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.into()))
    .collect()
}

/// Everything of the recipe that is the same for every closure, as words of a key: a changed recipe finds no old results.
pub fn words() -> Vec<String> {
    let mut words = vec![VERSION.to_string()];
    for (name, value) in environment() {
        words.push(format!("{name}={}", value.to_string_lossy()));
    }
    for (path, text) in STAND_INS {
        words.extend([path.to_owned(), text.to_owned()]);
    }
    for deferred in &DEFERRED {
        words.extend([
            deferred.pattern.to_owned(),
            stub(deferred.stub, deferred.pattern),
        ]);
    }
    for shortcut in &SHORTCUTS {
        words.push(shortcut.path.to_owned());
        for (from, to) in shortcut.lines {
            words.extend([(*from).to_owned(), (*to).to_owned()]);
        }
    }
    words
}

/// The script that configures everything: preinsts first, as `dpkg --unpack` would have, then the packages that the others'
/// scripts need without saying so, then all.
pub fn script(tree: &Tree, preinsts: &[String], postinsts: &[String]) -> String {
    let has =
        |path: &str| TreePath::new(path.as_bytes()).is_ok_and(|path| tree.get(&path).is_some());
    let mut text = String::from(
        "set -eu\n\
         umask 022\n\
         step() { echo \"@step $*\"; }\n\
         preinst() {\n\
         \tstep \"preinst $1\"\n\
         \tDPKG_MAINTSCRIPT_PACKAGE=${1%%:*} DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_MAINTSCRIPT_NAME=preinst \
         DPKG_MAINTSCRIPT_ARCH=$(dpkg --print-architecture) DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= DPKG_RUNNING_VERSION=1.21 \
         \"/var/lib/dpkg/info/$1.preinst\" install </dev/null\n\
         }\n",
    );
    // awk is an alternative, and alternatives are made by a postinst that comes later than its first users.
    if has("usr/bin/mawk") && !has("usr/bin/awk") {
        text.push_str("ln -s mawk /usr/bin/awk\n");
    }
    let mut ordered: Vec<&String> = preinsts.iter().collect();
    ordered.sort_by_key(|name| (name.as_str() != "base-passwd", name.as_str()));
    for name in ordered {
        text.push_str(&format!("preinst '{name}'\n"));
    }
    let early: Vec<&str> = ["base-passwd", "base-files", "mawk"]
        .into_iter()
        .filter(|early| postinsts.iter().any(|name| name == early))
        .collect();
    if !early.is_empty() {
        text.push_str(&format!(
            "dpkg --force-depends --configure {} </dev/null\n",
            early.join(" ")
        ));
    }
    text.push_str("dpkg --configure -a </dev/null\n");
    // Not `dpkg --audit`, which also complains of packages that were built without checksums.
    text.push_str(
        "step 'the end'\n\
         left=$(dpkg-query -W -f '${db:Status-Status} ${binary:Package}\\n' | while read -r state package; do\n\
         \t[ \"$state\" = installed ] || echo \"$package is $state\"\n\
         done)\n\
         [ -z \"$left\" ] || { echo \"$left\"; exit 1; }\n",
    );
    text
}

/// What stands in for a deferred command: it appends its arguments, NUL-separated and ended by an empty record, to a file.
pub fn stub(kind: Stub, interpreter_from: &str) -> String {
    match kind {
        Stub::Shell => format!(
            "#!/bin/sh\n{{ printf '%s\\0' '/{interpreter_from}' \"$@\"; printf '\\n\\0'; }} >> {WORKPLACE}/deferred\n"
        ),
        Stub::Python => format!(
            "import os, sys\n\
             args = [sys.executable, '-E', '-S', '/{interpreter_from}'] + sys.argv[1:]\n\
             with open('{WORKPLACE}/deferred', 'ab') as log:\n\
             \x20   log.write(b'\\0'.join(os.fsencode(a) for a in args) + b'\\0\\n\\0')\n"
        ),
    }
}

/// Whether a name or path has the shape of a pattern, in which one `*` stands for digits and dots.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|middle| {
                !middle.is_empty() && middle.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_version_only() {
        assert!(matches(
            "usr/lib/python3.*/py_compile.py",
            "usr/lib/python3.11/py_compile.py"
        ));
        assert!(!matches(
            "usr/lib/python3.*/py_compile.py",
            "usr/lib/python3.11/a/py_compile.py"
        ));
        assert!(!matches("python3.*-minimal", "python3-minimal"));
        assert!(matches("usr/bin/py3compile", "usr/bin/py3compile"));
    }

    #[test]
    fn what_says_when_is_dropped_and_what_was_made_is_kept() {
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        assert!(is_noise(&path("var/log/dpkg.log")));
        assert!(is_noise(&path("var/cache/debconf/config.dat-old")));
        assert!(!is_noise(&path("var/cache/debconf/config.dat")));
        assert!(!is_noise(&path("etc/ld.so.cache")));
    }
}
