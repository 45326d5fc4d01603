//! The machine's memory, disk and patience, by what commands write and how it is read.

use std::path::Path;

use envd_tests::agent::Agent;
use serde_json::json;

use crate::{
    calls::{peak, resident},
    ground::{everyone, on, one},
};

/// Bytes of disk that a directory and all below it take, and that an open file without a name takes in a process.
fn disk(directory: &Path, server: u32) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut all = 0;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else {
            continue;
        };
        all += meta.blocks() * 512;
        if meta.is_dir() {
            all += disk(&entry.path(), 0);
        }
    }
    if server > 0 {
        let descriptors = std::fs::read_dir(format!("/proc/{server}/fd"));
        for entry in descriptors.into_iter().flatten().flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            if target.to_string_lossy().ends_with("(deleted)") {
                all += std::fs::metadata(entry.path()).map_or(0, |meta| meta.blocks() * 512);
            }
        }
    }
    all
}

/// Gain: the server's memory, the disk, or the client's context, by output without end and without lines.
/// Must happen: the answer is bounded and says what it leaves out; the server keeps its size, a bounded part is kept on disk, and
/// other calls are answered meanwhile.
/// Guard: `Spool` (`envd/src/agents/spool.rs`), `Collector` (`agents/src/service/excerpt.rs`).
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn ten_gigabytes_without_a_newline() {
    let Some(ground) = one() else { return };
    let (mut agent, environment) = ground.agent();
    const TOTAL: u64 = 10_000_000_000;
    let line = format!("attacker flood={TOTAL}");
    let run =
        json!({"name": "command_run", "arguments": on(&environment, json!({"command": line}))});
    let number = agent.request("tools/call", &run);
    let mut most = 0;
    let mut kept = 0;
    for _ in 0..20 {
        assert_eq!(agent.run(&environment, "echo meanwhile"), "meanwhile\n");
        most = most.max(resident(agent.pid()));
    }
    let answer = agent.answer(number);
    most = most.max(resident(agent.pid()));
    kept = kept.max(disk(&ground.store().join("tmp"), agent.pid()));
    let ended = &answer["result"]["structuredContent"];
    assert_eq!(
        ended["stdout"]["total_bytes"], TOTAL,
        "{:?}",
        ended["exit_code"]
    );
    let shown = ended["stdout"]["head"].as_str().unwrap().len()
        + ended["stdout"]["tail"].as_str().unwrap().len();
    let omitted = ended["stdout"]["omitted_bytes"].as_u64().unwrap();
    assert!(
        shown < 100_000 && omitted > TOTAL - 100_000,
        "{shown} {omitted}"
    );
    assert!(most < 150 << 20, "{most} bytes of memory");
    assert!(kept < 1200 << 20, "{kept} bytes of disk");
    agent.leave();
}

/// Gain: the server's memory, by a client that asks for what happens and does not read it.
/// Must happen: what is told waits in a bounded place; the rest is left out.
/// Guard: `Notes` (`agents/src/mcp/progress.rs`).
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn a_client_that_does_not_read() {
    let Some(ground) = one() else { return };
    let (mut agent, environment) = ground.agent();
    const EACH: u64 = 60_000_000;
    let mut numbers = Vec::new();
    // Answers and progress of these come to many times what a pipe holds, and together to more than is allowed.
    for token in 0..8 {
        let arguments = on(
            &environment,
            json!({"command": format!("attacker flood={EACH}"), "output_bytes": 900_000}),
        );
        let call = json!({"name": "command_run", "arguments": arguments, "_meta": {"progressToken": token}});
        numbers.push(agent.request("tools/call", &call));
    }
    // The server has nobody who reads. What is written inside goes on all the same, until all commands have ended.
    let mut most = 0;
    let mut quiet = 0;
    while quiet < 50 {
        most = most.max(resident(agent.pid()));
        quiet = if is_busy(agent.pid()) { 0 } else { quiet + 1 };
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(most < 250 << 20, "{most} bytes");
    for number in numbers {
        let answer = agent.answer(number);
        let ended = &answer["result"]["structuredContent"];
        assert_eq!(ended["stdout"]["total_bytes"], EACH, "{}", ended["state"]);
    }
    agent.leave();
}

/// Whether anything runs below a server but envd itself, as in an environment that is made ahead.
fn is_busy(server: u32) -> bool {
    let mut known = vec![server];
    while let Some(of) = known.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{of}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                let words = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                match child.parse() {
                    Ok(child) if words.starts_with(b"envd-launcher\0") => known.push(child),
                    // One that has ended has none.
                    _ if words.is_empty() => {}
                    _ => return true,
                }
            }
        }
    }
    false
}

