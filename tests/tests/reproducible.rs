//! One lock, one root: as root and as an ordinary user, under any umask, time zone, language and order of arrival.

use std::time::Duration;

use envd_tests::{
    deb::Deb,
    requirement,
    sandbox::{Sandbox, envd_binary, finish},
    server::Fault,
    user::Account,
    world::World,
};

/// Realises from an empty store under a umask and variables; returns the lock, which names the composed root.
fn lock_after(sandbox: &Sandbox, umask: &str, variables: &[(&str, &str)]) -> String {
    let program = sandbox.envd_command(&[]).get_program().to_owned();
    let mut command = sandbox.command("sh");
    command
        .args(["-c", &format!("umask {umask}; exec \"$0\" run -- true")])
        .arg(program)
        .envs(variables.iter().copied());
    finish(&mut command).ok();
    sandbox.lock()
}

#[test]
fn whoever_realises_it_and_however_it_is_the_same_root() {
    let Some(mut world) = World::small() else {
        return;
    };
    world.archive.trixie().add(
        Deb::new("modes", "1.0")
            .directory("usr/share/modes", 0o700)
            .file("usr/share/modes/plain", "x")
            .entry(envd_tests::tape::Entry::file(
                "usr/bin/setuid",
                0o4755,
                "#!/bin/sh\n",
            ))
            .entry(envd_tests::tape::Entry {
                uid: 38,
                gid: 42,
                ..envd_tests::tape::Entry::file("usr/share/modes/owned", 0o640, "y")
            }),
    );
    world.publish();
    let packages = ["hello", "greet", "modes"];
    let realise = |account, umask, variables: &[(&str, &str)]| {
        let sandbox = world.another_of(account);
        sandbox.wants(&packages);
        lock_after(&sandbox, umask, variables)
    };
    let reference = realise(None, "022", &[]);
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("000", &[]),
        ("077", &[]),
        ("022", &[("TZ", "Pacific/Kiritimati")]),
        ("022", &[("LANG", "tr_TR.UTF-8"), ("LC_ALL", "tr_TR.UTF-8")]),
        ("022", &[("SOURCE_DATE_EPOCH", "12345")]),
    ];
    for (umask, variables) in cases {
        let lock = realise(None, umask, variables);
        assert_eq!(lock, reference, "umask {umask}, {variables:?}");
    }
    for slow in ["hello_1.0", "greet_2.0", "shell_1.35"] {
        world
            .server
            .next(1, slow, Fault::Slow(Duration::from_micros(300)));
        assert_eq!(realise(None, "022", &[]), reference, "{slow} arrived late");
    }
    if let Some(account) = Account::ordinary() {
        for umask in ["000", "022", "077"] {
            let lock = realise(Some(account.clone()), umask, &[]);
            assert_eq!(lock, reference, "as an ordinary user, umask {umask}");
        }
    }
}

/// A second machine must meet the digest that the first one wrote.
#[test]
fn a_root_that_differs_from_the_lock_is_refused() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let lock: toml::Table = world.lock().parse().unwrap();
    let root = find_root(&lock).expect("the lock names the composed root");
    let forged: String = root
        .chars()
        .rev()
        .enumerate()
        .map(|(at, c)| match (at, c) {
            (0, '0') => '1',
            (0, _) => '0',
            _ => c,
        })
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let other = world.another();
    other.wants(&["hello"]);
    other.write("envd.lock", &world.lock().replace(&root, &forged));
    other
        .envd(&["run", "--", "true"])
        .fails()
        .says(&["root", "lock"]);
}

/// The value of the key `root`, at whatever depth.
fn find_root(table: &toml::Table) -> Option<String> {
    table.iter().find_map(|(key, value)| match value {
        toml::Value::String(text) if key == "root" => Some(text.clone()),
        toml::Value::Table(inner) => find_root(inner),
        _ => None,
    })
}

