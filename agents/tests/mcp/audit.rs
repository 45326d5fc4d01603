//! Every call leaves one line, whatever becomes of it.

use std::sync::{Arc, Mutex};

use envd_agents::{
    audit::{Audited, Denials, Log, Record, Refused, Whose, read},
    secret::{Kept, Keyring, Origin, Secret},
    service::{
        Call, EnvironmentId, Owner, Service as _,
        command::{CommandPoll, CommandRun, CommandSetup, CommandStart},
        environment::{EnvironmentCreate, EnvironmentDestroy, EnvironmentFork},
        file::FileRead,
    },
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{fake::Fake, ground::Ground};

/// Refusals that wait to be taken.
#[derive(Default)]
struct Waiting(Mutex<Vec<Refused>>);

impl Denials for Waiting {
    fn take(&self, _: Whose<'_>) -> Vec<Refused> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct Scene {
    ground: Ground,
    place: tempfile::TempDir,
    denials: Arc<Waiting>,
    keyring: Arc<Keyring>,
    audited: Audited<Fake>,
    call: Call,
}

impl Scene {
    fn new() -> Self {
        let ground = Ground::new();
        let place = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::open(place.path().join("audit")).unwrap());
        let denials = Arc::new(Waiting::default());
        let keyring = Arc::new(Keyring::default());
        let audited = Audited::new(ground.fake.clone(), log, denials.clone(), keyring.clone());
        let mut call = Call::quiet(Owner::random());
        call.client = Some("test\u{1b}[2J 1".to_owned());
        Self {
            ground,
            place,
            denials,
            keyring,
            audited,
            call,
        }
    }

    fn directory(&self) -> std::path::PathBuf {
        self.place.path().join("audit")
    }

    fn records(&self) -> Vec<Record> {
        read(&self.directory(), |_| true).unwrap().records
    }

    fn last(&self) -> Record {
        self.records().pop().expect("a line")
    }

    async fn create(&self) -> EnvironmentId {
        let lent = self
            .audited
            .environment_create(&self.call, EnvironmentCreate::default());
        lent.await.unwrap().environment
    }

    fn setup(&self, environment: &EnvironmentId, line: &str) -> CommandSetup {
        let setup = json!({"environment": environment, "command": line});
        serde_json::from_value(setup).unwrap()
    }

    fn run(&self, environment: &EnvironmentId, line: &str) -> CommandRun {
        CommandRun {
            setup: self.setup(environment, line),
            output_bytes: 1000,
        }
    }
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[tokio::test]
async fn a_line_says_who_did_what_and_nothing_of_what_was_in_it() {
    let scene = Scene::new();
    let environment = scene.create().await;
    let line = scene.last();
    assert_eq!(
        (&*line.method, &*line.verdict),
        ("environment_create", "ok")
    );
    assert_eq!(line.environment.as_deref(), Some(environment.as_str()));
    assert_eq!(line.request, sha256(r#"{"from":"project"}"#));
    assert_eq!(line.process, std::process::id());
    assert_eq!(line.owner.len(), 16);
    assert!(!scene.call.owner.as_str().contains(&line.owner));

    let run = scene.run(&environment, "echo from the inside; exit 3\necho more");
    let ended = scene.audited.command_run(&scene.call, run).await.unwrap();
    let line = scene.last();
    assert_eq!(
        line.subject.as_deref(),
        Some("echo from the inside; exit 3…")
    );
    assert_eq!(line.verdict, "ok", "a command's own verdict is a result");
    let answer = serde_json::to_value(&ended).unwrap().to_string();
    assert_eq!(line.answer, Some(sha256(&answer)));

    let start = CommandStart {
        setup: scene.setup(&environment, "sleep 0"),
        keep_stdin_open: false,
        terminal: None,
    };
    let started = scene
        .audited
        .command_start(&scene.call, start)
        .await
        .unwrap();
    let poll = json!({"command": started.command});
    let poll: CommandPoll = serde_json::from_value(poll).unwrap();
    scene.audited.command_poll(&scene.call, poll).await.unwrap();
    let line = scene.last();
    assert_eq!(
        line.environment.as_deref(),
        Some(environment.as_str()),
        "by its command"
    );

    let read = json!({"environment": environment, "path": "no/such\u{202e}"});
    let read: FileRead = serde_json::from_value(read).unwrap();
    scene
        .audited
        .file_read(&scene.call, read)
        .await
        .unwrap_err();
    let line = scene.last();
    assert_eq!(
        (&*line.verdict, line.subject.as_deref()),
        ("no_such_file", Some("no/such\u{202e}"))
    );
    assert!(line.failure.unwrap().contains("no such file"));

    let fork = EnvironmentFork {
        environment: environment.clone(),
        count: 2,
        name: None,
        ttl_seconds: None,
    };
    scene
        .audited
        .environment_fork(&scene.call, fork)
        .await
        .unwrap();
    assert_eq!(scene.last().made.len(), 2);
    let gone = EnvironmentDestroy { environment };
    scene
        .audited
        .environment_destroy(&scene.call, gone)
        .await
        .unwrap();
    scene.audited.release(&scene.call.owner).await;
    assert_eq!(scene.last().method, "release");
    assert_eq!(scene.records().len(), 8);
    assert_eq!(scene.ground.fake.left(), (0, 0, 0));

    let bytes = std::fs::read(scene.directory().join("calls.jsonl")).unwrap();
    assert!(bytes.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')));
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        !text.contains("from the inside\\n") && !text.contains("echo more"),
        "{text}"
    );
}

#[tokio::test]
async fn a_call_that_is_dropped_is_on_record() {
    let scene = Scene::new();
    let environment = scene.create().await;
    {
        let run = scene.run(&environment, "sleep 1000");
        let mut running = scene.audited.command_run(&scene.call, run);
        let first = std::future::poll_fn(|context| {
            let polled = running.as_mut().poll(context);
            std::task::Poll::Ready(polled.is_ready())
        });
        assert!(!first.await);
    }
    assert_eq!(
        (&*scene.last().verdict, scene.last().answer),
        ("cancelled", None)
    );
    scene.audited.release(&scene.call.owner).await;
}

#[tokio::test]
async fn limits_and_refusals_are_in_the_line_of_their_environment() {
    let scene = Scene::new();
    let environment = scene.create().await;
    let refused = Refused {
        host: Some("evil.example.org".to_owned()),
        port: Some(443),
        reason: "not-listed".to_owned(),
        count: 3,
    };
    scene.denials.0.lock().unwrap().push(refused.clone());
    let mut run = scene.run(&environment, "sleep 1000");
    run.setup.timeout_seconds = Some(0);
    scene.audited.command_run(&scene.call, run).await.unwrap();
    let line = scene.last();
    assert_eq!(
        (line.refused, line.limits),
        (vec![refused], vec!["timed_out".to_owned()])
    );
    scene.audited.release(&scene.call.owner).await;
}

#[tokio::test]
async fn a_secret_that_was_read_is_in_no_line() {
    let scene = Scene::new();
    let kept = Kept {
        origin: Origin::Variable("TOKEN".to_owned()),
        header: None,
    };
    let value = scene
        .keyring
        .value("TOKEN", &kept, || Ok(Secret::new("hush hush")));
    assert_eq!(value.unwrap().reveal(), b"hush hush");
    let environment = scene.create().await;
    let mut run = scene.run(&environment, "echo hush hush");
    run.setup.secrets = vec!["TOKEN".to_owned()];
    // What the service says of it is of no matter here.
    let _ = scene.audited.command_run(&scene.call, run).await;
    let line = scene.last();
    assert_eq!(line.subject.as_deref(), Some("echo [secret TOKEN]"));
    assert_eq!(line.secrets, ["TOKEN"]);
    let text = std::fs::read_to_string(scene.directory().join("calls.jsonl")).unwrap();
    assert!(!text.contains("hush"));
    scene.audited.release(&scene.call.owner).await;
}

/// Without a record nothing new is begun, and the work that is there can be saved.
#[tokio::test]
async fn while_nothing_can_be_recorded_nothing_is_begun() {
    let scene = Scene::new();
    let environment = scene.create().await;
    std::fs::remove_dir_all(scene.directory()).unwrap();
    let read = || -> FileRead {
        serde_json::from_value(json!({"environment": environment, "path": "README"})).unwrap()
    };
    // It cannot be known beforehand.
    let run = || scene.run(&environment, "true");
    scene.audited.command_run(&scene.call, run()).await.unwrap();
    let refused = scene
        .audited
        .command_run(&scene.call, run())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("audit"), "{refused}");
    scene.audited.file_read(&scene.call, read()).await.unwrap();
    std::fs::create_dir(scene.directory()).unwrap();
    scene.audited.command_run(&scene.call, run()).await.unwrap();
    let records = scene.records();
    assert_eq!(records[0].method, "audit_resumed");
    assert!(records[0].lost >= 2, "{records:?}");
    assert_eq!(records[1].method, "command_run");
    scene.audited.release(&scene.call.owner).await;
}
