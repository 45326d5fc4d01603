//! `envd agent mcp`: what a coding agent can do in a lent environment, over the protocol itself, and that nothing of it is
//! left. This is one file because it is one suite over one world.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use envd_tests::{
    agent::Agent,
    deb::Deb,
    leftovers::Watch,
    programs,
    sandbox::{PATIENCE, Sandbox, finish, wait},
    user::Account,
    world::World,
};
use serde_json::{Value, json};

/// Whoever runs the tests, and an ordinary user where that is another.
fn everyone(world: &World) -> Vec<Sandbox> {
    let ordinary = Account::ordinary().map(|account| world.another_of(Some(account)));
    std::iter::once(world.another()).chain(ordinary).collect()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// What is in the store's place for things that go with their owner.
fn places(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(sandbox.store().join("tmp"))
        .unwrap()
        .count()
}

#[test]
fn an_agent_works_on_a_project_that_changes_only_when_it_is_told_to() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&["hello"]);
        sandbox.write("notes", "one\ntwo\n");
        sandbox.write("old", "gone soon\n");
        let watch = Watch::start(&sandbox);
        let mut agent = Agent::start(&sandbox, &[]);
        let environment = agent.create(json!({}));
        let on = |more: Value| {
            let mut all = json!({"environment": environment});
            all.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            all
        };
        assert_eq!(agent.run(&environment, "hello"), "Hello, world! 1.0\n");
        let failed = agent.ok("command_run", on(json!({"command": "echo no >&2; exit 3"})));
        assert_eq!(
            (&failed["state"], &failed["exit_code"]),
            (&json!("exited"), &json!(3))
        );
        assert_eq!(failed["stderr"]["head"], "no\n");
        let missing = agent.fails("command_run", on(json!({"command": ["no-such-tool"]})));
        assert!(missing.contains("package_search"), "{missing}");

        agent.ok(
            "file_write",
            on(json!({"path": "src/new", "content": "fresh\n"})),
        );
        let edits = json!([{"old": "two", "new": "three"}]);
        agent.ok("file_edit", on(json!({"path": "notes", "edits": edits})));
        agent.run(&environment, "rm old && mkdir .git && echo x > .git/config");
        assert_eq!(
            agent.run(&environment, "cat src/new notes"),
            "fresh\none\nthree\n"
        );
        let read = agent.ok("file_read", on(json!({"path": "notes", "first_line": 2})));
        assert_eq!(read["content"], "three\n");
        let listed = agent.ok("file_list", on(json!({"path": "src"})));
        assert_eq!(listed["entries"][0]["path"], "new");
        let found = agent.ok(
            "file_search",
            on(json!({"pattern": "^thr", "glob": "not*"})),
        );
        assert_eq!(
            found["matches"],
            json!([{"path": "notes", "line": 2, "text": "three"}])
        );

        let project = sandbox.project();
        assert_eq!(text(&project.join("notes")), "one\ntwo\n", "untouched");
        assert!(project.join("old").exists() && !project.join("src").exists());

        let diff = agent.ok("changes_diff", on(json!({})));
        let shown = diff["diff"]["head"].as_str().unwrap();
        assert!(shown.contains("-two\n+three\n"), "{shown}");
        let dry = agent.ok(
            "changes_apply",
            on(json!({"paths": ["notes"], "dry_run": true})),
        );
        assert_eq!(dry["applied"], json!(["notes"]), "{dry}");
        assert_eq!(
            text(&project.join("notes")),
            "one\ntwo\n",
            "still untouched"
        );
        let chosen = json!({"paths": ["notes", "old", "src"]});
        let applied = agent.ok("changes_apply", on(chosen));
        assert_eq!(
            applied["applied"],
            json!(["notes", "old", "src", "src/new"]),
            "{applied}"
        );
        assert_eq!(text(&project.join("notes")), "one\nthree\n");
        assert_eq!(text(&project.join("src/new")), "fresh\n");
        assert!(!project.join("old").exists() && !project.join(".git").exists());

        // The same file again is no conflict with what was applied; with what somebody else wrote it is.
        agent.ok(
            "file_write",
            on(json!({"path": "notes", "content": "four\n"})),
        );
        agent.ok("changes_apply", on(json!({"paths": ["notes"]})));
        assert_eq!(text(&project.join("notes")), "four\n");
        sandbox.write("notes", "mine\n");
        agent.ok(
            "file_write",
            on(json!({"path": "notes", "content": "five\n"})),
        );
        let refused = agent.ok("changes_apply", on(json!({"paths": ["notes"]})));
        assert_eq!(refused["conflicts"][0]["path"], "notes", "{refused}");
        assert_eq!(text(&project.join("notes")), "mine\n");

        let destroyed = agent.ok("environment_destroy", on(json!({})));
        assert!(
            destroyed["discarded_changes"].as_u64().unwrap() > 0,
            "{destroyed}"
        );
        agent.fails("command_run", on(json!({"command": "true"})));
        agent.leave();
        watch.assert_nothing_left();
        assert_eq!(places(&sandbox), 0);
    }
}