/// Gain: an answer of any size, by asking for it.
/// Must happen: an answer has at most the million bytes that the schema states, whatever number was asked for.
/// Guard: the bounds of `output_bytes` and `diff_bytes` (`agents/src/service`).
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn answers_larger_than_any_client_wants() {
    let Some(ground) = one() else { return };
    let (mut agent, environment) = ground.agent();
    let huge = 1_000_000_000_000_u64;
    for (tool, more) in [
        (
            "command_run",
            json!({"command": "yes output | head -c 30000000", "output_bytes": huge}),
        ),
        ("changes_diff", json!({"diff_bytes": huge})),
    ] {
        agent.run(&environment, "seq 3000000 > many; seq 3000000 > more");
        if let Some((answer, _)) = agent.try_call(tool, on(&environment, more)) {
            let length = answer.to_string().len();
            assert!(length < 5_000_000, "{tool}: {length} bytes");
        }
    }
    let started = agent.ok(
        "command_start",
        on(
            &environment,
            json!({"command": "yes output | head -c 30000000"}),
        ),
    );
    let poll = json!({"command": started["command"], "wait_seconds": 5, "output_bytes": huge});
    if let Some((answer, _)) = agent.try_call("command_poll", poll) {
        let length = answer.to_string().len();
        assert!(length < 5_000_000, "command_poll: {length} bytes");
    }
    agent.leave();
}

/// Gain: PID 1 or the server, by more commands than they have places for.
/// Must happen: what is too much is refused; what runs goes on, and when it has ended there is room again.
/// Guard: `MOST_COMMANDS` in `init/src/serve.rs`.
/// Seen to fail: with 512 places: none is refused.
#[test]
fn more_commands_than_there_are_places() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let mut refused = 0;
        let mut started = Vec::new();
        for _ in 0..300 {
            let start = json!({"command": ["sleep", "1000"]});
            match agent.call("command_start", on(&environment, start)) {
                (_, true) => refused += 1,
                (result, false) => started.push(result["structuredContent"]["command"].clone()),
            }
        }
        assert!(
            refused > 0 && started.len() >= 200,
            "as {}: {refused} {}",
            ground.user,
            started.len()
        );
        for command in &started[..10] {
            agent.ok(
                "command_signal",
                json!({"command": command, "signal": "KILL"}),
            );
            let wait = json!({"command": command, "wait_seconds": 60});
            while agent.ok("command_poll", wait.clone())["state"] == "running" {}
        }
        assert_eq!(agent.run(&environment, "echo room"), "room\n");
        agent.ok("environment_destroy", on(&environment, json!({})));
        let again = agent.create(json!({}));
        assert_eq!(agent.run(&again, "echo again"), "again\n");
        agent.leave();
    }
}

/// Gain: the disk and the time of whoever reads the changes, by files that are larger than what was written of them.
/// Must happen: a file of eight gigabytes without content is told and neither read nor applied; a small one keeps its holes' worth.
/// Guard: the limits of `Scope` (`agents/src/changes`), `MOST_TEXT` of the file tools. A larger one cannot be made (RLIMIT_FSIZE).
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn sparse_files() {
    for ground in everyone() {
        let mut agent = Agent::start(&ground, &[]);
        let environment = agent.create(json!({}));
        agent.run(&environment, "for file in huge /tmp/huge; do dd if=/dev/zero of=$file bs=1 count=1 seek=8000000000 2> /dev/null || exit; done; \
             echo fine > fine");
        agent.fails("file_read", on(&environment, json!({"path": "huge"})));
        let edits = json!([{"old": "a", "new": "b"}]);
        agent.fails(
            "file_edit",
            on(&environment, json!({"path": "/tmp/huge", "edits": edits})),
        );
        agent.ok("file_search", on(&environment, json!({"pattern": "x"})));
        let diff = agent.ok("changes_diff", on(&environment, json!({})));
        assert!(diff.to_string().contains("huge"), "{diff}");
        let answer = agent.ok(
            "changes_apply",
            on(&environment, json!({"paths": ["huge"]})),
        );
        let project = ground.project();
        if answer["applied"] == json!(["huge"]) {
            use std::os::unix::fs::MetadataExt as _;
            let blocks = std::fs::metadata(project.join("huge")).unwrap().blocks();
            assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
        }
        agent.ok(
            "changes_apply",
            on(&environment, json!({"paths": ["fine"]})),
        );
        assert!(project.join("fine").exists());
        let most = peak(agent.pid());
        assert!(
            (1..150 << 20).contains(&most),
            "as {}: {most} bytes of memory",
            ground.user
        );
        agent.leave();
    }
}
