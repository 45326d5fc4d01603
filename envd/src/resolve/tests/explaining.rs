//! What a refusal says. Snapshots, because the words are the product.

use insta::assert_snapshot;

use super::super::toy::refused;

const CHANNELS: &str = "
        Channel: debian:trixie

        Package: python3
        Version: 3.13.5-1

        Channel: debian:bookworm

        Package: python3
        Version: 3.11.2-1+b1

        Package: pypy3
";

#[test]
fn a_version_that_no_channel_has_names_those_that_they_have() {
    assert_snapshot!(refused(CHANNELS, &["python3@3.99"]), @"");
}

#[test]
fn an_unknown_name_gets_its_neighbours() {
    assert_snapshot!(refused(CHANNELS, &["pyhton3", "kubernetes", "cc@12"]), @"");
}

#[test]
fn two_versions_of_one_package() {
    assert_snapshot!(refused(CHANNELS, &["python3@3.11", "python3@3.13"]), @"");
}

#[test]
fn a_need_that_only_an_older_version_could_meet() {
    let archive = "
        Channel: debian:trixie

        Package: app
        Depends: middle

        Package: middle
        Version: 1.0
        Depends: libfoo (>= 2)

        Channel: debian:bookworm

        Package: libfoo
        Version: 1.4
    ";
    assert_snapshot!(refused(archive, &["app"]), @"");
}

#[test]
fn a_need_for_what_does_not_exist() {
    let archive = "
        Package: app
        Depends: nothing | other (>= 3) | virtual (>= 1)

        Package: other
        Version: 2

        Package: provider
        Provides: virtual
    ";
    assert_snapshot!(refused(archive, &["app"]), @"");
}

#[test]
fn a_conflict_between_two_chains() {
    let archive = "
        Package: a
        Depends: b

        Package: b
        Version: 2
        Conflicts: c

        Package: d
        Version: 3
        Depends: c

        Package: c

        Package: bystander
        Depends: c | b
    ";
    assert_snapshot!(refused(archive, &["a", "bystander", "d"]), @"");
}

#[test]
fn a_break_by_version_and_a_conflict_with_a_virtual_package() {
    let archive = "
        Package: exim
        Provides: mail-transport-agent
        Conflicts: mail-transport-agent

        Package: postfix
        Provides: mail-transport-agent

        Package: new-tool
        Breaks: old-tool (<< 2)

        Package: old-tool
        Version: 1.5
    ";
    assert_snapshot!(refused(archive, &["exim", "postfix"]), @"");
    assert_snapshot!(refused(archive, &["new-tool", "old-tool"]), @"");
}

#[test]
fn libraries_wanted_in_two_versions_by_packages_of_two_channels() {
    let archive = "
        Channel: debian:trixie

        Package: new-app
        Depends: libfoo (>= 2)

        Package: libfoo
        Version: 2.1

        Channel: debian:bookworm

        Package: old-app
        Depends: libfoo (<< 2)

        Package: libfoo
        Version: 1.9

        Package: libfoo
        Version: 1.8
    ";
    assert_snapshot!(refused(archive, &["new-app", "old-app"]), @"");
}

#[test]
fn every_version_of_a_package_fails_for_one_reason() {
    let archive = "
        Channel: debian:trixie

        Package: app
        Version: 3
        Depends: gone

        Package: app
        Version: 2
        Depends: gone

        Channel: debian:bookworm

        Package: app
        Version: 1
        Depends: lost
    ";
    assert_snapshot!(refused(archive, &["app"]), @"");
}

#[test]
fn an_essential_package_stands_against_it() {
    use super::super::toy::{attempt, request};
    let archive = "
        Package: login
        Essential: yes

        Package: odd
        Conflicts: login
    ";
    let mut all = request(&["odd"]);
    all.essential = true;
    assert_snapshot!(attempt(archive, &all).unwrap_err(), @"");
}

#[test]
fn a_field_that_cannot_be_read_is_named() {
    let archive = "
        Package: app
        Depends: lib (>== 1)
    ";
    assert_snapshot!(refused(archive, &["app"]), @"");
}

#[test]
fn the_shorter_of_two_failures_is_told() {
    let archive = "
        Package: app
        Depends: long, short

        Package: long
        Depends: longer

        Package: longer
        Depends: missing-far-away

        Package: short
        Depends: missing-nearby
    ";
    assert_snapshot!(refused(archive, &["app"]), @"");
}
