//! Real programs at the proxy, told of it by nothing but [`client_settings`].

use std::{path::Path, process::Output};

use tokio::process::Command;

use super::*;

/// Whether this program is on the machine.
pub fn present(program: &str) -> bool {
    met(program, on_path(program))
}

fn on_path(program: &str) -> bool {
    let directories = std::env::var("PATH").unwrap_or_default();
    directories
        .split(':')
        .any(|directory| Path::new(directory).join(program).exists())
}

/// What rustup puts on the path needs a toolchain of the user's.
fn works(program: &str) -> bool {
    let tried = std::process::Command::new(program)
        .arg("--version")
        .output();
    tried.is_ok_and(|output| output.status.success())
}

/// Whether what a test needs is `available`. If not, says why it does not run, or fails where it must.
pub fn met(what: &str, available: bool) -> bool {
    let must = std::env::var_os("ENVD_TESTS_MUST_RUN").is_some_and(|value| value == "1");
    assert!(
        available || !must,
        "this test must run (ENVD_TESTS_MUST_RUN=1) and needs {what}"
    );
    if !available {
        eprintln!("skipped: needs {what}");
    }
    available
}

/// Runs a program as inside an environment with this proxy, at home in `home`.
async fn run(world: &World, home: &Path, words: &[&str]) -> Output {
    let settings = client_settings(world.proxy.port());
    let output = Command::new(words[0])
        .args(&words[1..])
        .env_clear()
        .envs(settings.variables)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("CARGO_HOME", home.join("cargo"))
        .env("LC_ALL", "C")
        // One attempt is enough to see where it goes.
        .env("CARGO_NET_RETRY", "0")
        .env("npm_config_fetch_retries", "0")
        .env("npm_config_update_notifier", "false")
        .env("PIP_RETRIES", "1")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .current_dir(home)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    timeout(3 * PATIENCE, output)
        .await
        .expect("an end")
        .unwrap()
}

/// A tool that went round the proxy would find no network at all, and nobody would learn why.
#[tokio::test]
async fn tools_ask_the_proxy_and_hear_its_answer() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let url = "https://denied.example.com/x";
    let python = format!("import urllib.request; urllib.request.urlopen('{url}')");
    let sparse = format!("sparse+{url}/");
    let pip = "python3 -m pip download --no-deps --index-url";
    let pip: Vec<&str> = pip.split(' ').chain([url, "nothing"]).collect();
    // Some show the whole message, some only the number.
    let whole = "Ask the owner to add";
    let tools: [(&str, &[&str], &str); 7] = [
        ("curl", &["curl", "-sS", url], "403"),
        (
            "curl",
            &["curl", "-sS", "http://denied.example.com/x"],
            whole,
        ),
        ("git", &["git", "ls-remote", url], "403"),
        ("python3", &["python3", "-c", &python], whole),
        ("python3", &pip, whole),
        ("npm", &["npm", "view", "nothing", "--registry", url], whole),
        (
            "cargo",
            &[&cargo, "search", "nothing", "--index", &sparse],
            "403",
        ),
    ];
    let mut world = Plan::new(&["allowed.example.org"]).start().await;
    let home = tempfile::tempdir().unwrap();
    for (program, words, heard) in tools {
        // The toolchain is its owner's, and out of the sight of others, or of no use to them.
        let here = match program {
            "cargo" => on_path(program) && works(program),
            _ => present(program),
        };
        if !here {
            continue;
        }
        let output = run(&world, home.path(), words).await;
        let said = text(&output.stdout) + &text(&output.stderr);
        let event = world
            .events
            .try_recv()
            .unwrap_or_else(|_| panic!("{words:?} did not ask: {said}"));
        let Event::Refused {
            name: Some(name),
            refusal,
            ..
        } = &event
        else {
            panic!("{words:?}: {event:?}");
        };
        assert_eq!(name.as_str(), "denied.example.com", "{words:?}");
        assert_eq!(refusal.reason(), "not-listed", "{words:?}");
        assert!(said.contains(heard), "{words:?}: {said}");
        while world.events.try_recv().is_ok() {}
    }
}

/// A TLS server for `allowed.example.org`, and the certificate to trust.
async fn tls_server(address: Ipv4Addr, directory: &Path) -> tokio::process::Child {
    let made = Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=allowed.example.org".split(' '))
        .args([
            "-addext",
            "subjectAltName=DNS:allowed.example.org,DNS:other.example.org",
        ])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(directory)
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let port = LOW_PORTS_AT + 443;
    let server = Command::new("openssl")
        .args([
            "s_server",
            "-www",
            "-quiet",
            "-key",
            "key.pem",
            "-cert",
            "certificate.pem",
        ])
        .args(["-accept", &format!("{address}:{port}")])
        .current_dir(directory)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let listens = async {
        while TcpStream::connect((address, port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, listens).await.expect("a TLS server");
    server
}

#[tokio::test]
async fn curl_reaches_what_is_allowed_and_not_by_another_name() {
    if !present("curl") || !present("openssl") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let here = own_address();
    let mut server = tls_server(here, home.path()).await;
    let mut plan = Plan::new(&["allowed.example.org"]);
    plan.ports = Vec::new();
    plan.names
        .push(("allowed.example.org", vec![vec![here.into()]]));
    let mut world = plan.start().await;
    let trusting = ["curl", "-sS", "--fail", "--cacert", "certificate.pem"];
    let socks = format!("socks5h://127.0.0.1:{}", world.proxy.port());
    for way in [
        &[][..],
        &["--proxy", &socks],
        &["--tlsv1.3"],
        &["--tls-max", "1.2"],
    ] {
        let words = [&trusting[..], way, &["https://allowed.example.org/"]].concat();
        let output = run(&world, home.path(), &words).await;
        assert!(output.status.success(), "{way:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains("s_server"), "{way:?}");
        assert!(matches!(
            world.event().await,
            Event::Allowed { port: 443, .. }
        ));
        assert!(matches!(world.event().await, Event::Closed { .. }));
    }
    // The same server would answer for the other name, too.
    let fronting = [
        "--connect-to",
        "other.example.org:443:allowed.example.org:443",
    ];
    let words = [&trusting[..], &fronting, &["https://other.example.org/"]].concat();
    let output = run(&world, home.path(), &words).await;
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("alert access denied") || said.contains("SSL"),
        "{said}"
    );
    assert_eq!(world.refusal().await.reason(), "server-name-differs");
    server.kill().await.unwrap();
}
