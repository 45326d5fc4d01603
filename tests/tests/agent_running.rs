//! What an agent does with commands that run: gives them a terminal, and forks, freezes and snapshots the environment around them.

use std::time::Instant;

use envd_tests::{
    agent::Agent,
    deb::Deb,
    leftovers::Watch,
    sandbox::{PATIENCE, Sandbox},
    user::Account,
    world::World,
};
use serde_json::{Value, json};

fn everyone(world: &World) -> Vec<Sandbox> {
    let ordinary = Account::ordinary().map(|account| world.another_of(Some(account)));
    std::iter::once(world.another()).chain(ordinary).collect()
}

/// A command that was started, and what it wrote so far.
struct Started {
    command: Value,
    seen: String,
    offset: u64,
}

impl Started {
    fn new(agent: &mut Agent, setup: Value) -> Self {
        let started = agent.ok("command_start", setup);
        Self {
            command: started["command"].clone(),
            seen: String::new(),
            offset: 0,
        }
    }

    fn poll(&mut self, agent: &mut Agent) -> Value {
        let polled = agent.ok(
            "command_poll",
            json!({"command": self.command, "stdout_offset": self.offset, "wait_seconds": 60}),
        );
        self.seen += polled["stdout"]["text"].as_str().unwrap();
        self.offset = polled["stdout"]["next_offset"].as_u64().unwrap();
        polled
    }

    /// Waits until it has written this.
    #[track_caller]
    fn until(&mut self, agent: &mut Agent, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let polled = self.poll(agent);
            let goes_on = polled["state"] == "running" && Instant::now() < end;
            assert!(
                goes_on || self.seen.contains(text),
                "no {text:?} but {:?} {polled}",
                self.seen
            );
        }
        self.seen = self.seen.split_once(text).unwrap().1.to_owned();
    }

    #[track_caller]
    fn end(&mut self, agent: &mut Agent) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let polled = self.poll(agent);
            let rest = polled["stdout"]["total_bytes"].as_u64() > Some(self.offset);
            if polled["state"] != "running" && !rest {
                return polled;
            }
            assert!(Instant::now() < end, "no end but {:?} {polled}", self.seen);
        }
    }

    fn signal(&self, agent: &mut Agent, more: Value) {
        let mut call = json!({"command": self.command});
        call.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        agent.ok("command_signal", call);
    }
}

#[test]
fn a_terminal_is_the_environments_own_and_behaves_as_one() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        let watch = Watch::start(&sandbox);
        let mut agent = Agent::start(&sandbox, &[]);
        let environment = agent.create(json!({"from": {"packages": ["shell"]}}));
        let start = |line: &str, keep: bool| {
            json!({"environment": environment, "command": line, "keep_stdin_open": keep,
                   "terminal": {"rows": 30, "columns": 100}})
        };
        let facts = "readlink /proc/self/fd/0; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; echo hi > /dev/tty; \
                     echo $TERM; exit 3";
        let mut told = Started::new(&mut agent, start(facts, false));
        let ended = told.end(&mut agent);
        assert_eq!(
            (&ended["state"], &ended["exit_code"]),
            (&json!("exited"), &json!(3))
        );
        assert_eq!(
            told.seen,
            "/dev/pts/0\r\n30 100\r\nall\r\nhi\r\nxterm-256color\r\n"
        );

        // It is somebody's who types: lines, another size, Ctrl-C for who is in the foreground, Ctrl-D at the end.
        // Nothing is trapped here: a shell whose read is interrupted by a trap takes that for the end of its input.
        let script = "echo ready; while read line; do echo \"got $line\"; stty size; done; echo over; cat; echo interrupted; \
                      exec sleep 1000";
        let mut typed = Started::new(&mut agent, start(script, true));
        typed.until(&mut agent, "ready\r\n");
        typed.signal(&mut agent, json!({"stdin": "one\n"}));
        typed.until(&mut agent, "got one\r\n30 100\r\n");
        typed.signal(
            &mut agent,
            json!({"terminal": {"rows": 50, "columns": 132}, "stdin": "two\n"}),
        );
        typed.until(&mut agent, "got two\r\n50 132\r\n");
        typed.signal(&mut agent, json!({"stdin": "\u{4}"}));
        typed.until(&mut agent, "over\r\n");
        typed.signal(&mut agent, json!({"stdin": "\u{3}"}));
        let ended = typed.end(&mut agent);
        assert_eq!(ended["signal"], "SIGINT", "{ended} {}", typed.seen);

        // Another size is signalled.
        let script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
        let mut resized = Started::new(&mut agent, start(script, true));
        resized.until(&mut agent, "ready\r\n");
        resized.signal(&mut agent, json!({"terminal": {"rows": 7, "columns": 8}}));
        resized.end(&mut agent);
        assert_eq!(resized.seen, "7 8\r\n");

        // Text that was given, and nothing more.
        let mut text = start("cat; echo end", false);
        text["stdin"] = json!("a\nb");
        let mut text = Started::new(&mut agent, text);
        text.end(&mut agent);
        assert!(
            text.seen.ends_with("b")
                || text.seen.contains("bend")
                || text.seen.contains("b\r\nend"),
            "{:?}",
            text.seen
        );
        assert!(text.seen.contains("end\r\n"), "{:?}", text.seen);

        // Bytes as they come.
        let mut raw = Started::new(
            &mut agent,
            start("stty raw -echo; printf 'a\\r\\nb\\tc\\n'", false),
        );
        raw.end(&mut agent);
        assert_eq!(raw.seen, "a\r\nb\tc\n");

        // Who is left when the command ends is hung up on.
        let left = "(trap 'echo > /tmp/hung-up; exit' HUP; echo > /tmp/set; while :; do sleep 0.01; done) & \
                    until [ -e /tmp/set ]; do :; done; exit 0";
        let mut left = Started::new(&mut agent, start(left, true));
        assert_eq!(left.end(&mut agent)["state"], "exited");
        let hung_up =
            "for i in $(seq 3000); do [ -e /tmp/hung-up ] && exit 0; sleep 0.01; done; exit 1";
        agent.run(&environment, hung_up);
        let refused = agent.fails(
            "command_signal",
            json!({"command": left.command, "terminal": {"rows": 1, "columns": 1}}),
        );
        assert!(refused.contains("has no terminal"), "{refused}");
        agent.leave();
        watch.assert_nothing_left();
    }
}

