//! What is chosen.

use super::super::{
    Reason,
    toy::{attempt, chosen, request, shown},
};

#[test]
fn a_package_brings_what_it_needs_and_nothing_else() {
    let archive = "
        Package: hello
        Depends: libc6 (>= 2.14)
        Pre-Depends: dpkg-thing
        Recommends: cake
        Suggests: tea

        Package: libc6
        Version: 2.36

        Package: dpkg-thing

        Package: cake
    ";
    assert_eq!(
        chosen(archive, &["hello"]),
        ["dpkg-thing 1", "hello 1", "libc6 2.36"]
    );
}

const TWO_CHANNELS: &str = "
        Channel: debian:trixie

        Package: python3
        Version: 3.13.5-1
        Depends: libc6 (>= 2.38)

        Package: libc6
        Version: 2.41-12

        Suite: 1

        Package: libc6
        Version: 2.41-12+deb13u1

        Channel: debian:bookworm

        Package: python3
        Version: 3.11.2-1+b1
        Depends: libc6 (>= 2.36)

        Package: libc6
        Version: 2.36-9

        Package: gcc-12
        Version: 12.2.0-14
        Depends: libc6 (>= 2.36)
";

#[test]
fn the_first_channel_goes_first_and_security_fixes_within_it() {
    assert_eq!(
        chosen(TWO_CHANNELS, &["python3"]),
        ["libc6 2.41-12+deb13u1", "python3 3.13.5-1"]
    );
}

#[test]
fn a_later_channel_supplies_what_the_first_lacks_on_the_first_ones_libraries() {
    assert_eq!(
        chosen(TWO_CHANNELS, &["python3", "gcc-12"]),
        [
            "gcc-12 12.2.0-14 of 1",
            "libc6 2.41-12+deb13u1",
            "python3 3.13.5-1"
        ]
    );
}

#[test]
fn a_version_that_is_asked_for_is_found_in_any_channel() {
    for asked in [
        "python3@3.11",
        "python3@=3.11.2-1+b1",
        "python3@<3.12",
        "python3@>=3.1,<3.13",
    ] {
        assert_eq!(
            chosen(TWO_CHANNELS, &[asked]),
            ["libc6 2.41-12+deb13u1", "python3 3.11.2-1+b1 of 1"],
            "{asked}"
        );
    }
}

#[test]
fn an_older_version_is_taken_when_the_newest_does_not_fit() {
    let archive = "
        Package: app
        Depends: plugin, engine

        Package: engine
        Version: 2

        Package: engine
        Version: 1

        Package: plugin
        Depends: engine (<< 2)
    ";
    assert_eq!(chosen(archive, &["app"]), ["app 1", "engine 1", "plugin 1"]);
}

#[test]
fn the_channel_further_down_is_used_when_the_first_leads_nowhere() {
    let archive = "
        Channel: debian:new

        Package: app
        Version: 2
        Depends: missing

        Channel: debian:old

        Package: app
        Version: 1
    ";
    assert_eq!(chosen(archive, &["app"]), ["app 1 of 1"]);
}

#[test]
fn alternatives_are_tried_in_the_order_written() {
    let archive = "
        Package: app
        Depends: first | second

        Package: first

        Package: second
    ";
    assert_eq!(chosen(archive, &["app"]), ["app 1", "first 1"]);
    let without_first = archive.replace("Package: first\n", "Package: other\n");
    assert_eq!(chosen(&without_first, &["app"]), ["app 1", "second 1"]);
}

#[test]
fn adding_a_channel_changes_nothing_that_worked_without_it() {
    let first = "
        Channel: debian:trixie

        Package: app
        Depends: old | new, virtual

        Package: new

        Package: real
        Provides: virtual
    ";
    let both = format!(
        "{first}\n\n    Channel: debian:bookworm\n\n  Package: old\n\n  Package: virtual\n"
    );
    assert_eq!(chosen(first, &["app"]), ["app 1", "new 1", "real 1"]);
    assert_eq!(chosen(&both, &["app"]), ["app 1", "new 1", "real 1"]);
}

#[test]
fn a_virtual_package_is_met_by_the_real_one_then_by_priority_then_by_name() {
    let archive = "
        Package: base
        Depends: awk

        Package: gawk
        Provides: awk
        Priority: optional

        Package: mawk
        Provides: awk
        Priority: required

        Package: busybox
        Provides: awk
        Priority: optional
    ";
    assert_eq!(chosen(archive, &["base"]), ["base 1", "mawk 1"]);
    let equal = archive.replace("required", "optional");
    assert_eq!(chosen(&equal, &["base"]), ["base 1", "busybox 1"]);
    let real = format!("{archive}\n\nPackage: awk\n");
    assert_eq!(chosen(&real, &["base"]), ["awk 1", "base 1"]);
}