/// An environment that was made ahead is no older than one that was not: files, variables and the directory itself are what they
/// are when it is asked for, and what has changed before is no news to it.
#[test]
fn one_that_was_made_ahead_sees_the_project_as_it_is() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        sandbox.write("file", "before\n");
        let mut agent = Agent::start(&sandbox, &[]);
        agent.create(json!({}));
        let ahead = || std::thread::sleep(Duration::from_millis(300));
        ahead();
        sandbox.write("file", "after\n");
        sandbox.write("new", "new\n");
        // What changes within one tick of the file system's clock counts as news.
        std::thread::sleep(Duration::from_millis(50));
        let second = agent.create(json!({}));
        assert_eq!(agent.run(&second, "cat file new"), "after\nnew\n");
        agent.run(&second, "echo inside >> file");
        let applied = agent.ok("changes_apply", json!({"environment": second}));
        assert_eq!(applied["applied"], json!(["file"]), "{applied}");
        assert_eq!(text(&sandbox.project().join("file")), "after\ninside\n");

        ahead();
        let manifest = sandbox.project().join("envd.toml");
        let with = format!("{}\n[env.vars]\nADDED = \"later\"\n", text(&manifest));
        std::fs::write(&manifest, with).unwrap();
        let third = agent.create(json!({}));
        assert_eq!(agent.run(&third, "echo $ADDED"), "later\n");

        ahead();
        let aside = sandbox.project().with_extension("aside");
        std::fs::rename(sandbox.project(), &aside).unwrap();
        std::fs::create_dir(sandbox.project()).unwrap();
        for name in ["envd.toml", "envd.lock"] {
            std::fs::rename(aside.join(name), sandbox.project().join(name)).unwrap();
        }
        let fourth = agent.create(json!({}));
        assert_eq!(
            agent.run(&fourth, "cat file 2> /dev/null || ls"),
            "envd.lock\nenvd.toml\n"
        );
        agent.leave();
    }
}

#[test]
fn forks_and_snapshots_share_what_was_written_and_nothing_after() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        sandbox.write("file", "project\n");
        let mut agent = Agent::start(&sandbox, &[]);
        let first = agent.create(json!({}));
        agent.run(
            &first,
            "echo first > file; echo kept > /tmp/here; echo kept > ~/here",
        );
        let snapshot = agent.ok("environment_snapshot", json!({"environment": first}));
        agent.run(&first, "echo second > file; echo late > late");
        let forked = agent.ok(
            "environment_fork",
            json!({"environment": first, "count": 2}),
        );
        let fork = forked["environments"][1]["environment"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            agent.run(&fork, "cat file late /tmp/here ~/here"),
            "second\nlate\nkept\nkept\n"
        );
        agent.run(&fork, "echo fork > file; rm late");
        assert_eq!(agent.run(&first, "cat file late"), "second\nlate\n");
        let diff = agent.ok("changes_diff", json!({"environment": fork}));
        assert_eq!(diff["changes"].as_array().unwrap().len(), 1, "{diff}");

        let restore = json!({"snapshot": snapshot["snapshot"]});
        agent.ok("environment_restore", restore);
        assert_eq!(
            agent.run(&first, "cat file; ls late 2>/dev/null || echo gone"),
            "first\ngone\n"
        );
        agent.ok("environment_destroy", json!({"environment": first}));
        assert_eq!(
            agent.run(&fork, "cat file"),
            "fork\n",
            "what it shared is still there"
        );
        let restore = json!({"snapshot": snapshot["snapshot"], "as_new": true});
        let new = agent.ok("environment_restore", restore);
        let new = new["environment"].as_str().unwrap().to_owned();
        assert_eq!(agent.run(&new, "cat file"), "first\n");

        // What runs goes on.
        agent.run(&fork, "sleep 1000 >/dev/null 2>&1 & echo $!");
        agent.ok("environment_fork", json!({"environment": fork}));
        assert_eq!(
            agent.run(&fork, "pidof sleep > /dev/null && echo alive"),
            "alive\n"
        );
        assert_eq!(text(&sandbox.project().join("file")), "project\n");
        agent.leave();
        assert_eq!(places(&sandbox), 0);
    }
}

