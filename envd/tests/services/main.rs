//! Services as processes of this machine: what people see of them, and what is left when they are gone.

mod host;

use std::{fs, os::unix::net::UnixDatagram, path::Path, sync::Arc, time::Duration};

use envd::services::{Directories, Origin, Ports, Services, Spec, UpError};
use envd_supervision::{Limit, Name, Policy, Readiness, Restart, Service, State};
use host::HostExecutor;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// One at a time, since descriptors and processes are counted.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Longer than anything takes on a machine that does anything at all.
const LONG: Duration = Duration::from_secs(60);

/// A shell that ends well when it is told to.
const SERVE: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

struct Scene {
    services: Services,
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A service that runs a line of shell.
fn shell(service: Service, line: &str) -> Spec {
    Spec {
        service,
        arguments: ["/bin/sh", "-c", line].map(Into::into).to_vec(),
        variables: [("GREETING".into(), "hello".into())].into(),
        directory: ".".into(),
        probe: Vec::new(),
    }
}

fn service(this: &str, needs: &[&str], readiness: Readiness) -> Service {
    Service {
        needs: needs.iter().map(|need| name(need)).collect(),
        readiness,
        ..Service::new(name(this))
    }
}

impl Scene {
    async fn new(specs: Vec<Spec>) -> Self {
        let alone = ALONE.lock().await;
        let directory = tempfile::tempdir().expect("a directory");
        let below = |name: &str| directory.path().join(name);
        let directories = Directories {
            state: below("state"),
            sockets: below("n"),
            logs: below("logs"),
        };
        let executor = HostExecutor::new(directory.path());
        let services = Services::new(specs, Arc::new(executor), directories).expect("services");
        Self {
            services,
            directory,
            _alone: alone,
        }
    }

    fn state(&self, file: &str) -> std::path::PathBuf {
        self.directory.path().join("state").join(file)
    }

    fn status(&self, service: &str) -> (State, String) {
        let all = self.services.status();
        let status = all.iter().find(|status| status.name.as_str() == service);
        let status = status.expect("a service");
        (status.state, status.reason.clone())
    }

    fn pid(&self, service: &str) -> u32 {
        let all = self.services.status();
        let status = all.iter().find(|status| status.name.as_str() == service);
        status.expect("a service").pid.expect("a process")
    }

    /// Waits until a service is in a state.
    async fn reach(&self, service: &str, state: State) {
        until(|| self.status(service).0 == state).await;
    }

    /// The lines that a service has written so far.
    fn written(&self, service: &str) -> Vec<String> {
        let mut following = self.services.logs(&name(service)).expect("a log");
        let lines = following.skip_to_last(usize::MAX).expect("readable");
        lines
            .into_iter()
            .filter(|line| line.origin == Origin::Service)
            .map(|line| String::from_utf8(line.text).expect("text"))
            .collect()
    }
}

/// Waits until something is so.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("it never happened");
}