#[test]
fn a_provider_that_is_wanted_anyway_is_enough() {
    let archive = "
        Package: app
        Depends: gawk, awk

        Package: gawk
        Provides: awk

        Package: mawk
        Provides: awk
        Priority: required
        Conflicts: gawk
    ";
    assert_eq!(chosen(archive, &["app"]), ["app 1", "gawk 1"]);
}

#[test]
fn only_a_versioned_provides_meets_a_versioned_need() {
    let archive = "
        Package: app
        Depends: libssl3 (>= 3.0)

        Package: a-liar
        Provides: libssl3

        Package: b-old
        Provides: libssl3 (= 2.9)

        Package: libssl3t64
        Version: 1
        Provides: libssl3 (= 3.5.1-1)
    ";
    assert_eq!(chosen(archive, &["app"]), ["app 1", "libssl3t64 1"]);
    assert_eq!(chosen(archive, &["libssl3@3.5"]), ["libssl3t64 1"]);
}

#[test]
fn a_name_that_is_asked_for_is_the_real_package_wherever_it_is() {
    let archive = "
        Channel: debian:trixie

        Package: libssl3t64
        Provides: libssl3 (= 3.5)

        Channel: debian:bookworm

        Package: libssl3
        Version: 3.0
    ";
    assert_eq!(chosen(archive, &["libssl3"]), ["libssl3 3.0 of 1"]);
}

#[test]
fn conflicts_and_breaks_keep_packages_apart() {
    let archive = "
        Package: app
        Depends: server | other-server, client

        Package: server

        Package: other-server

        Package: client
        Conflicts: server
    ";
    assert_eq!(
        chosen(archive, &["app"]),
        ["app 1", "client 1", "other-server 1"]
    );
    let breaks = archive.replace("Conflicts: server", "Breaks: server (<< 2)");
    assert_eq!(
        chosen(&breaks, &["app"]),
        ["app 1", "client 1", "other-server 1"]
    );
    let harmless = archive.replace("Conflicts: server", "Breaks: server (<< 1)");
    assert_eq!(
        chosen(&harmless, &["app"]),
        ["app 1", "client 1", "server 1"]
    );
}

#[test]
fn a_mail_server_may_conflict_with_every_other_and_still_be_one() {
    let archive = "
        Package: exim
        Provides: mail-transport-agent
        Conflicts: mail-transport-agent

        Package: postfix
        Provides: mail-transport-agent
        Conflicts: mail-transport-agent

        Package: cron
        Depends: exim | mail-transport-agent
    ";
    assert_eq!(chosen(archive, &["exim"]), ["exim 1"]);
    assert_eq!(
        chosen(archive, &["postfix", "cron"]),
        ["cron 1", "postfix 1"]
    );
    assert!(attempt(archive, &request(&["exim", "postfix"])).is_err());
}

#[test]
fn an_unversioned_provides_does_not_fall_to_a_versioned_conflict() {
    let archive = "
        Package: a
        Conflicts: virtual (<< 5)

        Package: b
        Provides: virtual

        Package: c
        Provides: virtual (= 4)
    ";
    assert_eq!(chosen(archive, &["a", "b"]), ["a 1", "b 1"]);
    assert!(attempt(archive, &request(&["a", "c"])).is_err());
}

#[test]
fn packages_that_need_each_other_come_together() {
    let archive = "
        Package: libc6
        Depends: libgcc-s1

        Package: libgcc-s1
        Depends: libc6, gcc-base

        Package: gcc-base
    ";
    assert_eq!(
        chosen(archive, &["libc6"]),
        ["gcc-base 1", "libc6 1", "libgcc-s1 1"]
    );
}

#[test]
fn recommendations_come_only_with_what_asks_for_them_and_only_if_they_fit() {
    let archive = "
        Package: nginx
        Depends: lib
        Recommends: logrotate, gone, angry, pretty | plain, big (>= 2)

        Package: lib
        Recommends: lib-extras

        Package: lib-extras

        Package: logrotate
        Recommends: mailer

        Package: mailer

        Package: angry
        Conflicts: lib

        Package: pretty
        Depends: gone

        Package: plain

        Package: big
        Version: 1
    ";
    assert_eq!(chosen(archive, &["nginx"]), ["lib 1", "nginx 1"]);
    let with = attempt(archive, &request(&["nginx+recommends"])).unwrap();
    assert_eq!(shown(&with), ["lib 1", "logrotate 1", "nginx 1", "plain 1"]);
    let reason = Reason::Needed {
        by: "nginx".to_owned(),
        field: "Recommends",
        clause: "logrotate".to_owned(),
    };
    assert_eq!(with.packages[1].why, [reason]);
    assert_eq!(with.packages[2].needs, ["lib", "logrotate", "plain"]);
}

