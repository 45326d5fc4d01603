//! Secrets that the proxy puts into requests: got by whoever is inside, or by a server that is not theirs.

use std::process::Command;

use envd_tests::{requirement, sandbox::finish};

use crate::{
    ground::{Ground, everyone, shell},
    wild::Wild,
};

const VALUE: &str = "hush-0123456789abcdef";

/// A certificate of sealed.example.org, and of who signed it, in the ground.
fn certify(ground: &Ground) {
    std::fs::write(
        ground.path("names.ext"),
        "subjectAltName=DNS:sealed.example.org\n",
    )
    .unwrap();
    for line in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 30",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /CN=sealed",
        "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out leaf.crt -days 30 -extfile names.ext",
    ] {
        let mut openssl = Command::new("openssl");
        finish(
            openssl
                .args(line.split(' '))
                .current_dir(ground.directory()),
        )
        .ok();
    }
    let body = format!("you said {VALUE}\n");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Said: {VALUE}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    std::fs::write(ground.path("said"), answer).unwrap();
    let directory = ground.path("config").join("envd");
    std::fs::create_dir_all(&directory).unwrap();
    let configuration = format!(
        "[agent.secrets]\nGH = {{ env = \"MY_TOKEN\", header = \"Authorization: Bearer {{}}\", host = \"{HOST}\" }}\n"
    );
    std::fs::write(directory.join("config.toml"), configuration).unwrap();
    ground.hand_over();
}

const HOST: &str = "sealed.example.org:8443";

/// Gain: the user's token, read inside, or sent to a server that only says it is the host, or in the clear.
/// Must happen: a plain request from inside leaves over TLS with the token in the place of whatever field of that name it had; what comes
/// back has it no more; a server whose certificate the machine does not trust gets nothing; inside it is nowhere.
/// Guard: `agents/src/egress/outgoing.rs`, `secret.rs`, `tls` of `envd/src/agents/secrets.rs`.
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn a_header_that_leaves_over_tls() {
    let needed = ["ip", "unshare", "openssl", "setpriv"];
    if !needed.into_iter().all(requirement::program) {
        return;
    }
    for trusted in [true, false] {
        for ground in everyone() {
            certify(&ground);
            let authority = match trusted {
                true => ground.path("ca.crt"),
                false => ground.path("names.ext"),
            };
            let sandbox = ground
                .sandbox
                .variable("MY_TOKEN", VALUE)
                .variable("SSL_CERT_FILE", authority.to_str().unwrap());
            let ground = Ground {
                sandbox,
                user: ground.user,
            };
            let mut wild = Wild::start(&ground);
            // The server leaves the connection open when it has answered.
            let ask = format!(
                "printf 'GET http://{HOST}/x HTTP/1.1\\r\\nHost: {HOST}\\r\\nAuthorization: forged\\r\\nAccept: */*\\r\\n\\r\\n' \
                 | timeout 4 nc 127.0.0.1 3128"
            );
            let environment = wild.environment.clone();
            let answer = shell(&mut wild.agent, &environment, &ask);
            let (sealed, clear) = (wild.sealed(), wild.record());
            let user = ground.user;
            assert!(!answer.contains(VALUE), "as {user}: {answer}");
            assert!(!clear.contains(VALUE), "as {user}, in the clear: {clear}");
            if trusted {
                assert!(answer.starts_with("HTTP/1.1 200"), "as {user}: {answer}");
                assert!(answer.contains("you said ***"), "as {user}: {answer}");
                let given = format!("Authorization: Bearer {VALUE}");
                assert!(sealed.contains(&given), "as {user}: {sealed}");
                assert!(!sealed.contains("forged"), "as {user}: {sealed}");
            } else {
                assert!(answer.starts_with("HTTP/1.1 502"), "as {user}: {answer}");
                assert!(!sealed.contains("Bearer"), "as {user}: {sealed}");
            }
            let look = format!(
                "cat /proc/[0-9]*/environ 2>/dev/null; env; grep -rs {} /tmp /run /var /etc ~ .; true",
                &VALUE[..12]
            );
            let found = shell(&mut wild.agent, &environment, &look);
            assert!(!found.contains(VALUE), "as {user}: {found}");
            wild.agent.leave();
        }
    }
}