fn is_there(pid: u32) -> bool {
    // A process that has ended and was not waited for counts as there: that would be a leak, too.
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn services_come_up_in_order_and_go_down_in_the_opposite_one() {
    let line = |name: &str| {
        format!(
            "trap 'echo down {name} >> $ENVD_STATE/order; exit 0' TERM; echo up {name} >> $ENVD_STATE/order; \
             echo >&3; exec 3>&-; while :; do sleep 1000 & wait; done"
        )
    };
    let ready = Readiness::Descriptor(3);
    let scene = Scene::new(vec![
        shell(service("web", &["db"], ready), &line("web")),
        shell(service("db", &[], ready), &line("db")),
    ])
    .await;
    scene
        .services
        .up(&[name("web")])
        .await
        .expect("both are up");
    assert_eq!(scene.status("db").0, State::Ready);
    let pids = [scene.pid("db"), scene.pid("web")];
    let slow = scene.services.down(&[name("db")], LONG).await.unwrap();
    assert_eq!(slow, []);
    let order = fs::read_to_string(scene.state("order")).unwrap();
    assert_eq!(order, "up db\nup web\ndown web\ndown db\n");
    assert!(!pids.into_iter().any(is_there));
}

#[tokio::test]
async fn a_service_that_closes_its_descriptor_is_ready_and_one_that_dies_is_not() {
    let never = |service: Service| Service {
        restart: Restart {
            policy: Policy::Never,
            ..Restart::default()
        },
        ..service
    };
    let ready = Readiness::Descriptor(3);
    let scene = Scene::new(vec![
        shell(service("good", &[], ready), &format!("exec 3>&-; {SERVE}")),
        shell(never(service("bad", &[], ready)), "exit 1"),
    ])
    .await;
    scene.services.up(&[name("good")]).await.expect("it is up");
    let error = scene.services.up(&[name("bad")]).await.unwrap_err();
    assert!(error.to_string().contains("before it was ready"), "{error}");
    scene.services.shutdown(LONG).await;
}

#[tokio::test]
async fn what_a_service_notifies_is_heard() {
    let line = format!(
        "printf %s \"$NOTIFY_SOCKET\" > $ENVD_STATE/w; mv $ENVD_STATE/w $ENVD_STATE/where; {SERVE}"
    );
    let db = service("db", &[], Readiness::Notify);
    let scene = Scene::new(vec![shell(db, &line)]).await;
    let services = scene.services.clone();
    let up = tokio::spawn(async move { services.up(&[]).await });
    until(|| scene.state("where").exists()).await;
    let path = fs::read_to_string(scene.state("where")).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"STATUS=recovering", &path).unwrap();
    let text = || scene.services.status()[0].text.clone();
    until(|| text().as_deref() == Some("recovering")).await;
    assert_eq!(scene.status("db").0, State::Starting);
    sender.send_to(b"READY=1\nSTATUS=", &path).unwrap();
    up.await.unwrap().expect("it is up");
    until(|| text().is_none()).await;
    scene.services.shutdown(LONG).await;
    assert!(!Path::new(&path).exists(), "the socket is left behind");
}

#[tokio::test]
async fn a_port_is_waited_for() {
    let mut ports = Ports::new(b"a test");
    ports.give([name("db")].iter()).unwrap();
    let port = ports.get(&name("db")).unwrap();
    let db = service("db", &[], Readiness::Tcp(port));
    let scene = Scene::new(vec![shell(db, SERVE)]).await;
    let services = scene.services.clone();
    let up = tokio::spawn(async move { services.up(&[]).await });
    scene.reach("db", State::Starting).await;
    until(|| scene.services.status()[0].pid.is_some()).await;
    assert_eq!(scene.status("db").0, State::Starting);
    let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    up.await.unwrap().expect("it is up");
    scene.services.shutdown(LONG).await;
}

#[tokio::test]
async fn a_command_is_asked_until_it_succeeds() {
    let mut db = shell(service("db", &[], Readiness::Command), SERVE);
    db.probe = [
        "/bin/sh",
        "-c",
        "echo . >> $ENVD_STATE/asked; test -e $ENVD_STATE/there",
    ]
    .map(Into::into)
    .to_vec();
    let scene = Scene::new(vec![db]).await;
    let services = scene.services.clone();
    let up = tokio::spawn(async move { services.up(&[]).await });
    let asked = || {
        fs::read_to_string(scene.state("asked"))
            .unwrap_or_default()
            .len()
    };
    until(|| asked() >= 4).await;
    assert_eq!(scene.status("db").0, State::Starting);
    fs::write(scene.state("there"), "").unwrap();
    up.await.unwrap().expect("it is up");
    scene.services.shutdown(LONG).await;
}

#[tokio::test]
async fn who_cannot_come_up_is_told_with_the_cause() {
    let migrate = Service {
        restart: Restart {
            policy: Policy::Never,
            ..Restart::default()
        },
        ..service("migrate", &[], Readiness::Exit)
    };
    let scene = Scene::new(vec![
        shell(migrate, "echo no such table >&2; exit 3"),
        shell(service("web", &["migrate"], Readiness::Started), SERVE),
        Spec {
            arguments: vec!["/no/such/program".into()],
            ..shell(service("odd", &[], Readiness::Started), "")
        },
    ])
    .await;
    let error = scene.services.up(&[name("web")]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "migrate failed: exit status 3; web failed: it needs `migrate`, which has failed"
    );
    assert_eq!(scene.written("migrate"), ["no such table"]);
    let error = scene.services.up(&[name("wbe")]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no service `wbe`; did you mean `web`?"
    );
    let services = scene.services.clone();
    let up = tokio::spawn(async move { services.up(&[name("odd")]).await });
    scene.reach("odd", State::Pausing).await;
    assert!(
        scene.status("odd").1.contains("cannot be started: "),
        "{:?}",
        scene.status("odd")
    );
    scene.services.shutdown(LONG).await;
    assert!(matches!(up.await.unwrap(), Err(UpError::Down(_))));
}