/// The same with Debian's own packages and their maintainer scripts, run by the real dpkg.
#[test]
fn configured_packages_give_one_root_for_everybody() {
    if !requirement::debian_archive() || !requirement::user_namespaces() {
        return;
    }
    assert!(envd_binary().exists());
    let realise = |account, umask| {
        let sandbox = Sandbox::owned_by(account);
        sandbox.wants(&["python3-six", "ca-certificates"]);
        lock_after(&sandbox, umask, &[])
    };
    let reference = realise(None, "022");
    // Parts of it are in the store already, made for another environment.
    let sandbox = Sandbox::new();
    sandbox.wants(&["python3"]);
    lock_after(&sandbox, "077", &[]);
    sandbox.wants(&["python3-six", "ca-certificates"]);
    assert_eq!(
        lock_after(&sandbox, "077", &[]),
        reference,
        "umask 077, after another environment"
    );
    if let Some(account) = Account::ordinary() {
        assert_eq!(
            realise(Some(account), "002"),
            reference,
            "as an ordinary user"
        );
    }
}

/// What was configured for a smaller environment is used for a larger one: that must not show, and must not go stale.
#[test]
fn a_package_added_gives_the_root_that_it_gives_from_nothing() {
    if !requirement::debian_archive() || !requirement::user_namespaces() {
        return;
    }
    let grown = Sandbox::new();
    grown.wants(&["ca-certificates"]);
    lock_after(&grown, "022", &[]);
    // It runs no script, and brings libraries.
    grown.wants(&["ca-certificates", "jq"]);
    let lock = lock_after(&grown, "022", &[]);
    let whole = Sandbox::new();
    whole.wants(&["ca-certificates", "jq"]);
    assert_eq!(lock_after(&whole, "022", &[]), lock);
    grown.envd(&["run", "--", "jq", "-n", "1"]).ok();
    let known = grown.envd(&["run", "--", "ldconfig", "-p"]).ok().stdout;
    assert!(known.contains("libjq.so.1"), "{known}");
    let status = grown
        .envd(&[
            "run",
            "--",
            "dpkg-query",
            "-W",
            "-f",
            "${db:Status-Status}\n",
        ])
        .ok()
        .stdout;
    assert!(status.lines().all(|state| state == "installed"), "{status}");
}

/// Byte-code of several packages is made by one step: that must not show.
#[test]
fn byte_code_is_the_same_alone_and_in_company() {
    if !requirement::debian_archive() || !requirement::user_namespaces() {
        return;
    }
    let packages = [
        "python3-six",
        "python3-chardet",
        "python3-pyparsing",
        "python3-colorama",
        "python3-ply",
    ];
    let whole = Sandbox::new();
    whole.wants(&packages);
    let together = lock_after(&whole, "022", &[]);
    let grown = Sandbox::new();
    let mut lock = String::new();
    for number in 1..=packages.len() {
        grown.wants(&packages[..number]);
        lock = lock_after(&grown, "022", &[]);
    }
    assert_eq!(lock, together);
    let made = whole.envd(&[
        "run",
        "--",
        "find",
        "/usr/lib/python3",
        "-name",
        "six.*.pyc",
    ]);
    assert!(!made.ok().stdout.is_empty(), "nothing was compiled");
}

/// What the scripts of `ca-certificates` do with fewer processes is what they do as they are.
#[test]
fn certificates_are_those_that_the_package_itself_would_have_made() {
    if !requirement::debian_archive() || !requirement::user_namespaces() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.wants(&["ca-certificates"]);
    let script = "set -e\n\
        mkdir /tmp/certs\n\
        update-ca-certificates --etccertsdir /tmp/certs --hooksdir '' >/dev/null\n\
        diff -r --no-dereference /tmp/certs /etc/ssl/certs\n\
        (cd /usr/share/ca-certificates; find * -name '*.crt') | sort > /tmp/there\n\
        grep -v '^#' /etc/ca-certificates.conf | sort > /tmp/chosen\n\
        cmp /tmp/there /tmp/chosen\n\
        ls /etc/ssl/certs | wc -l";
    let count = sandbox.envd(&["run", "--", "sh", "-c", script]).ok().stdout;
    assert!(
        count.trim().parse::<usize>().is_ok_and(|count| count > 200),
        "{count}"
    );
}