#[test]
fn a_recommendation_never_downgrades_what_is_required() {
    let archive = "
        Package: app
        Depends: lib
        Recommends: extra

        Package: lib
        Version: 2

        Package: lib
        Version: 1

        Package: extra
        Depends: lib (<< 2)
    ";
    assert_eq!(chosen(archive, &["app+recommends"]), ["app 1", "lib 2"]);
}

#[test]
fn essential_packages_are_in_when_asked_and_are_the_first_channels() {
    let archive = "
        Channel: debian:trixie

        Package: bash
        Essential: yes
        Pre-Depends: libc6

        Package: libc6

        Package: hello
        Depends: libc6

        Channel: debian:bookworm

        Package: login
        Essential: yes
    ";
    assert_eq!(chosen(archive, &["hello"]), ["hello 1", "libc6 1"]);
    let mut all = request(&["hello"]);
    all.essential = true;
    let resolution = attempt(archive, &all).unwrap();
    assert_eq!(shown(&resolution), ["bash 1", "hello 1", "libc6 1"]);
    assert!(resolution.packages[0].essential && !resolution.packages[2].essential);
    assert_eq!(resolution.packages[0].why, [Reason::Essential]);
}

#[test]
fn an_update_of_one_package_leaves_the_others_where_they_were() {
    let archive = "
        Package: app
        Version: 2
        Depends: lib, helper | other-helper

        Package: app
        Version: 1
        Depends: lib, helper | other-helper

        Package: lib
        Version: 2

        Package: lib
        Version: 1

        Package: helper

        Package: other-helper
    ";
    assert_eq!(chosen(archive, &["app"]), ["app 2", "helper 1", "lib 2"]);
    let mut update = request(&["app"]);
    update.locked = [("lib", "1"), ("other-helper", "1")]
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .into();
    assert_eq!(
        shown(&attempt(archive, &update).unwrap()),
        ["app 2", "lib 1", "other-helper 1"]
    );
    // A locked version that the archive has no more, or that no longer fits, binds nobody.
    update.locked = [("lib".to_owned(), "0.9".to_owned())].into();
    assert_eq!(
        shown(&attempt(archive, &update).unwrap()),
        ["app 2", "helper 1", "lib 2"]
    );
    update.locked = [("lib".to_owned(), "1".to_owned())].into();
    let stricter = archive.replace("Depends: lib,", "Depends: lib (>= 2),");
    assert_eq!(
        shown(&attempt(&stricter, &update).unwrap()),
        ["app 2", "helper 1", "lib 2"]
    );
}

#[test]
fn a_short_name_stands_for_its_packages_unless_the_archive_has_it() {
    let archive = "
        Package: real-tool
        Version: 2

        Package: real-tool
        Version: 1

        Package: tool-data
        Version: 7
    ";
    let resolution = attempt(archive, &request(&["tool@1"])).unwrap();
    assert_eq!(shown(&resolution), ["real-tool 1", "tool-data 7"]);
    assert!(
        resolution
            .packages
            .iter()
            .all(|package| package.requested[0].to_string() == "tool@1")
    );
    let own = format!("{archive}\n\nPackage: tool\n");
    assert_eq!(chosen(&own, &["tool@1"]), ["tool 1"]);
}

#[test]
fn other_machines_packages_are_passed_over() {
    let archive = "
        Package: app
        Version: 2
        Architecture: arm64

        Package: app
        Version: 1
        Architecture: amd64
        Depends: docs, perl:any, tools:amd64, only-arm [arm64], plain:native

        Package: docs
        Architecture: all

        Package: perl
        Multi-Arch: allowed

        Package: tools

        Package: plain
    ";
    assert_eq!(
        chosen(archive, &["app"]),
        ["app 1", "docs 1", "perl 1", "plain 1", "tools 1"]
    );
    let unwilling = archive.replace("Multi-Arch: allowed", "Multi-Arch: foreign");
    assert!(
        attempt(&unwilling, &request(&["app"])).is_err(),
        "perl:any wants an allowed one"
    );
    let foreign = archive.replace("tools:amd64", "tools:i386");
    assert!(
        attempt(&foreign, &request(&["app"])).is_err(),
        "there is one architecture here"
    );
}

#[test]
fn a_package_whose_fields_cannot_be_read_is_avoided() {
    let archive = "
        Package: app
        Version: 2
        Depends: lib (>== 1)

        Package: app
        Version: 1
    ";
    assert_eq!(chosen(archive, &["app"]), ["app 1"]);
}

#[test]
fn the_same_request_in_another_order_is_the_same_request() {
    let archive = "
        Package: a
        Depends: x | y

        Package: b
        Depends: y | x

        Package: x
        Conflicts: y

        Package: y
    ";
    let one = attempt(archive, &request(&["a", "b"])).unwrap();
    assert_eq!(one, attempt(archive, &request(&["b", "a", "b"])).unwrap());
}
