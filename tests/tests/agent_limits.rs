//! What an agent may take of the machine: processes, memory, disk and time, as root and as an ordinary user, on a machine where
//! no control group need be delegated. That control groups hold their part is `cgroups.rs`.

use std::time::{Duration, Instant};

use envd_tests::{agent::Agent, leftovers::Watch, sandbox::Sandbox, user::Account, world::World};
use serde_json::{Value, json};

fn everyone(world: &World) -> Vec<Sandbox> {
    let ordinary = Account::ordinary().map(|account| world.another_of(Some(account)));
    std::iter::once(world.another()).chain(ordinary).collect()
}

fn limited(agent: &mut Agent, limits: Value) -> String {
    agent.create(json!({"from": {"packages": ["shell"]}, "limits": limits}))
}

fn run(agent: &mut Agent, environment: &str, line: &str) -> Value {
    let call = json!({"environment": environment, "command": line, "timeout_seconds": 120});
    agent.ok("command_run", call)
}

/// Whether this kernel bounds the processes of root without a control group (pid_max of a PID namespace's own).
fn bounds_root() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap_or(0)) >= (6, 14)
}

/// Forks until it cannot, and a few hundred times beyond what it may; says how far it came.
const BOMB: &str = "i=0; while [ $i -lt 1500 ]; do sleep 1000 & i=$((i+1)); done; echo all";

#[test]
fn a_fork_bomb_stops_at_the_limit_and_ends_with_its_time() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        let watch = Watch::start(&sandbox);
        let mut agent = Agent::start(&sandbox, &[]);
        let environment = limited(&mut agent, json!({"processes": 60}));
        let bombed = run(&mut agent, &environment, BOMB);
        if sandbox.is_ordinary() || bounds_root() {
            assert!(
                !bombed["stdout"]["head"].as_str().unwrap().contains("all"),
                "{bombed}"
            );
        }
        // There is no room for another command; ending what runs makes some, and that needs none.
        agent.ok("environment_destroy", json!({"environment": environment}));

        let environment = limited(&mut agent, json!({"processes": 60}));
        let endless =
            "sh -c 'while :; do (setsid sleep 1000 &); sleep 1000 & done'; exec sleep 1000";
        let call = json!({"environment": environment, "command": endless, "timeout_seconds": 1});
        assert_eq!(agent.ok("command_run", call)["state"], "timed_out");
        let left = agent.run(&environment, "pidof sleep | wc -w");
        assert_eq!(left, "0\n");
        agent.leave();
        watch.assert_nothing_left();
    }
}

/// Whoever leaves its session and its parents, ignores signals and holds the output open ends with the command's time all the
/// same; what another command left does not.
#[test]
fn the_clock_kills_all_that_descends_from_a_command_and_nothing_else() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        let mut agent = Agent::start(&sandbox, &[]);
        let environment = limited(&mut agent, json!({}));
        agent.run(&environment, "sleep 1111 >/dev/null 2>&1 &");
        let runaway = "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; (setsid sleep 2222 &); sleep 2222' &); \
                       sleep 2222";
        let call = json!({"environment": environment, "command": runaway, "timeout_seconds": 1});
        let began = Instant::now();
        assert_eq!(agent.ok("command_run", call)["state"], "timed_out");
        assert!(began.elapsed() < Duration::from_secs(60));
        let left =
            "for i in /proc/[0-9]*; do tr '\\0' ' ' < $i/cmdline; echo; done | grep '^sleep'";
        assert_eq!(agent.run(&environment, left), "sleep 1111 \n");
        // The same by hand, and when the call that waits is cancelled.
        let start = json!({"environment": environment, "command": runaway});
        let command = agent.ok("command_start", start)["command"].clone();
        agent.ok(
            "command_signal",
            json!({"command": command, "signal": "KILL"}),
        );
        let polled = agent.ok(
            "command_poll",
            json!({"command": command, "wait_seconds": 60}),
        );
        assert_eq!(polled["signal"], "SIGKILL", "{polled}");
        assert_eq!(agent.run(&environment, left), "sleep 1111 \n");
        agent.leave();
    }
}

