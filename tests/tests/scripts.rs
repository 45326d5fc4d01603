//! Maintainer scripts are foreign code: they run without network, see nothing of the machine or the user, and leave the
//! same files whoever runs them. The packages are ours, beside Debian's real base with its real dpkg.

use envd_tests::{
    archive::Archive,
    deb::Deb,
    hostile::PLANTED,
    leftovers::Watch,
    requirement,
    sandbox::{Sandbox, finish},
    server::Server,
    user::Account,
};

/// Writes down what a script can see, and tries to leave something outside.
const NOSY: &str = r#"#!/bin/sh
set -e
mkdir -p /var/lib/nosy
{
  echo "uid $(id -u) gid $(id -g) umask $(umask) directory $(pwd)"
  echo "host $(uname -n)"
  echo "network $(cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' ' | sort | tr '\n' ' ')"
  echo "temporary $(ls -A /tmp | sort | tr '\n' ' ')"
  echo "homes $(ls -A /home /root 2>/dev/null | sort | tr '\n' ' ')"
  env | sort
} > /var/lib/nosy/report
chown 4711:4712 /var/lib/nosy/report
chmod 0640 /var/lib/nosy/report
echo planted > /tmp/envd-test-planted
(exec </dev/null >/dev/null 2>&1; sleep 600) &
"#;

/// Own `bookworm` beside Debian's `trixie`.
fn beside_debian(deb: Deb) -> Option<(Archive, Server)> {
    if !requirement::debian_archive() || !requirement::user_namespaces() {
        return None;
    }
    let mut archive = Archive::new();
    for name in ["trixie", "trixie-updates", "trixie-security"] {
        archive.forget(name);
    }
    archive.suite("bookworm").add(deb);
    let server = Server::start(archive.files());
    server.pass_on();
    Some((archive, server))
}

fn sandbox_with(archive: &Archive, server: &Server, account: Option<Account>) -> Option<Sandbox> {
    let mut keyring = requirement::debian_keyring()?;
    let sandbox = Sandbox::owned_by(account).knowing(archive, server);
    keyring.extend(archive.key().keyring());
    std::fs::write(sandbox.path("archive.gpg"), keyring).expect("writable");
    Some(sandbox)
}

#[test]
fn a_nosy_script_sees_nothing_and_leaves_the_same_files_for_everybody() {
    let deb = Deb::new("nosy", "1.0").script("postinst", NOSY);
    let Some((archive, server)) = beside_debian(deb) else {
        return;
    };
    let mut seen = Vec::new();
    let accounts: Vec<_> = std::iter::once(None)
        .chain(Account::ordinary().map(Some))
        .collect();
    for (account, umask) in accounts.into_iter().zip(["022", "077"]) {
        let Some(sandbox) = sandbox_with(&archive, &server, account) else {
            return;
        };
        sandbox.wants_of(&["debian:trixie", "debian:bookworm"], &["nosy"]);
        let watch = Watch::start(&sandbox);
        let program = sandbox.envd_command(&[]).get_program().to_owned();
        let script =
            format!("umask {umask}; exec \"$0\" run --as-root -- cat /var/lib/nosy/report");
        let outcome = finish(
            sandbox
                .command("sh")
                .args(["-c", &script])
                .arg(program)
                .env("NOT_FOR_SCRIPTS", "secret"),
        )
        .ok();
        let report = &outcome.stdout;
        assert!(report.contains("uid 0 gid 0"), "{outcome}");
        assert!(
            report.contains("network \n") || report.contains("network lo \n"),
            "{outcome}"
        );
        assert!(
            !report.contains("secret") && !report.contains("envd-test"),
            "{outcome}"
        );
        let host = nix::unistd::gethostname().unwrap();
        assert!(
            !report.contains(&format!("host {}\n", host.to_string_lossy())),
            "{outcome}"
        );
        assert!(!std::path::Path::new("/tmp").join(PLANTED).exists());
        watch.assert_nothing_left();
        seen.push((outcome.stdout, sandbox.lock()));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}

#[test]
fn a_failing_script_is_named_with_what_it_said() {
    let deb =
        Deb::new("grumpy", "1.0").script("postinst", "#!/bin/sh\necho no luck today >&2\nexit 3\n");
    let Some((archive, server)) = beside_debian(deb) else {
        return;
    };
    let Some(sandbox) = sandbox_with(&archive, &server, None) else {
        return;
    };
    sandbox.wants_of(&["debian:trixie", "debian:bookworm"], &["grumpy"]);
    let watch = Watch::start(&sandbox);
    sandbox
        .envd(&["run", "--", "true"])
        .fails()
        .says(&["grumpy", "no luck today"]);
    watch.assert_nothing_left();
    sandbox.envd(&["store", "verify"]).ok();
}
