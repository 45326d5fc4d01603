//! What the tools answer, as a client sees it on the wire.

use serde_json::{Value, json};

use crate::{
    ground::Ground,
    wire::{Wire, text},
};

#[tokio::test]
async fn a_whole_coding_task() {
    let ground = Ground::new();
    let mut wire = Wire::legacy(&ground, "2025-11-25").await;
    let created = wire
        .done(
            "environment_create",
            json!({"from": {"packages": ["gcc"]}, "name": "task", "ttl_seconds": 600}),
        )
        .await;
    let environment = &created["environment"];
    assert_eq!(created["from"], json!({"packages": ["gcc"]}));
    wire.done(
        "file_write",
        json!({"environment": environment, "path": "src/check.sh", "content": "test 1 -eq 2\n", "executable": true}),
    )
    .await;
    let failing = wire
        .done(
            "command_run",
            json!({"environment": environment, "command": ["sh", "src/check.sh"]}),
        )
        .await;
    assert_eq!(
        (&failing["state"], &failing["exit_code"]),
        (&json!("exited"), &json!(1))
    );
    wire.done(
        "file_edit",
        json!({"environment": environment, "path": "src/check.sh", "edits": [{"old": "-eq 2", "new": "-eq 1"}]}),
    )
    .await;
    let passing = wire
        .done(
            "command_run",
            json!({"environment": environment, "command": "sh src/check.sh && echo passed"}),
        )
        .await;
    assert_eq!(passing["exit_code"], 0);
    assert_eq!(passing["stdout"]["head"], "passed\n");
    let listed = wire
        .done(
            "file_list",
            json!({"environment": environment, "path": "src"}),
        )
        .await;
    assert_eq!(listed["entries"][0]["executable"], true);
    let diff = wire
        .done("changes_diff", json!({"environment": environment}))
        .await;
    assert_eq!(
        diff["changes"],
        json!([{"path": "src/check.sh", "kind": "added"}])
    );
    assert!(
        diff["diff"]["head"]
            .as_str()
            .is_some_and(|diff| diff.contains("+test 1 -eq 1"))
    );
    assert!(
        !ground.project().join("src/check.sh").exists(),
        "applied before it was asked for"
    );
    std::fs::create_dir(ground.project().join("src")).expect("it is ours");
    let applied = wire
        .done("changes_apply", json!({"environment": environment}))
        .await;
    assert_eq!(applied["applied"], json!(["src/check.sh"]));
    assert_eq!(
        std::fs::read_to_string(ground.project().join("src/check.sh")).expect("it was applied"),
        "test 1 -eq 1\n"
    );
    let destroyed = wire
        .done("environment_destroy", json!({"environment": environment}))
        .await;
    assert_eq!(destroyed["killed_commands"], 0);
    ground.assert_empty();
}

#[tokio::test]
async fn a_failing_command_is_a_result_and_a_failing_call_says_what_to_do_next() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let environment = wire.create().await;
    let result = wire
        .call(
            "command_run",
            json!({"environment": environment, "command": "echo no >&2; exit 7"}),
        )
        .await;
    assert_eq!(result["isError"], false);
    assert!(text(&result).starts_with("exit code 7"), "{result}");
    assert!(text(&result).contains("--- stderr\nno\n"), "{result}");

    let told = wire
        .fails("environment_create", json!({"from": {"packages": ["gc"]}}))
        .await;
    assert!(told.contains("Next: Did you mean gcc?"), "{told}");
    let told = wire
        .fails(
            "file_read",
            json!({"environment": environment, "path": "missing"}),
        )
        .await;
    assert!(told.contains("Next: Look with file_list"), "{told}");
    let told = wire
        .fails(
            "file_read",
            json!({"environment": environment, "paht": "README"}),
        )
        .await;
    assert!(
        told.contains("paht") && told.contains("first_line"),
        "{told}"
    );

    let answer = wire
        .request(
            "tools/call",
            json!({"name": "environment_explode", "arguments": {}}),
        )
        .await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[tokio::test]