#[test]
fn commands_are_started_polled_signalled_and_never_block_the_server() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    let mut agent = Agent::start(&sandbox, &[]);
    let environment = agent.create(json!({"from": {"packages": ["shell"]}}));
    let start =
        |line: &str| json!({"environment": environment, "command": line, "keep_stdin_open": true});
    let started = agent.ok(
        "command_start",
        start("echo ready; read line; echo got $line; exec sleep 1000"),
    );
    let command = started["command"].clone();
    let mut offset = json!(0);
    let mut seen = String::new();
    let mut poll = |agent: &mut Agent, until: &str| {
        while !seen.contains(until) {
            let polled = agent.ok(
                "command_poll",
                json!({"command": command, "stdout_offset": offset, "wait_seconds": 60}),
            );
            assert_eq!(polled["state"], "running", "{polled}");
            seen += polled["stdout"]["text"].as_str().unwrap();
            offset = polled["stdout"]["next_offset"].clone();
        }
    };
    poll(&mut agent, "ready\n");
    agent.ok(
        "command_signal",
        json!({"command": command, "stdin": "a line\n"}),
    );
    poll(&mut agent, "got a line\n");
    agent.ok(
        "command_signal",
        json!({"command": command, "signal": "TERM"}),
    );
    let ended = loop {
        let wait = json!({"command": command, "stdout_offset": offset, "wait_seconds": 60});
        let polled = agent.ok("command_poll", wait);
        if polled["state"] != "running" {
            break polled;
        }
    };
    assert_eq!(ended["signal"], "SIGTERM", "{ended}");

    let late = json!({"environment": environment, "command": "sleep 1000", "timeout_seconds": 1});
    assert_eq!(agent.ok("command_run", late)["state"], "timed_out");
    // A child that holds the output open holds nobody up.
    assert_eq!(
        agent.run(&environment, "echo parent; sleep 1000 &"),
        "parent\n"
    );

    let long = json!({
        "environment": environment, "command": "seq 100000; echo verdict", "output_bytes": 3000,
    });
    let long = agent.ok("command_run", long);
    let tail = long["stdout"]["tail"].as_str().unwrap();
    assert!(tail.ends_with("100000\nverdict\n"), "{tail}");
    let uri = long["stdout"]["resource"].clone();
    let whole = agent.ask("resources/read", json!({"uri": uri}));
    assert!(
        whole["contents"][0]["text"]
            .as_str()
            .unwrap()
            .contains("\n1000\n"),
        "kept"
    );
    let search = json!({
        "environment": environment, "command": long["command"], "pattern": "^99999$",
    });
    assert_eq!(agent.ok("file_search", search)["matches"][0]["line"], 99999);
    agent.leave();
}

/// The secrets of the user, the machine's network and other directories are what an agent must not have.
#[test]
fn nothing_is_reached_that_was_not_lent() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        let ssh = sandbox.path("home").join(".ssh");
        std::fs::create_dir(&ssh).unwrap();
        std::fs::write(ssh.join("id"), "SECRET\n").unwrap();
        sandbox.hand_over();
        let mut agent = Agent::start(&sandbox, &[]);
        let denied = agent.fails("environment_create", json!({"project": ssh}));
        assert!(denied.contains("--lend"), "{denied}");
        for network in [json!("host"), json!({"allow": ["example.org"]})] {
            let denied = agent.fails("environment_create", json!({"network": network}));
            assert!(denied.contains("--allow-host"), "{denied}");
        }
        let environment = agent.create(json!({}));
        let on = |path: &str| json!({"environment": environment, "path": path});
        let script =
            "ls -A ~; cat ~/.ssh/id; ls /root/.ssh; tail -n +3 /proc/net/dev | grep -v lo:; true";
        assert_eq!(agent.run(&environment, script), "");
        let secret = ssh.join("id");
        agent.fails("file_read", on(secret.to_str().unwrap()));
        // By a link, by procfs, by too many dots: always the environment's own files.
        let store = sandbox.store();
        agent.run(
            &environment,
            &format!(
                "ln -s {} link; ln -s /proc/1/root root; mkfifo fifo",
                secret.display()
            ),
        );
        let up = format!("{}{}", "../".repeat(40), secret.display());
        for path in [
            "link",
            &up,
            "/proc/1/environ",
            "/proc/self/environ",
            "root/etc/passwd",
            "fifo",
            "/dev/null",
        ] {
            agent.fails("file_read", on(path));
        }
        let write = |path: &str| json!({"environment": environment, "path": path, "content": "x"});
        for path in [
            "/proc/self/comm",
            "/proc/sys/kernel/core_pattern",
            "fifo",
            "/dev/full",
        ] {
            agent.fails("file_write", write(path));
        }
        agent.ok("file_write", write(store.join("planted").to_str().unwrap()));
        assert!(!store.join("planted").exists(), "written inside, not here");
        agent.leave();
    }
}

