//! Whoever makes a mistake is shown where it is and what to write instead.

use envd::config::{AcceptExpired, Home};

use crate::parse;

/// What is printed for a text that must be refused.
fn refused(text: &str) -> String {
    parse(text)
        .expect_err("a wrong file is refused")
        .to_string()
}

#[test]
fn a_file_with_everything_is_read() {
    let manifest = parse(
        r#"
[env]
channels = ["debian:trixie", "debian:sid@20260901T000000Z"]
packages = ["python3@>=3.11", "g++", "git+recommends", "debian:make"]
essential = false
accept-expired = ["sid"]
home = "host"
[env.vars]
RUST_BACKTRACE = "1"
"#,
    )
    .unwrap();
    let environment = &manifest.environment;
    let channels: Vec<String> = environment
        .channels
        .iter()
        .map(|c| c.get_ref().to_string())
        .collect();
    assert_eq!(channels, ["debian:trixie", "debian:sid@20260901T000000Z"]);
    assert_eq!(environment.packages.len(), 4);
    assert_eq!(environment.variables["RUST_BACKTRACE"], "1");
    assert!(!environment.essential);
    assert_eq!(
        environment.accept_expired,
        AcceptExpired::Suites(vec!["sid".into()])
    );
    assert!(
        environment.accept_expired.accepts("sid") && !environment.accept_expired.accepts("trixie")
    );
    assert_eq!(environment.home, Home::Host);
}

#[test]
fn an_almost_empty_file_has_the_defaults() {
    let environment = parse("[env]\n").unwrap().environment;
    assert_eq!(
        environment.channels[0].get_ref().to_string(),
        "debian:trixie"
    );
    assert!(environment.essential && environment.packages.is_empty());
    assert_eq!(environment.home, Home::Private);
}

#[test]
fn a_span_points_at_the_package_so_that_the_resolver_can() {
    let text = "[env]\npackages = [\"gcc\", \"nosuch\"]\n";
    let manifest = parse(text).unwrap();
    let package = &manifest.environment.packages[1];
    let error = manifest.refuse(package.span(), "there is no package `nosuch`", None);
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    insta::assert_snapshot!(refused(
        "[env]\npackges = [\"gcc\"]\naccept_expired = true\nzzz = 1\n"
    ));
    insta::assert_snapshot!(refused("[env]\n[tasks.test]\nrun = \"x\"\n"));
}

#[test]
fn wrong_types_say_what_to_write() {
    insta::assert_snapshot!(refused(
        "[env]\nchannels = \"debian:trixie\"\npackages = { gcc = \"*\" }\nessential = \"yes\"\nhome = 3\naccept-expired = 1\nvars = [\"A=1\"]\n"
    ));
    insta::assert_snapshot!(refused("env = \"x\"\n"));
    insta::assert_snapshot!(refused(
        "[env]\npackages = [\"gcc\", 3.11]\n[env.vars]\nJOBS = 4\nDEBUG = true\n"
    ));
}

#[test]
fn values_that_mean_nothing_are_refused() {
    insta::assert_snapshot!(refused(
        "[env]\nchannels = [\"trixie\", \"debian:sid@yesterday\", \"debian:sid\", \"debian:sid\"]\nhome = \"privat\"\naccept-expired = [\"trixe\", \"sid\"]\n"
    ));
    insta::assert_snapshot!(refused("[env]\nchannels = []\n"));
    insta::assert_snapshot!(refused(
        "[env]\npackages = [\"gcc\", \"\", \"python3 >= 3\", \"@3\", \"gcc@13\", \"debian:gcc\"]\n"
    ));
    insta::assert_snapshot!(refused(
        "[env]\n[env.vars]\n\"A=B\" = \"x\"\n\"\" = \"x\"\nC = \"a\\u0000b\"\n"
    ));
}

#[test]
fn a_file_without_the_section_is_told_so() {
    insta::assert_snapshot!(refused(""));
    insta::assert_snapshot!(refused("packages = [\"gcc\"]\n"));
}

#[test]
fn what_is_no_toml_is_placed() {
    insta::assert_snapshot!(refused("[env]\npackages = [\"gcc\"\nhome = \"host\"\n"));
    insta::assert_snapshot!(refused("[env]\npackages = [\"gcc\"]\npackages = []\n"));
    insta::assert_snapshot!(refused("[env]\nhome = \"host\n"));
}