async fn progress_comes_only_to_who_asked_grows_and_ends_with_the_answer() {
    let ground = Ground::new();
    let mut wire = Wire::legacy(&ground, "2025-11-25").await;
    let environment = wire.create().await;
    let command = "echo line 1; until test -e first; do sleep 0.02; done; \
                   echo line 2; until test -e second; do sleep 0.02; done";
    let arguments = json!({"environment": environment, "command": command});
    let go = |file| json!({"environment": environment, "path": file, "content": ""});
    let id = wire
        .send(
            "tools/call",
            json!({"name": "command_run", "arguments": arguments, "_meta": {"progressToken": "p1"}}),
        )
        .await;
    let mut told = Vec::new();
    for (line, file) in [("line 1\n", "first"), ("line 2\n", "second")] {
        let message = wire.receive().await.expect("progress");
        assert_eq!(message["method"], "notifications/progress");
        assert_eq!(message["params"]["progressToken"], "p1");
        assert_eq!(message["params"]["message"], line);
        told.extend(message["params"]["progress"].as_f64());
        wire.done("file_write", go(file)).await;
    }
    assert!(told[0] < told[1], "{told:?}");
    let answer = wire.answer(id).await;
    assert_eq!(answer["result"]["structuredContent"]["exit_code"], 0);
    // The same again, and nobody asks; what made it wait is there already.
    wire.done("command_run", arguments).await;
    // Whatever comes next, it is no progress of a call that was answered.
    wire.request("tools/list", json!({})).await;
    assert_eq!(wire.notifications, Vec::<Value>::new());
}

#[tokio::test]
async fn long_output_is_cut_and_the_whole_can_be_read_searched_and_followed() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let environment = wire.create().await;
    let result = wire
        .call(
            "command_run",
            json!({"environment": environment, "command": "seq 1 400000", "output_bytes": 600}),
        )
        .await;
    let ran = &result["structuredContent"];
    let stdout = &ran["stdout"];
    assert!(
        stdout["head"]
            .as_str()
            .is_some_and(|head| head.starts_with("1\n2\n"))
    );
    assert!(
        stdout["tail"]
            .as_str()
            .is_some_and(|tail| tail.ends_with("\n400000\n"))
    );
    let whole: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(stdout["total_bytes"], whole.len());
    assert_eq!(stdout["omitted_bytes"], whole.len() - 600);
    let uri = stdout["resource"].as_str().expect("an address");
    assert!(
        text(&result).contains(uri),
        "the model is not told where the whole is"
    );
    assert_eq!(result["content"][1]["type"], "resource_link");
    assert_eq!(result["content"][1]["uri"], uri);

    let listed = wire.request("resources/list", json!({})).await;
    let resources = listed["result"]["resources"].as_array().expect("a list");
    let listed = resources.iter().find(|resource| resource["uri"] == uri);
    assert_eq!(listed.expect("it is listed")["size"], whole.len());

    let (mut read, mut next) = (String::new(), Some(json!(uri)));
    while let Some(uri) = next {
        let answer = wire.request("resources/read", json!({"uri": uri})).await;
        let contents = &answer["result"]["contents"][0];
        assert_eq!(contents["_meta"]["envd/total_bytes"], whole.len());
        read += contents["text"].as_str().expect("a text");
        next = contents["_meta"].get("envd/next").cloned();
    }
    assert!(read == whole, "what was read in stretches is not the whole");

    let found = wire
        .done(
            "file_search",
            json!({"environment": environment, "command": ran["command"], "pattern": "399999"}),
        )
        .await;
    assert_eq!(
        found["matches"],
        json!([{"path": "stdout", "line": 399_999, "text": "399999"}])
    );
    let polled = wire
        .done(
            "command_poll",
            json!({"command": ran["command"], "stdout_offset": 2, "output_bytes": 4}),
        )
        .await;
    assert_eq!(polled["stdout"]["text"], "2\n3\n");
    assert_eq!(polled["stdout"]["next_offset"], 6);
}

#[tokio::test]
async fn clients_that_know_no_links_get_none() {
    let ground = Ground::new();
    let mut wire = Wire::legacy(&ground, "2025-03-26").await;
    let environment = wire.create().await;
    let result = wire
        .call(
            "command_run",
            json!({"environment": environment, "command": "seq 1 1000", "output_bytes": 60}),
        )
        .await;
    assert_eq!(
        result["content"].as_array().map(Vec::len),
        Some(1),
        "{result}"
    );
    assert!(text(&result).contains("envd://commands/"));
}