/// Nobody inside can have the server open something else in the terminal's stead.
#[test]
fn what_is_put_in_the_place_of_the_multiplexer_is_not_opened() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    let mut agent = Agent::start(&sandbox, &[]);
    let environment = agent.create(json!({"from": {"packages": ["shell"]}}));
    let tried = "rm -f /dev/ptmx; ln -s /dev/null /dev/ptmx; rm -f /dev/pts/ptmx; mv /dev/pts /dev/gone; mount -t tmpfs none /dev/pts; \
                 ls -d /dev/pts/ptmx; true";
    agent.run(&environment, tried);
    let start = json!({"environment": environment, "command": "readlink /proc/self/fd/0", "terminal": {"rows": 3, "columns": 4}});
    let mut started = Started::new(&mut agent, start);
    started.end(&mut agent);
    assert_eq!(started.seen, "/dev/pts/0\r\n");
    agent.leave();
}

#[test]
fn what_runs_is_forked_around_and_goes_on() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&["shell"]);
        sandbox.write("file", "project\n");
        sandbox.write("removed", "project\n");
        let watch = Watch::start(&sandbox);
        let mut agent = Agent::start(&sandbox, &[]);
        let first = agent.create(json!({}));
        agent.run(&first, "rm removed; echo mine > file; mkdir -p deep/er; echo x > deep/er/x; ln deep/er/x linked; chmod 711 deep");
        // Two files that are never apart by more than one.
        let writer =
            "i=0; echo begun; while :; do i=$((i+1)); echo $i > one; echo $i > ~/two; done";
        let setup = json!({"environment": first, "command": writer});
        let mut writes = Started::new(&mut agent, setup);
        writes.until(&mut agent, "begun\n");
        let consistent = |agent: &mut Agent, environment: &str| {
            let read = agent.run(environment, "cat one ~/two | tr '\\n' ' '");
            let numbers: Vec<i64> = read
                .split_whitespace()
                .map(|n| n.parse().unwrap())
                .collect();
            // What was being written when it stopped may be empty.
            if let [one, two] = numbers[..] {
                assert!((one - two).abs() <= 1, "{read}");
            }
            read
        };
        for _ in 0..5 {
            let snapshot = agent.ok("environment_snapshot", json!({"environment": first}));
            assert!(snapshot["changes"].as_u64() > Some(3), "{snapshot}");
            let forked = agent.ok("environment_fork", json!({"environment": first}));
            let fork = forked["environments"][0]["environment"]
                .as_str()
                .unwrap()
                .to_owned();
            let before = consistent(&mut agent, &fork);
            assert_eq!(
                agent.run(
                    &fork,
                    "cat file linked; ls removed 2>/dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c 'echo [b]egun'; stat -c %a deep"
                ),
                "mine\nx\n0\n711\n"
            );
            assert_eq!(consistent(&mut agent, &fork), before, "nobody writes there");
            let restored = agent.ok(
                "environment_restore",
                json!({"snapshot": snapshot["snapshot"], "as_new": true}),
            );
            let restored = restored["environment"].as_str().unwrap().to_owned();
            consistent(&mut agent, &restored);
            for environment in [fork, restored] {
                agent.ok("environment_destroy", json!({"environment": environment}));
            }
        }
        // It has gone on all the time, and is still the one that was started.
        let one = agent.run(&first, "cat one");
        agent.run(
            &first,
            &format!(
                "for i in $(seq 1000); do [ \"$(cat one)\" != \"{}\" ] && exit 0; done; exit 1",
                one.trim()
            ),
        );
        let polled = agent.ok("command_poll", json!({"command": writes.command}));
        assert_eq!(polled["state"], "running");
        writes.signal(&mut agent, json!({"signal": "KILL"}));
        writes.end(&mut agent);
        agent.leave();
        watch.assert_nothing_left();
    }
}