#[tokio::test]
async fn a_service_that_ends_comes_back_and_its_output_goes_on() {
    let restart = Restart {
        policy: Policy::Always,
        first: Duration::ZERO,
        limit: Some(Limit {
            count: 2,
            window: LONG,
        }),
        ..Restart::default()
    };
    let job = Service {
        restart,
        ..service("job", &[], Readiness::Started)
    };
    let line = "echo $GREETING; printf '\\033[1mno end'";
    let scene = Scene::new(vec![shell(job, line)]).await;
    let mut following = scene.services.logs(&name("job")).unwrap();
    let _ = scene.services.up(&[]).await;
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let line = tokio::time::timeout(LONG, following.next())
            .await
            .expect("more");
        let line = line.unwrap().expect("more");
        assert!(line.time.ends_with('Z'));
        if line.origin == Origin::Service {
            seen.push(String::from_utf8(line.text).unwrap());
        }
    }
    assert_eq!(seen[..2], ["hello", "\u{1b}[1mno end"]);
    assert_eq!(seen[2..4], seen[..2]);
    assert_eq!(seen[4..], seen[..2]);
    scene.reach("job", State::Failed).await;
    assert!(scene.status("job").1.contains("given up after 2 restarts"));
}

#[tokio::test]
async fn who_does_not_end_is_killed_and_named() {
    let stubborn = service("stubborn", &[], Readiness::Descriptor(3));
    let line = "trap '' TERM; echo >&3; exec 3>&-; while :; do sleep 1000 & wait; done";
    let scene = Scene::new(vec![shell(stubborn, line)]).await;
    scene.services.up(&[]).await.expect("it is up");
    let pid = scene.pid("stubborn");
    let within = Duration::from_millis(300);
    let slow = scene.services.down(&[], within).await.unwrap();
    assert_eq!(slow.len(), 1);
    assert_eq!(slow[0].service, name("stubborn"));
    assert!(
        slow[0].reason.contains("SIGTERM and was killed"),
        "{slow:?}"
    );
    until(|| !is_there(pid)).await;
}

#[tokio::test]
async fn when_nobody_holds_the_services_any_more_they_are_gone() {
    let db = service("db", &[], Readiness::Started);
    let line = "trap '' TERM; while :; do sleep 1000; done";
    let scene = Scene::new(vec![shell(db, line)]).await;
    scene.services.up(&[]).await.expect("it is up");
    let pid = scene.pid("db");
    assert!(is_there(pid));
    let Scene {
        services,
        directory,
        _alone,
    } = scene;
    drop(services);
    until(|| !is_there(pid)).await;
    drop(directory);
}

#[tokio::test]
async fn up_and_down_again_leaves_nothing_open() {
    let ready = Readiness::Descriptor(3);
    let line = format!("echo >&3; exec 3>&-; {SERVE}");
    let scene = Scene::new(vec![
        shell(service("a", &[], ready), &line),
        shell(service("b", &["a"], Readiness::Started), SERVE),
    ])
    .await;
    // Pipes and files: what else there is belongs to the runtimes of tests that wait for their turn.
    let open = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = all.filter_map(|entry| fs::read_link(entry.path()).ok());
        let counted = |link: &std::path::PathBuf| {
            let text = link.to_string_lossy();
            text.starts_with("pipe:") || text.starts_with('/')
        };
        links.filter(counted).count()
    };
    let mut counts = Vec::new();
    for _ in 0..5 {
        scene.services.up(&[]).await.expect("they are up");
        scene.services.down(&[], LONG).await.unwrap();
        counts.push(open());
    }
    // The first round opens the logs, which stay open; the end of an earlier test may still close some.
    assert!(counts[4] <= counts[1], "{counts:?}");
}
