//! The examples, with Debian's real archive: what the README promises on its first screen.

use std::path::Path;

use envd_tests::{
    requirement,
    sandbox::{Sandbox, finish, shared_store, workspace},
};

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("an example").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_name() == "envd.lock" || entry.file_name() == ".envd" {
            continue;
        }
        if entry.file_type().expect("readable").is_dir() {
            std::fs::create_dir_all(&target).expect("writable");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("writable");
        }
    }
}

/// Runs an example's command, as its README gives it, and looks for what it prints.
fn example(name: &str, expected: &[&str]) {
    if !requirement::debian_archive() || !requirement::user_namespaces() {
        return;
    }
    let sandbox = Sandbox::new().variable("ENVD_STORE", shared_store().to_str().unwrap());
    let source = workspace().join("examples").join(name);
    copy(&source, &sandbox.project());
    let readme = std::fs::read_to_string(source.join("README.md")).expect("a README");
    let line = readme
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("envd run -- "))
        .expect("the README gives the command");
    let arguments: Vec<_> = line.split_whitespace().skip(1).collect();
    let outcome = finish(&mut sandbox.envd_command(&arguments)).ok();
    for word in expected {
        assert!(outcome.stdout.contains(word), "{word:?}\n{outcome}");
    }
    assert!(sandbox.lock().contains("trixie"));
}

#[test]
fn python() {
    example("python", &["inside Debian 13", "requests ", "yaml "]);
}

#[test]
fn c() {
    example("c", &["inside Debian 13", "zlib ", "round trip: ok"]);
}

#[test]
fn rust() {
    example("rust", &["inside Debian 13", "primes below 100000: 9592"]);
}

#[test]
fn go() {
    example("go", &["inside Debian 13", "go1.", "answered: 200"]);
}

#[test]
fn node() {
    example("node", &["inside Debian 13", "node v", "semver "]);
}

/// The README's `envd x`: a tool without a project, seconds after the first word.
#[test]
fn one_tool_of_the_real_archive() {
    if !requirement::debian_archive() || !requirement::user_namespaces() {
        return;
    }
    let sandbox = Sandbox::new().variable("ENVD_STORE", shared_store().to_str().unwrap());
    let outcome = sandbox.envd(&["x", "hello", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world!\n");
}