/// Whatever ends the server ends everything: no process, no mount, and no file once the next command has come.
#[test]
fn a_killed_server_leaves_nothing() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        sandbox.envd(&["run", "--", "true"]).ok();
        let watch = Watch::start(&sandbox);
        let mut agent = Agent::start(&sandbox, &[]);
        let environment = agent.create(json!({}));
        agent.run(
            &environment,
            "setsid sleep 1000 >/dev/null 2>&1 & echo > file; mkdir -p a/b; chmod 0 a",
        );
        let other = agent.create(json!({}));
        agent.run(&other, "echo > file");
        agent.kill();
        watch.assert_nothing_left();
        assert_eq!(places(&sandbox), 1);
        Agent::start(&sandbox, &[]).leave();
        assert_eq!(places(&sandbox), 0);
        assert!(!sandbox.project().join("file").exists());
    }
}

#[test]
fn packages_are_found_and_added_to_what_is_there() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    let mut agent = Agent::start(&sandbox, &[]);
    let environment = agent.create(json!({"from": {"packages": ["shell"]}}));
    agent.run(&environment, "echo kept > file; ! hello");
    let found = agent.ok("package_search", json!({"query": "greets"}));
    assert_eq!(found["packages"][0]["name"], "hello", "{found}");
    let add = json!({"environment": environment, "packages": ["hello"]});
    agent.ok("package_add", add);
    assert_eq!(
        agent.run(&environment, "hello; cat file"),
        "Hello, world! 1.0\nkept\n"
    );
    let empty = agent.create(json!({"from": "empty"}));
    agent.ok(
        "file_write",
        json!({"environment": empty, "path": "x", "content": "y"}),
    );
    agent.fails(
        "command_run",
        json!({"environment": empty, "command": "true"}),
    );
    agent.leave();
}

/// Whoever misses a command is told which packages bring it: those of its name, those that say that they provide it, and those
/// that brought it into a root that was made before. Only such as there are, and none where none may be added.
#[test]
fn a_command_that_is_missing_is_told_with_its_packages() {
    let Some(mut world) = World::small() else {
        return;
    };
    let tools =
        Deb::new("welcome-tools", "1.0").program("usr/bin/welcome", "#!/bin/sh\necho welcome\n");
    let polite = Deb::new("polite", "1.0").field("Provides", "salute");
    world.archive.trixie().add(tools).add(polite);
    world.publish();
    for sandbox in everyone(&world) {
        let mut agent = Agent::start(&sandbox, &[]);
        let from = json!({"from": {"packages": ["shell"]}});
        let environment = agent.create(from.clone());
        let run = |agent: &mut Agent, command: Value| {
            agent.fails(
                "command_run",
                json!({"environment": environment, "command": command}),
            )
        };
        let told = run(&mut agent, json!(["hello", "world"]));
        assert!(told.contains("Add it with package_add: hello."), "{told}");
        let told = run(&mut agent, json!(["/usr/bin/hello"]));
        assert!(told.contains("package_add: hello."), "{told}");
        let told = run(&mut agent, json!(["salute"]));
        assert!(told.contains("package_add: polite."), "{told}");
        // Nothing in the indexes says whose it is, until somebody has it.
        assert!(run(&mut agent, json!(["welcome"])).contains("package_search"));
        agent.create(json!({"from": {"packages": ["welcome-tools"]}}));
        let told = run(&mut agent, json!(["welcome"]));
        assert!(told.contains("package_add: welcome-tools."), "{told}");
        let add = json!({"environment": environment, "packages": ["welcome-tools"]});
        agent.ok("package_add", add);
        assert_eq!(agent.run(&environment, "welcome"), "welcome\n");

        let line = |command: &str| json!({"environment": environment, "command": command});
        let ended = agent.ok("command_run", line("hello"));
        assert_eq!(ended["exit_code"], 127);
        let hint = "hello is not in the environment; add it with package_add: hello";
        assert_eq!(ended["hint"], hint, "{ended}");
        for other in ["true", "no-such-command", "exit 127"] {
            let ended = agent.ok("command_run", line(other));
            assert_eq!(ended.get("hint"), None, "{ended}");
        }
        agent.leave();

        sandbox.write(
            "envd.toml",
            "[env]\npackages = [\"shell\"]\n[agent]\npackages = false\n",
        );
        let mut agent = Agent::start(&sandbox, &[]);
        let environment = agent.create(json!({}));
        let told = agent.fails(
            "command_run",
            json!({"environment": environment, "command": ["hello"]}),
        );
        assert!(!told.contains("package_add: hello"), "{told}");
        agent.leave();
    }
}

