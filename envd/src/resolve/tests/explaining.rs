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
    assert_snapshot!(refused(CHANNELS, &["python3@3.99"]), @r#"
    python3@3.99 is asked for; debian:trixie has 3.13.5-1, debian:bookworm has 3.11.2-1+b1
    "#);
}

#[test]
fn an_unknown_name_gets_its_neighbours() {
    assert_snapshot!(refused(CHANNELS, &["pyhton3", "kubernetes", "cc@12"]), @r#"
    no channel has a package "gcc", which "cc" stands for; "envd search" finds packages by what they do
    no channel has a package "kubernetes"; "envd search" finds packages by what they do
    no channel has a package "pyhton3"; did you mean python3?
    "#);
}

#[test]
fn two_versions_of_one_package() {
    assert_snapshot!(refused(CHANNELS, &["python3@3.11", "python3@3.13"]), @r#"
    no choice of packages satisfies the request:
      python3@3.11 is asked for
      python3@3.13 is asked for
      only one version of python3 can be there: 3.13.5-1 (debian:trixie) or 3.11.2-1+b1 (debian:bookworm)
    "#);
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
    assert_snapshot!(refused(archive, &["app"]), @r#"
    no choice of packages satisfies the request:
      app is asked for
      app 1 (debian:trixie) needs middle
      middle 1.0 (debian:trixie) needs libfoo (>= 2); only libfoo 1.4 (debian:bookworm) exists
    "#);
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
    assert_snapshot!(refused(archive, &["app"]), @r#"
    no choice of packages satisfies the request:
      app is asked for
      app 1 needs nothing | other (>= 3) | virtual (>= 1); nothing does not exist, only other 2 (debian:toy) exists, virtual is only provided, in no such version
    "#);
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
    assert_snapshot!(refused(archive, &["a", "bystander", "d"]), @r#"
    no choice of packages satisfies the request:
      a is asked for
      a 1 needs b
      d is asked for
      d 3 needs c
      b 2 conflicts with c 1
    "#);
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
    assert_snapshot!(refused(archive, &["exim", "postfix"]), @r#"
    no choice of packages satisfies the request:
      exim is asked for
      postfix is asked for
      exim 1 conflicts with mail-transport-agent, that is postfix 1
    "#);
    assert_snapshot!(refused(archive, &["new-tool", "old-tool"]), @r#"
    no choice of packages satisfies the request:
      new-tool is asked for
      old-tool is asked for
      new-tool 1 breaks old-tool (<< 2), that is old-tool 1.5
    "#);
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
    assert_snapshot!(refused(archive, &["new-app", "old-app"]), @r#"
    no choice of packages satisfies the request:
      new-app is asked for
      new-app 1 (debian:trixie) needs libfoo (>= 2)
      old-app is asked for
      old-app 1 (debian:bookworm) needs libfoo (<< 2)
      only one version of libfoo can be there: 2.1 (debian:trixie), 1.9 (debian:bookworm) or 1.8 (debian:bookworm)
    "#);
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
    assert_snapshot!(refused(archive, &["app"]), @r#"
    no choice of packages satisfies the request:
      app is asked for
      app 3 (debian:trixie) and 2 (debian:trixie) need gone; gone does not exist
      app 1 (debian:bookworm) needs lost; lost does not exist
    "#);
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
    assert_snapshot!(attempt(archive, &all).unwrap_err(), @r#"
    no choice of packages satisfies the request:
      odd is asked for
      login is Essential
      odd 1 conflicts with login 1
    "#);
}

#[test]
fn a_field_that_cannot_be_read_is_named() {
    let archive = "
        Package: app
        Depends: lib (>== 1)
    ";
    assert_snapshot!(refused(archive, &["app"]), @r#"
    no choice of packages satisfies the request:
      app is asked for
      app 1 cannot be used: Depends: "lib (>== 1)" cannot be read: "= 1" is not a Debian version: only letters, digits and . + ~ - : are allowed
    "#);
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
    assert_snapshot!(refused(archive, &["app"]), @r#"
    no choice of packages satisfies the request:
      app is asked for
      app 1 needs short
      short 1 needs missing-nearby; missing-nearby does not exist
    "#);
}

#[test]
fn versions_of_one_package_do_not_stand_against_each_other() {
    // Each version of node needs its own library: that is one reason, not two.
    let archive = "
        Package: node
        Version: 18.2
        Depends: libnode (= 18.2)

        Package: node
        Version: 18.1
        Depends: libnode (= 18.1)

        Package: libnode
        Version: 18.2

        Package: libnode
        Version: 18.1

        Package: modern
        Breaks: libnode (<< 20)
    ";
    assert_snapshot!(refused(archive, &["node", "modern"]), @r#"
    no choice of packages satisfies the request:
      modern is asked for
      node is asked for
      node 18.2 needs libnode (= 18.2)
      node 18.1 needs libnode (= 18.1)
      modern 1 breaks libnode (<< 20), that is libnode 18.2 and libnode 18.1
    "#);
}

#[test]
fn a_short_name_is_told_with_what_it_stands_for() {
    let archive = "
        Package: real-tool
        Version: 1
        Depends: gone

        Package: tool-data
    ";
    assert_snapshot!(refused(archive, &["tool"]), @r#"
    no choice of packages satisfies the request:
      tool is asked for, which stands for real-tool
      real-tool 1 needs gone; gone does not exist
    "#);
    assert_snapshot!(refused(archive, &["tool@2"]), @r#"
    tool@2 is asked for, which stands for real-tool; debian:toy has 1
    "#);
}

#[test]
fn a_version_that_is_only_promised_is_told_apart_from_one_that_is_there() {
    let archive = "
        Package: provider
        Provides: thing (= 1)
    ";
    assert_snapshot!(refused(archive, &["thing@2"]), @r#"
    thing@2 is asked for; it is only provided by others, in no such version
    "#);
}

#[test]
fn a_file_that_several_suites_have_is_one_file() {
    let archive = "
        Channel: debian:trixie

        Package: app
        Version: 1

        Suite: 1

        Package: app
        Version: 1

        Channel: debian:bookworm

        Package: app
        Version: 1
    ";
    assert_snapshot!(refused(archive, &["app@2"]), @r#"
    app@2 is asked for; debian:trixie has 1
    "#);
}
