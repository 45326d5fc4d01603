//! How a connection begins, who it belongs to, and what is left when a call or the connection ends.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::{
    ground::{Ground, until},
    wire::Wire,
};

const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[tokio::test]
async fn every_older_revision_gets_the_handshake_it_asks_for() {
    let ground = Ground::new();
    for revision in LEGACY {
        let mut wire = Wire::legacy(&ground, revision).await;
        let tools = wire.request("tools/list", json!({})).await;
        assert_eq!(
            tools["result"]["tools"].as_array().map(Vec::len),
            Some(21),
            "{revision}: {tools}"
        );
        assert!(tools["result"].get("resultType").is_none(), "{revision}");
        wire.close().await.expect("an orderly end");
    }
}

#[tokio::test]
async fn a_revision_nobody_knows_is_answered_with_the_newest_that_has_a_handshake() {
    let ground = Ground::new();
    let mut wire = Wire::connect(&ground);
    let answer = wire.initialize("2099-01-01").await;
    assert_eq!(answer["protocolVersion"], "2025-11-25");
    assert_eq!(answer["serverInfo"]["name"], "envd");
    assert!(
        answer["instructions"]
            .as_str()
            .is_some_and(|text| text.contains("changes_apply"))
    );
}

#[tokio::test]
async fn the_current_revision_needs_no_handshake() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let discovered = wire.request("server/discover", json!({})).await;
    let versions = discovered["result"]["supportedVersions"]
        .as_array()
        .expect("versions");
    assert_eq!(versions.len(), 5, "{versions:?}");
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2025-11-25")));
    let tools = wire.request("tools/list", json!({})).await;
    assert_eq!(tools["result"]["resultType"], "complete");
    assert!(
        tools["result"]["ttlMs"]
            .as_u64()
            .is_some_and(|milliseconds| milliseconds > 0)
    );
    let environment = wire.create().await;
    let ran = wire
        .done(
            "command_run",
            json!({"environment": environment, "command": "cat README"}),
        )
        .await;
    assert_eq!(ran["stdout"]["head"], "a project\n");
    wire.close().await.expect("an orderly end");
    ground.assert_empty();
}

#[tokio::test]
async fn a_request_of_the_current_revision_without_its_metadata_is_refused_and_the_next_is_served()
{
    let ground = Ground::new();
    let mut wire = Wire::connect(&ground);
    let refused = wire.request("tools/list", json!({})).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    assert_eq!(
        wire.initialize("2025-11-25").await["protocolVersion"],
        "2025-11-25"
    );
}

#[tokio::test]
async fn a_cancelled_command_is_killed_and_its_environment_lives_on() {
    let ground = Ground::new();
    for mut wire in [
        Wire::modern(&ground),
        Wire::legacy(&ground, "2025-06-18").await,
    ] {
        let environment = wire.create().await;
        let id = wire
            .send(
                "tools/call",
                json!({
                    "name": "command_run",
                    "arguments": {"environment": environment, "command": "echo begun; sleep 1000"},
                    "_meta": {"progressToken": 1},
                }),
            )
            .await;
        let begun = wire.receive().await.expect("progress");
        assert_eq!(begun["params"]["message"], "begun\n");
        wire.write(json!({
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": id, "reason": "the user pressed Escape"},
        }))
        .await;
        // The answer to this one comes, the answer to the cancelled one never.
        let ended = wire
            .done(
                "command_run",
                json!({"environment": environment, "command": "echo still here"}),
            )
            .await;
        assert_eq!(ended["stdout"]["head"], "still here\n");
        until("the command is gone", || ground.fake.left().1 == 0).await;
        wire.close().await.expect("an orderly end");
    }
    ground.assert_empty();
}

#[tokio::test]
async fn a_cancelled_creation_leaves_nothing() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let id = wire
        .send(
            "tools/call",
            json!({
                "name": "environment_create",
                "arguments": {"from": {"packages": ["gcc", "endless"]}},
                "_meta": {"progressToken": "making"},
            }),
        )
        .await;
    wire.receive().await.expect("it has begun");
    wire.write(json!({
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": id},
    }))
    .await;
    let abandoned = || ground.fake.abandoned.load(Ordering::SeqCst);
    until("the creation is abandoned", || abandoned() == 1).await;
    let listed = wire.done("environment_list", json!({})).await;
    assert_eq!(listed["environments"], json!([]));
    wire.close().await.expect("an orderly end");
    ground.assert_empty();
}

#[tokio::test]
async fn a_client_that_goes_takes_everything_with_it() {
    let ground = Ground::new();
    let mut wire = Wire::legacy(&ground, "2025-11-25").await;
    let environment = wire.create().await;
    wire.done("environment_snapshot", json!({"environment": environment}))
        .await;
    wire.done(
        "environment_fork",
        json!({"environment": environment, "count": 2}),
    )
    .await;
    wire.done(
        "command_start",
        json!({"environment": environment, "command": "sleep 1000"}),
    )
    .await;
    wire.send(
        "tools/call",
        json!({"name": "command_run", "arguments": {"environment": environment, "command": "sleep 1000"}}),
    )
    .await;
    wire.close().await.expect("an orderly end");
    ground.assert_empty();
}

#[tokio::test]
async fn answers_of_a_client_that_writes_and_closes_are_still_written() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let environment = wire.create().await;
    let id = wire
        .send(
            "tools/call",
            json!({"name": "command_run", "arguments": {"environment": environment, "command": "sleep 0.2; echo late"}}),
        )
        .await;
    wire.close_writer().await;
    let answer = wire.answer(id).await;
    assert_eq!(
        answer["result"]["structuredContent"]["stdout"]["head"],
        "late\n"
    );
    wire.ended().await.expect("an orderly end");
    ground.assert_empty();
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_frees_everything() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let environment = wire.create().await;
    wire.send(
        "tools/call",
        json!({"name": "command_run", "arguments": {"environment": environment, "command": "sleep 1000"}}),
    )
    .await;
    wire.stop.cancel();
    wire.ended().await.expect("an orderly end");
    ground.assert_empty();
}

