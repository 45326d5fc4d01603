//! Services as people write them, and as they get them wrong.

use std::time::Duration;

use envd::config::{CommandLine, Manifest, Port, Ready};
use envd_supervision::{Name, Policy, Readiness, Supervisor};

use crate::parse;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn refused(text: &str) -> String {
    parse(text)
        .expect_err("a wrong file is refused")
        .to_string()
}

fn services(text: &str) -> Manifest {
    parse(&format!("[env]\n{text}")).unwrap()
}

#[test]
fn a_service_with_everything_is_read() {
    let manifest = services(
        r#"
[service.db]
run = "postgres -D $ENVD_STATE/db -p {port.db}"
needs = ["cache"]
after = ["log"]
ready = { tcp = "{port.db}" }
restart = "always"
stop-signal = "SIGINT"
stop-timeout = "500ms"
start-timeout = "2m"
watchdog = "30s"
env = { PGPORT = "{port.db}", LANG = "C" }
directory = "data"
[service.cache]
run = ["redis-server", "--port", "{port.cache}"]
[service.log]
run = "logger"
"#,
    );
    let db = &manifest.services["db"];
    let port = |name: &Name| if name.as_str() == "db" { 4000 } else { 4001 };
    assert_eq!(
        db.run.arguments(port),
        ["/bin/sh", "-c", "postgres -D $ENVD_STATE/db -p 4000"]
    );
    assert_eq!(db.variables["PGPORT"].fill(port), "4000");
    assert_eq!(db.ready, Ready::Tcp(Port::Free(name("db"))));
    assert_eq!(db.directory.as_deref(), Some("data".as_ref()));
    let ports: Vec<&str> = db.ports().map(Name::as_str).collect();
    assert_eq!(ports, ["db", "db", "db"]);
    let service = db.service(name("db"), port);
    assert_eq!(
        (&*service.needs, &*service.after),
        (&[name("cache")][..], &[name("log")][..])
    );
    assert_eq!(service.readiness, Readiness::Tcp(4000));
    assert_eq!(service.restart.policy, Policy::Always);
    assert_eq!(service.stop_signal.to_string(), "SIGINT");
    assert_eq!(service.stop_timeout, Duration::from_millis(500));
    assert_eq!(service.start_timeout, Some(Duration::from_secs(120)));
    assert_eq!(service.watchdog, Some(Duration::from_secs(30)));
    let cache = &manifest.services["cache"];
    assert_eq!(
        cache.run.arguments(port),
        ["redis-server", "--port", "4001"]
    );
}

#[test]
fn a_short_one_has_the_defaults_and_every_kind_of_readiness_is_understood() {
    let manifest = services(
        r#"
[service.a]
run = "a"
[service.b]
run = "b"
ready = "notify"
[service.c]
run = "c"
ready = { descriptor = 3 }
[service.d]
run = "d"
ready = { command = ["pg_isready", "-p", "{port.d}"] }
[service.e]
run = "e"
ready = "exit"
[service.f]
run = "f"
ready = { tcp = 5432 }
"#,
    );
    let port = |_: &Name| 4000;
    let service = |text: &str| manifest.services[text].service(name(text), port);
    let a = service("a");
    assert_eq!(
        a,
        envd_supervision::Service::new(name("a")),
        "the defaults are the supervisor's"
    );
    assert_eq!(service("b").readiness, Readiness::Notify);
    assert_eq!(service("c").readiness, Readiness::Descriptor(3));
    assert_eq!(service("d").readiness, Readiness::Command);
    assert_eq!(service("f").readiness, Readiness::Tcp(5432));
    let e = service("e");
    assert_eq!((e.readiness, e.start_timeout), (Readiness::Exit, None));
    let Ready::Command(CommandLine::Exec(words)) = &manifest.services["d"].ready else {
        panic!("a command");
    };
    assert_eq!(words.len(), 3);
    assert_eq!(manifest.services["d"].ports().count(), 1);
}

#[test]
fn what_the_file_allows_a_supervisor_accepts() {
    let manifest = services(
        "[service.a]\nrun = \"a\"\nneeds = [\"b\"]\n[service.b]\nrun = \"b\"\nready = \"exit\"\nafter = [\"c\"]\n[service.c]\nrun = \"c\"\n",
    );
    let services = manifest.services.iter();
    let services = services.map(|(name, section)| section.service(name.clone(), |_| 1));
    assert!(Supervisor::new(services.collect()).is_ok());
}

#[test]
fn unknown_keys_and_names_tell_the_nearest() {
    insta::assert_snapshot!(refused(
        "[env]\n[service.db]\nrun = \"x\"\nneed = [\"cache\"]\nstop_signal = \"SIGINT\"\n[service.web]\nrun = \"x\"\nneeds = [\"bd\", \"queue\", \"db\", \"db\"]\nready = { tpc = 80 }\n"
    ));
    insta::assert_snapshot!(refused(
        "[env]\n[service.\"a b\"]\nrun = \"x\"\n[service.x]\n"
    ));
}

#[test]
fn circles_are_shown_as_chains() {
    insta::assert_snapshot!(refused(
        "[env]\n[service.a]\nrun = \"x\"\nneeds = [\"b\"]\n[service.b]\nrun = \"x\"\nafter = [\"c\"]\n[service.c]\nrun = \"x\"\nneeds = [\"a\"]\n"
    ));
    insta::assert_snapshot!(refused(
        "[env]\n[service.a]\nrun = \"x\"\nneeds = [\"a\"]\n"
    ));
}

#[test]
fn values_that_mean_nothing_are_refused() {
    insta::assert_snapshot!(refused(
        r#"[env]
[service.a]
run = ""
ready = "notifi"
restart = "sometimes"
stop-signal = "INT"
stop-timeout = 10
start-timeout = "soon"
watchdog = "0s"
directory = ""
env = { "A=B" = "x", C = 1, D = "{port.}" }
[service.b]
run = []
ready = { tcp = 80, command = "x" }
[service.c]
run = 3
ready = { tcp = "http" }
[service.d]
run = "x"
ready = { descriptor = 2 }
[service.e]
run = "x"
ready = "exit"
restart = "always"
[service.f]
run = "x"
ready = { tcp = 70000 }
[service.g]
run = "x {port.a b}"
ready = 5
"#
    ));
}
