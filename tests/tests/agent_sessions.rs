//! `envd agent` from the command line: environments that outlive the command that made them, held by the project's daemon, and
//! how they end.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Stdio},
};

use envd_tests::{
    daemon::{Daemon, until},
    leftovers::Watch,
    sandbox::{Sandbox, conclude},
    session::{agent, everyone, json, printed, sh, start, until_line},
    world::World,
};
use nix::sys::signal::kill;
use serde_json::Value;

/// A sandbox whose daemon can be started and has gone.
fn settled(sandbox: &Sandbox) {
    sandbox.wants(&["hello"]);
    sandbox.envd(&["daemon", "start"]).ok();
    sandbox.envd(&["daemon", "stop"]).ok();
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_session_from_its_beginning_to_its_end() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        settled(&sandbox);
        sandbox.write("notes", "one\ntwo\n");
        sandbox.write("src/old", "gone soon\n");
        let watch = Watch::start(&sandbox);
        let daemon = Daemon::of(&sandbox);
        assert_eq!(printed(&sandbox, &["ls"]), "nothing is lent");
        assert!(
            daemon.status().is_none(),
            "to look is no reason to start one"
        );

        let handle = printed(&sandbox, &["create", "--name", "try"]);
        assert!(handle.starts_with("env_") && handle.len() == 36, "{handle}");
        assert_eq!(daemon.status().unwrap()["lent"], 1);
        for name in ["try", &handle, &handle[..12]] {
            assert_eq!(
                printed(&sandbox, &["run", name, "--", "hello"]),
                "Hello, world! 1.0"
            );
        }
        agent(&sandbox, &["create", "--name", "try"])
            .code(2)
            .says(&[&handle, "another name"]);
        let listed = &json(&sandbox, &["ls"])["environments"][0];
        assert_eq!(listed["name"], "try");
        let left = listed["expires_in_seconds"].as_u64().expect("a time");
        assert!((28_000..=28_800).contains(&left), "8 h unless said: {left}");

        sh(
            &sandbox,
            "try",
            "echo three >> notes; rm src/old; mkdir deep; echo new > deep/file",
        );
        assert_eq!(
            text(&sandbox.project().join("notes")),
            "one\ntwo\n",
            "untouched"
        );
        let diff = printed(&sandbox, &["diff", "try"]);
        assert!(
            diff.contains("+three") && diff.contains("-gone soon"),
            "{diff}"
        );
        let diff = printed(&sandbox, &["diff", "try", "deep"]);
        assert!(diff.contains("+new") && !diff.contains("three"), "{diff}");
        let stat = printed(&sandbox, &["diff", "try", "--stat"]);
        assert!(stat.contains("notes") && stat.contains("+1 -0"), "{stat}");
        let report = json(&sandbox, &["diff", "try", "notes"]);
        assert_eq!(
            report["files"][0]["hunks"][0]["lines"][2], "+three",
            "{report}"
        );
        // Paths are meant from where one is.
        let from_below = sandbox
            .envd_command(&["agent", "diff", "try", "old"])
            .current_dir(sandbox.project().join("src"))
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&from_below.stdout).contains("-gone soon"));
        let here = sandbox
            .envd_command(&["agent", "run", "try", "--", "pwd"])
            .current_dir(sandbox.project().join("src"))
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&here.stdout).ends_with("/project/src\n"));
        agent(&sandbox, &["diff", "try", "/etc"])
            .code(2)
            .says(&["not in the project"]);

        let dry = printed(&sandbox, &["apply", "try", "notes", "--dry-run"]);
        assert_eq!(dry, "would apply notes");
        assert_eq!(text(&sandbox.project().join("notes")), "one\ntwo\n");
        agent(&sandbox, &["apply", "try", "notes"]).ok();
        assert_eq!(text(&sandbox.project().join("notes")), "one\ntwo\nthree\n");
        assert!(sandbox.project().join("src/old").exists(), "not asked for");
        sandbox.write("src/old", "mine\n");
        agent(&sandbox, &["apply", "try"])
            .code(1)
            .says(&["nothing was applied"]);
        assert!(!sandbox.project().join("deep").exists());

        let removed = json(&sandbox, &["rm", "try"]);
        assert_eq!(
            removed["environments"][0]["environment"],
            Value::from(handle.clone())
        );
        agent(&sandbox, &["run", "try", "--", "true"])
            .code(2)
            .says(&["no environment try", "envd agent ls"]);
        assert_eq!(daemon.status().unwrap()["lent"], 0);
        drop(daemon);
        watch.assert_nothing_left();
    }
}

#[test]
fn a_large_diff_is_shown_whole() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    sandbox.wants(&[]);
    let _daemon = Daemon::of(&sandbox);
    agent(&sandbox, &["create", "--name", "try"]).ok();
    sh(
        &sandbox,
        "try",
        "seq 300000 > numbers; for i in $(seq 1500); do echo $i > file-$i; done",
    );
    let diff = printed(&sandbox, &["diff", "try"]);
    assert!(
        diff.contains("\n+300000") && diff.contains("\n+150000\n"),
        "{}",
        diff.len()
    );
    let report = json(&sandbox, &["diff", "try"]);
    assert_eq!(report["files"].as_array().unwrap().len(), 1501);
}