#[test]
fn memory_is_bounded_for_one_process_and_for_all_together() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        let mut agent = Agent::start(&sandbox, &[]);
        let asked = json!({"memory_bytes": 64 << 20});
        let created = agent.ok(
            "environment_create",
            json!({"from": {"packages": ["shell"]}, "limits": asked}),
        );
        assert_eq!(created["limits"]["memory_bytes"], 64 << 20);
        let environment = created["environment"].as_str().unwrap().to_owned();
        // One string of 100 million bytes.
        let one = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}";
        let one = run(&mut agent, &environment, one);
        assert!(
            !one["stdout"]["head"]
                .as_str()
                .unwrap()
                .contains("100000000"),
            "{one}"
        );
        let many = "for i in 1 2 3 4 5 6 7 8; do sh -c 'x=$(head -c 12000000 /dev/zero | tr \"\\0\" x); \
                    sleep 1000; echo $x' & done; wait";
        let many = run(&mut agent, &environment, many);
        assert_eq!(many["state"], "out_of_memory", "{many}");
        assert_eq!(agent.run(&environment, "echo it goes on"), "it goes on\n");
        // What is written outside of the project and /tmp is memory.
        let full = "for i in $(seq 100); do head -c 1000000 /dev/zero >> /run/full || exit 7; done";
        assert_eq!(run(&mut agent, &environment, full)["exit_code"], 7);
        let full =
            "for i in $(seq 100); do head -c 1000000 /dev/zero >> /dev/shm/full || exit 7; done";
        assert_eq!(run(&mut agent, &environment, full)["exit_code"], 7);
        agent.leave();
    }
}

#[test]
fn the_machines_disk_is_not_filled() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&["shell"]);
        let mut agent = Agent::start(&sandbox, &[]);
        let limits = json!({"disk_bytes": 64 << 20});
        let environment = agent.create(json!({"limits": limits}));
        // A single file, whole or of nothing.
        let large = run(
            &mut agent,
            &environment,
            "head -c 70000000 /dev/zero > large",
        );
        assert_ne!(large["exit_code"], 0, "{large}");
        let sparse = run(
            &mut agent,
            &environment,
            "truncate -s 1T sparse && echo made",
        );
        assert!(
            !sparse["stdout"]["head"].as_str().unwrap().contains("made"),
            "{sparse}"
        );
        agent.run(&environment, "rm -f large sparse");

        let bomb =
            "mkdir -p d; i=0; while :; do head -c 1000000 /dev/zero > d/$i; i=$((i+1)); done";
        let ended = run(&mut agent, &environment, bomb);
        assert_eq!(ended["state"], "out_of_space", "{ended}");
        // Cleaning up is possible, and then everything is.
        assert_eq!(
            agent
                .run(&environment, "ls d | wc -l; rm -r d; echo gone")
                .lines()
                .last(),
            Some("gone")
        );
        agent.run(&environment, "head -c 10000000 /dev/zero > fits; sleep 1");

        // Where it can hide, and with files that hold nothing.
        let hidden = "mkdir /tmp/h; cd /tmp/h; chmod 300 .; i=0; while :; do head -c 1000000 /dev/zero > $i; i=$((i+1)); done";
        assert_eq!(
            run(&mut agent, &environment, hidden)["state"],
            "out_of_space"
        );
        agent.run(&environment, "chmod 700 /tmp/h; rm -r /tmp/h");
        let flood =
            "cd ~; i=0; while :; do mkdir $i; (cd $i; seq 1000 | xargs touch); i=$((i+1)); done";
        assert_eq!(
            run(&mut agent, &environment, flood)["state"],
            "out_of_space"
        );
        agent.leave();
    }
}

/// A quota is the project's: whoever makes more environments, or freezes what is written, gets no more of the disk.
#[test]
fn forks_and_snapshots_share_the_quota_of_their_project() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    sandbox.wants(&["shell"]);
    let mut agent = Agent::start(&sandbox, &[]);
    let environment = agent.create(json!({"limits": {"disk_bytes": 100 << 20}}));
    let fill = |more: &str| {
        format!(
            "i=0; while [ $i -lt 60 ]; do head -c 1000000 /dev/zero > {more}$i; i=$((i+1)); done; sleep 2"
        )
    };
    agent.run(&environment, &fill("a"));
    agent.ok("environment_snapshot", json!({"environment": environment}));
    let fork = agent.ok("environment_fork", json!({"environment": environment}));
    let fork = fork["environments"][0]["environment"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(run(&mut agent, &fork, &fill("b"))["state"], "out_of_space");
    agent.leave();
}

#[test]
fn limits_that_let_nothing_run_are_refused_and_what_is_not_held_is_said() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    let mut agent = Agent::start(&sandbox, &[]);
    let create = |limits: Value| json!({"from": "empty", "limits": limits});
    for limits in [
        json!({"memory_bytes": 1}),
        json!({"processes": 0}),
        json!({"processors": 0.0}),
    ] {
        let refused = agent.fails("environment_create", create(limits));
        assert!(refused.contains("too little"), "{refused}");
    }
    let created = agent.ok("environment_create", create(json!({"processors": 1.5})));
    assert_eq!(created["limits"]["processors"], 1.5);
    assert!(
        created["limits"]["processes"].as_u64().unwrap() >= 512,
        "{created}"
    );
    let held = created.get("warnings").is_none();
    let told = created["warnings"].to_string();
    assert!(held || told.contains("cpu controller"), "{told}");
    agent.leave();
}