#[tokio::test]
async fn handles_of_another_connection_do_not_exist() {
    let ground = Ground::new();
    let (mut mine, mut theirs) = (Wire::modern(&ground), Wire::modern(&ground));
    let environment = theirs.create().await;
    let ran = theirs
        .done(
            "command_run",
            json!({"environment": environment, "command": "echo secret"}),
        )
        .await;
    let (command, uri) = (&ran["command"], &ran["stdout"]["resource"]);
    let snapshot = theirs
        .done("environment_snapshot", json!({"environment": environment}))
        .await["snapshot"]
        .clone();
    let never = json!("env_00000000000000000000000000000000");
    for (tool, arguments) in [
        ("environment_destroy", json!({"environment": environment})),
        ("environment_fork", json!({"environment": environment})),
        ("environment_snapshot", json!({"environment": environment})),
        ("environment_restore", json!({"snapshot": snapshot})),
        (
            "command_run",
            json!({"environment": environment, "command": "id"}),
        ),
        (
            "command_start",
            json!({"environment": environment, "command": "id"}),
        ),
        ("command_poll", json!({"command": command})),
        (
            "command_signal",
            json!({"command": command, "signal": "KILL"}),
        ),
        (
            "file_read",
            json!({"environment": environment, "path": "README"}),
        ),
        (
            "file_write",
            json!({"environment": environment, "path": "x", "content": ""}),
        ),
        (
            "file_edit",
            json!({"environment": environment, "path": "README", "edits": [{"old": "a", "new": "b"}]}),
        ),
        ("file_list", json!({"environment": environment})),
        (
            "file_search",
            json!({"environment": environment, "pattern": "secret"}),
        ),
        ("changes_diff", json!({"environment": environment})),
        ("changes_apply", json!({"environment": environment})),
        (
            "package_add",
            json!({"environment": environment, "packages": ["gcc"]}),
        ),
    ] {
        let told = mine.fails(tool, arguments.clone()).await;
        assert!(told.starts_with("there is no "), "{tool}: {told}");
        // To the letter what is said of a handle that never was.
        if arguments.get("environment").is_some() {
            let mut arguments = arguments;
            arguments["environment"] = never.clone();
            let other = mine.fails(tool, arguments).await;
            let (given, never) = (environment.as_str(), never.as_str());
            assert_eq!(
                told.replace(given.expect("a handle"), ""),
                other.replace(never.expect("a handle"), ""),
                "{tool}"
            );
        }
    }
    assert_eq!(
        mine.done("environment_list", json!({})).await["environments"],
        json!([])
    );
    let listed = mine.request("resources/list", json!({})).await;
    assert_eq!(listed["result"]["resources"], json!([]));
    let read = mine.request("resources/read", json!({"uri": uri})).await;
    assert_eq!(read["error"]["code"], -32602, "{read}");
}

#[tokio::test]
async fn what_is_no_message_is_passed_over_or_refused_and_the_connection_lives_on() {
    let ground = Ground::new();
    let mut wire = Wire::legacy(&ground, "2025-11-25").await;
    wire.write_raw(b"this is no JSON\n\n{\"jsonrpc\":\"2.0\",\"id\":\n")
        .await;
    wire.write(json!({"jsonrpc": "2.0", "neither": "request nor answer"}))
        .await;
    let refused = wire.receive().await.expect("a refusal");
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    let unknown = wire.request("environments/conquer", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32601, "{unknown}");
    assert!(
        wire.request("ping", json!({}))
            .await
            .get("result")
            .is_some()
    );
}

#[tokio::test]
async fn a_client_that_cancels_its_probe_may_begin_anew() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let id = wire.send("server/discover", json!({})).await;
    wire.write(json!({
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": id},
    }))
    .await;
    wire.answer(id).await;
    let answer = wire.initialize("2025-11-25").await;
    assert_eq!(answer["protocolVersion"], "2025-11-25");
    wire.close().await.expect("an orderly end");
}

#[tokio::test]
async fn the_audit_learns_what_the_client_calls_itself_and_cannot_be_written_to_by_it() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    wire.done("environment_list", json!({})).await;
    let mut wire = Wire::connect(&ground);
    wire.request(
        "initialize",
        json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "evil\n\u{1b}[2Jline", "version": "x".repeat(1000)},
        }),
    )
    .await;
    wire.done("environment_list", json!({})).await;
    let listers = ground.fake.listers.lock().expect("nobody panicked");
    assert_eq!(listers[0].as_deref(), Some("by-hand 0"));
    let evil = listers[1].as_deref().expect("a name");
    assert!(
        evil.starts_with("evil[2Jline x") && evil.len() == 100,
        "{evil:?}"
    );
}

#[tokio::test]
async fn a_flood_of_calls_is_refused_and_the_connection_lives_on() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let environment = wire.create().await;
    let started = wire
        .done(
            "command_start",
            json!({"environment": environment, "command": "sleep 1000"}),
        )
        .await;
    let poll = json!({"command": started["command"], "wait_seconds": 600});
    for _ in 0..256 {
        wire.send(
            "tools/call",
            json!({"name": "command_poll", "arguments": poll}),
        )
        .await;
    }
    let told = wire.fails("environment_list", json!({})).await;
    assert!(told.contains("calls at a time is 256"), "{told}");
    wire.request("tools/list", json!({})).await;
    wire.close().await.expect("an orderly end");
    ground.assert_empty();
}