#[tokio::test]
async fn a_command_is_started_fed_followed_and_ended() {
    let ground = Ground::new();
    let mut wire = Wire::legacy(&ground, "2025-11-25").await;
    let environment = wire.create().await;
    let started = wire
        .done(
            "command_start",
            json!({"environment": environment, "command": "read line; echo got $line; sleep 1000", "keep_stdin_open": true}),
        )
        .await;
    let command = &started["command"];
    let signalled = wire
        .done(
            "command_signal",
            json!({"command": command, "stdin": "hello\n"}),
        )
        .await;
    assert_eq!(
        (&signalled["state"], &signalled["written_bytes"]),
        (&json!("running"), &json!(6))
    );
    let polled = wire
        .done(
            "command_poll",
            json!({"command": command, "wait_seconds": 60}),
        )
        .await;
    assert_eq!(polled["stdout"]["text"], "got hello\n");
    assert_eq!(polled["state"], "running");
    wire.done(
        "command_signal",
        json!({"command": command, "signal": "TERM"}),
    )
    .await;
    let offset = &polled["stdout"]["next_offset"];
    let polled = wire
        .done(
            "command_poll",
            json!({"command": command, "stdout_offset": offset, "wait_seconds": 60}),
        )
        .await;
    assert_eq!(
        (&polled["state"], &polled["signal"]),
        (&json!("signalled"), &json!("SIGTERM"))
    );
}

#[tokio::test]
async fn a_command_out_of_time_is_a_result() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let environment = wire.create().await;
    let ended = wire
        .done(
            "command_run",
            json!({"environment": environment, "command": "echo begun; sleep 1000", "timeout_seconds": 1}),
        )
        .await;
    assert_eq!(ended["state"], "timed_out");
    assert_eq!(ended["stdout"]["head"], "begun\n");
    assert!(ended.get("exit_code").is_none());
}

#[tokio::test]
async fn forks_go_their_own_ways_and_a_snapshot_brings_files_back() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let environment = wire.create().await;
    let write = |environment: &Value, content: &str| json!({"environment": environment, "path": "README", "content": content});
    wire.done("file_write", write(&environment, "first\n"))
        .await;
    let snapshot = wire
        .done("environment_snapshot", json!({"environment": environment}))
        .await;
    assert_eq!(snapshot["changes"], 1);
    let forks = wire
        .done(
            "environment_fork",
            json!({"environment": environment, "count": 2}),
        )
        .await;
    let fork = &forks["environments"][1];
    assert_eq!(fork["forked_from"], environment);
    wire.done("file_write", write(&environment, "second\n"))
        .await;
    let read = |environment: &Value| json!({"environment": environment, "path": "README"});
    let content = wire.done("file_read", read(&fork["environment"])).await;
    assert_eq!(content["content"], "first\n");
    wire.done(
        "environment_restore",
        json!({"snapshot": snapshot["snapshot"]}),
    )
    .await;
    let content = wire.done("file_read", read(&environment)).await;
    assert_eq!(content["content"], "first\n");
}

#[tokio::test]
async fn what_moved_underneath_is_not_applied() {
    let ground = Ground::new();
    let mut wire = Wire::modern(&ground);
    let environment = wire.create().await;
    wire.done(
        "file_write",
        json!({"environment": environment, "path": "README", "content": "inside\n"}),
    )
    .await;
    std::fs::write(ground.project().join("README"), "outside\n").expect("it is ours");
    let result = wire
        .call("changes_apply", json!({"environment": environment}))
        .await;
    assert_eq!(result["structuredContent"]["applied"], json!([]));
    assert_eq!(
        result["structuredContent"]["conflicts"][0]["path"],
        "README"
    );
    assert!(text(&result).starts_with("nothing was applied"), "{result}");
}

#[tokio::test]
async fn a_diff_is_a_resource_too_and_templates_say_how_addresses_look() {
    let ground = Ground::new();
    let mut wire = Wire::legacy(&ground, "2025-11-25").await;
    let environment = wire.create().await;
    wire.done(
        "file_write",
        json!({"environment": environment, "path": "new", "content": "line\n"}),
    )
    .await;
    let uri = format!(
        "envd://environments/{}/changes.diff",
        environment.as_str().expect("a handle")
    );
    let read = wire.request("resources/read", json!({"uri": uri})).await;
    let contents = &read["result"]["contents"][0];
    assert_eq!(contents["mimeType"], "text/x-diff");
    assert!(
        contents["text"]
            .as_str()
            .is_some_and(|diff| diff.contains("+line"))
    );
    let templates = wire.request("resources/templates/list", json!({})).await;
    let templates = &templates["result"]["resourceTemplates"];
    assert_eq!(templates.as_array().map(Vec::len), Some(2));
    for foreign in ["file:///etc/passwd", "envd://commands/../stdout"] {
        let read = wire
            .request("resources/read", json!({"uri": foreign}))
            .await;
        assert_eq!(read["error"]["code"], -32002, "{read}");
    }
}