#[test]
fn two_sessions_at_once_share_nothing() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        sandbox.write("file", "project\n");
        let _daemon = Daemon::of(&sandbox);
        let creating: Vec<_> = ["one", "two"]
            .map(|name| {
                sandbox
                    .envd_command(&["agent", "create", "--name", name])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .process_group(0)
                    .spawn()
                    .unwrap()
            })
            .into_iter()
            .collect();
        for child in creating {
            conclude(child).ok();
        }
        let mut one = start(
            &sandbox,
            "one",
            "echo one > file; echo ready; read go; cat file",
        );
        let mut two = start(
            &sandbox,
            "two",
            "echo two > file; echo ready; read go; cat file",
        );
        until_line(&mut one, "ready");
        until_line(&mut two, "ready");
        for child in [&mut two, &mut one] {
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        }
        assert_eq!(conclude(one).ok().stdout, "one\n");
        assert_eq!(conclude(two).ok().stdout, "two\n");
        agent(&sandbox, &["rm", "one"]).ok();
        assert_eq!(sh(&sandbox, "two", "cat file"), "two\n");
        assert_eq!(text(&sandbox.project().join("file")), "project\n");

        // Two that want the same name: one of them gets it.
        let racing: Vec<Child> = (0..4)
            .map(|_| {
                sandbox
                    .envd_command(&["agent", "create", "--name", "same"])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .process_group(0)
                    .spawn()
                    .unwrap()
            })
            .collect();
        let codes = racing
            .into_iter()
            .map(|child| conclude(child).status.code());
        let mut codes: Vec<_> = codes.collect();
        codes.sort();
        assert_eq!(codes, [Some(0), Some(2), Some(2), Some(2)]);
    }
}

#[test]
fn forks_snapshots_and_what_is_put_back() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        sandbox.write("file", "project\n");
        let _daemon = Daemon::of(&sandbox);
        agent(&sandbox, &["create", "--name", "try"]).ok();
        sh(&sandbox, "try", "echo first > file");
        let snapshot = printed(&sandbox, &["snapshot", "try", "--name", "before"]);
        assert!(snapshot.starts_with("snap_"), "{snapshot}");
        agent(&sandbox, &["snapshot", "try", "--name", "before"])
            .code(2)
            .says(&[&snapshot]);
        sh(&sandbox, "try", "echo second > file");
        let forks = printed(&sandbox, &["fork", "try", "--count", "2", "--name", "fork"]);
        assert_eq!(forks.lines().count(), 2, "{forks}");
        assert_eq!(
            sh(&sandbox, "fork-2", "cat file; echo third > file"),
            "second\n"
        );
        assert_eq!(sh(&sandbox, "fork-1", "cat file"), "second\n");
        agent(&sandbox, &["restore", "fork-1", "before"])
            .code(2)
            .says(&["snapshot before is of"]);
        agent(&sandbox, &["restore", "try", "before"]).ok();
        assert_eq!(sh(&sandbox, "try", "cat file"), "first\n");
        agent(
            &sandbox,
            &["restore", "try", &snapshot, "--as-new", "--name", "again"],
        )
        .ok();
        assert_eq!(sh(&sandbox, "again", "cat file"), "first\n");
        let listed = json(&sandbox, &["ls"]);
        assert_eq!(listed["snapshots"][0]["name"], "before");
        let all = listed["environments"].as_array().unwrap();
        assert!(
            all.iter().all(|one| one["expires_in_seconds"].is_u64()),
            "{listed}"
        );

        // What runs stands still for a moment, and goes on.
        let sleeping = ["run", "try", "--detach", "--", "sleep", "1000"];
        let command = printed(&sandbox, &sleeping);
        agent(&sandbox, &["fork", "try", "--name", "beside"]).ok();
        assert_eq!(
            sh(&sandbox, "beside", "cat file; pidof sleep || echo none"),
            "first\nnone\n"
        );
        let removed = json(&sandbox, &["rm", "try", "before"]);
        assert_eq!(
            removed["environments"][0]["killed_commands"], 1,
            "{removed}"
        );
        assert_eq!(removed["snapshots"][0], Value::from(snapshot));
        agent(&sandbox, &["logs", &command]).code(2);
        agent(&sandbox, &["rm", "--all"]).ok();
        assert_eq!(printed(&sandbox, &["ls"]), "nothing is lent");
    }
}