/// The list is the whole world: what is on it is asked for by name, and everything else is refused with the rule to ask for.
#[test]
fn a_list_of_names_is_the_only_way_out() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    let mut agent = Agent::start(&sandbox, &["--allow-host", "*.example.org"]);
    let network = json!({"allow": ["a.example.org"]});
    let from = json!({"packages": ["shell"]});
    let environment = agent.create(json!({"from": from, "network": network}));
    let ask = "printf 'CONNECT denied.example.net:443 HTTP/1.1\\r\\nHost: denied.example.net\\r\\n\\r\\n' | nc 127.0.0.1 3128";
    let answer = agent.run(&environment, ask);
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("denied.example.net"),
        "{answer}"
    );
    let devices = "tail -n +3 /proc/net/dev | grep -v lo:; echo $https_proxy";
    assert_eq!(agent.run(&environment, devices), "http://127.0.0.1:3128\n");
    let network = json!({"allow": ["example.net"]});
    agent.fails(
        "environment_create",
        json!({"from": from, "network": network}),
    );
    agent.leave();
}

/// Without a network there is none, not even the machine's own loopback; with the machine's, its servers are there.
#[test]
fn the_network_is_what_was_asked_for() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(Deb::new("knock", "1.0").program("usr/bin/knock", programs::connecting()));
    world.publish();
    let mut agent = Agent::start(&world, &["--allow-host-network"]);
    let port = world.server.url().replace("http://127.0.0.1:", "");
    let from = json!({"packages": ["shell", "knock"]});
    let none = agent.create(json!({"from": from}));
    let before = world.server.connections();
    agent.run(&none, &format!("! knock {port}"));
    assert_eq!(world.server.connections(), before);
    let host = agent.create(json!({"from": from, "network": "host"}));
    agent.run(&host, &format!("knock {port}"));
    agent.leave();
}

/// Anybody on the machine reaches the port; only who has the token is heard.
#[test]
fn over_http_nobody_is_heard_without_the_token() {
    let sandbox = Sandbox::new();
    let token = "0123456789abcdef".repeat(4);
    let mut child = sandbox
        .envd_command(&["agent", "mcp", "--http", "127.0.0.1:0"])
        .env("ENVD_MCP_TOKEN", &token)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("serving http://").expect(&line);
    let (address, path) = url.split_once('/').unwrap();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }})
    .to_string();
    let ask = |authorization: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST /{path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut first = String::new();
        BufReader::new(stream).read_line(&mut first).unwrap();
        first
    };
    let answers = [ask(""), ask(&format!("Authorization: Bearer {token}\r\n"))];
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = wait(&mut child, PATIENCE);
    assert!(
        answers[0].contains(" 401 ") && answers[1].contains(" 200 "),
        "{answers:?}"
    );
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(!line.contains(&token));
}

/// A client that changes its mind must not pay for what it no longer wants.
#[test]
fn a_cancelled_command_is_killed() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    let mut agent = Agent::start(&sandbox, &[]);
    let environment = agent.create(json!({"from": {"packages": ["shell"]}}));
    let line = "echo $$ > pid; exec sleep 1000";
    let arguments = json!({"environment": environment, "command": line});
    let number = agent.request(
        "tools/call",
        &json!({"name": "command_run", "arguments": arguments}),
    );
    agent.run(&environment, "until test -s pid; do sleep 0.05; done");
    agent.tell(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number},
    }));
    agent.run(
        &environment,
        "while kill -0 $(cat pid) 2>/dev/null; do sleep 0.05; done",
    );
    agent.leave();
}

#[test]
fn an_agents_program_is_told_of_envd() {
    let sandbox = Sandbox::new();
    finish(&mut sandbox.envd_command(&["agent", "install", "claude-code"])).ok();
    let entry: Value = serde_json::from_str(&text(&sandbox.project().join(".mcp.json"))).unwrap();
    assert_eq!(
        entry["mcpServers"]["envd"]["args"],
        json!(["agent", "mcp"]),
        "{entry}"
    );
    sandbox.envd(&["agent", "install", "nobody"]).code(2);
}