/// A shell that runs all the time finds what is added; what it has open stays; and nothing else than that changes.
#[test]
fn packages_are_added_to_what_runs() {
    let Some(mut world) = World::small() else {
        return;
    };
    let tools =
        Deb::new("welcome-tools", "1.0").program("usr/bin/welcome", "#!/bin/sh\necho welcome\n");
    world.archive.trixie().add(tools);
    world.publish();
    for sandbox in everyone(&world) {
        let watch = Watch::start(&sandbox);
        let mut agent = Agent::start(&sandbox, &[]);
        let first = agent.create(json!({"from": {"packages": ["shell"]}}));
        // In its home, with a file of the system open, and with others that only it has.
        let script = "echo kept > ~/kept; echo of-run > /run/here 2>/dev/null || echo of-run > /tmp/here; \
                      exec 3< /etc/passwd; cd ~; echo ready; \
                      until hello 2>/dev/null; do sleep 0.01; done; \
                      until welcome 2>/dev/null; do sleep 0.01; done; \
                      pwd; cat kept; cat /run/here /tmp/here 2>/dev/null; read -r line <&3 && echo read; \
                      echo x > /dev/null && echo null; sleep 10000";
        let start = json!({"environment": first, "command": script});
        let mut shell = Started::new(&mut agent, start);
        shell.until(&mut agent, "ready\n");
        let mounts = |agent: &mut Agent| agent.run(&first, "cut -d' ' -f4- /proc/self/mountinfo");
        let before = mounts(&mut agent);
        for package in ["hello", "welcome-tools"] {
            let add = json!({"environment": first, "packages": [package]});
            agent.ok("package_add", add);
        }
        let home = agent.run(&first, "cd; pwd");
        let rest = format!("Hello, world! 1.0\nwelcome\n{home}kept\nof-run\nread\nnull\n");
        shell.until(&mut agent, &rest);
        assert_eq!(
            agent.run(&first, "hello; cat ~/kept"),
            "Hello, world! 1.0\nkept\n"
        );
        // What the root was made of is told nobody, and mounts of what stays are what they were.
        let after = mounts(&mut agent);
        let store = sandbox.store();
        assert!(!after.contains(&*store.to_string_lossy()), "{after}");
        for line in before.lines() {
            assert!(after.contains(line), "{line} has gone from {after}");
        }
        // A root that something still looks at is not collected.
        sandbox.envd(&["gc"]).ok();
        assert_eq!(agent.run(&first, "hello"), "Hello, world! 1.0\n");

        let forked = agent.ok("environment_fork", json!({"environment": first}));
        let fork = forked["environments"][0]["environment"].as_str().unwrap();
        assert_eq!(
            agent.run(fork, "hello; welcome; cat ~/kept"),
            "Hello, world! 1.0\nwelcome\nkept\n"
        );
        let missing = json!({"environment": first, "packages": ["no-such-package"]});
        agent.fails("package_add", missing);
        let polled = agent.ok("command_poll", json!({"command": shell.command}));
        assert_eq!(polled["state"], "running");
        agent.leave();
        watch.assert_nothing_left();
    }
}