/// Packages by name, nothing at all, and a network that was asked for by whoever may grant it.
#[test]
fn an_environment_has_what_was_asked_for() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    sandbox.wants(&[]);
    let _daemon = Daemon::of(&sandbox);
    let create = [
        "create",
        "--name",
        "some",
        "--package",
        "shell",
        "--package",
        "hello",
    ];
    agent(&sandbox, &create).ok();
    assert_eq!(sh(&sandbox, "some", "hello"), "Hello, world! 1.0\n");
    let empty = json(&sandbox, &["create", "--empty", "--ttl", "1m"]);
    assert_eq!(empty["from"], "empty");
    assert!(empty["expires_in_seconds"].as_u64().unwrap() <= 60);
    let handle = empty["environment"].as_str().unwrap();
    agent(&sandbox, &["run", handle, "--", "true"]).code(127);
    let list = json(
        &sandbox,
        &["create", "--allow-host", "*.example.org", "--name", "net"],
    );
    assert_eq!(list["network"]["allow"][0], "*.example.org", "{list}");
    assert_eq!(
        sh(&sandbox, "net", "echo $https_proxy"),
        "http://127.0.0.1:3128\n"
    );
    let host = json(&sandbox, &["create", "--network", "host"]);
    assert_eq!(host["network"], "host");
    let none = "tail -n +3 /proc/net/dev | grep -v lo:; true";
    assert_eq!(sh(&sandbox, "some", none), "");
    agent(&sandbox, &["create", "--allow-host", "10.0.0.1"]).code(2);
    agent(
        &sandbox,
        &["create", "--network", "host", "--allow-host", "a.org"],
    )
    .code(2);
}

#[test]
fn a_sessions_time_ends_it_and_a_session_keeps_the_daemon() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another().variable("ENVD_DAEMON_IDLE", "1");
    settled(&sandbox);
    let watch = Watch::start(&sandbox);
    let daemon = Daemon::of(&sandbox);
    agent(&sandbox, &["create", "--name", "short", "--ttl", "3s"]).ok();
    let line = "setsid sleep 1000 & exec sleep 1000";
    agent(
        &sandbox,
        &["run", "short", "--detach", "--", "sh", "-c", line],
    )
    .ok();
    let pid = daemon.pid();
    // Longer idle than the daemon waits, and there is something to keep it.
    let lives = || kill(pid, None).is_ok();
    until("the time is over", || {
        let listed = json(&sandbox, &["ls"]);
        let is_there = listed["environments"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        assert!(lives() || !is_there, "the daemon left its sessions");
        !is_there
    });
    until("the daemon ends when it has nothing", || !lives());
    watch.assert_nothing_left();
}

/// While there is a session nobody else's wish to have an idle daemon gone is met; `stop` means it.
#[test]
fn a_daemon_with_sessions_is_not_idle() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    settled(&sandbox);
    let watch = Watch::start(&sandbox);
    let daemon = Daemon::of(&sandbox);
    agent(&sandbox, &["create", "--name", "try"]).ok();
    let status = daemon.status().unwrap();
    let raw = daemon.connect();
    let build = status["build"].as_str().unwrap();
    raw.ask(&format!(
        r#"{{"version":1,"build":"{build}","request":"stop","if_idle":true}}"#
    ));
    assert_eq!(raw.error(), "busy");
    // What is no request of this protocol harms nobody.
    let ask = |method: &str, arguments: &str| {
        raw.ask(&format!(
            r#"{{"version":1,"build":"{build}","request":"agent","method":"{method}","arguments":{arguments}}}"#
        ));
        raw.answer().expect("an answer")
    };
    let unknown = ask("environment_explode", "{}");
    let failure = unknown["ok"]["failure"].to_string();
    assert!(failure.contains("environment_explode"), "{unknown}");
    let listed = ask("environment_list", "{}");
    assert_eq!(
        listed["ok"]["answer"]["environments"][0]["name"], "try",
        "{listed}"
    );
    let mut child = start(&sandbox, "try", "echo ready; exec sleep 1000");
    until_line(&mut child, "ready");
    sandbox.envd(&["daemon", "stop"]).ok();
    conclude(child).code(1).says(&["stopped"]);
    watch.assert_nothing_left();
}

/// Whatever ends the daemon ends everything: no process, no mount, and no file once the next command has come.
#[test]
fn a_killed_daemon_leaves_nothing() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        settled(&sandbox);
        let watch = Watch::start(&sandbox);
        let places = || {
            std::fs::read_dir(sandbox.store().join("tmp"))
                .unwrap()
                .count()
        };
        let daemon = Daemon::of(&sandbox);
        agent(&sandbox, &["create", "--name", "one"]).ok();
        agent(&sandbox, &["create", "--name", "two"]).ok();
        let line = "setsid sleep 1000 >/dev/null 2>&1 & echo > file; mkdir -p a/b; chmod 0 a; exec sleep 1000";
        agent(
            &sandbox,
            &["run", "one", "--detach", "--", "sh", "-c", line],
        )
        .ok();
        let mut child = start(&sandbox, "two", "echo ready; exec sleep 1000");
        until_line(&mut child, "ready");
        daemon.kill();
        conclude(child).fails().says(&["daemon"]);
        // Its socket and the like are all that may stay until the next one comes.
        let left = watch.left_for_good();
        let others: Vec<_> = left
            .iter()
            .filter(|line| !line.contains("/run/envd"))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        assert_eq!(places(), 1);
        assert_eq!(printed(&sandbox, &["ls"]), "nothing is lent");
        agent(&sandbox, &["create"]).ok();
        drop(daemon);
        assert_eq!(places(), 0);
        assert!(!sandbox.project().join("file").exists());
        watch.assert_nothing_left();
    }
}
