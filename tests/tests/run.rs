//! `envd run`: a process inside an environment, with everything it should have and nothing it should not.

use std::{io::Write, process::Stdio};

use envd_tests::{
    deb::Deb,
    programs,
    sandbox::{conclude, finish, set_mode},
    world::World,
};

#[test]
fn a_program_of_a_package_runs_from_an_empty_store() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
}

/// Scripts and CI decide by exit codes.
#[test]
fn exit_codes_and_signals_come_back() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    world.run_shell("exit 7").code(7);
    world.run_shell("exit 0").code(0);
    world.run_shell("kill -TERM $$; sleep 9").code(128 + 15);
    world
        .envd(&["run", "--", "no-such-program"])
        .code(127)
        .says(&["no-such-program"]);
    world.write("not-executable", "text\n");
    set_mode(&world.project().join("not-executable"), 0o644);
    world.envd(&["run", "--", "./not-executable"]).code(126);
}

#[test]
fn pipes_are_the_callers_own() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let script = "read line; echo out:$line; echo err >&2; cat";
    let mut child = world
        .envd_command(&["run", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first\nsecond\n").unwrap();
    drop(stdin);
    let outcome = conclude(child).ok();
    assert_eq!(outcome.stdout, "out:first\nsecond\n");
    assert!(outcome.stderr.ends_with("err\n"), "{outcome}");
}

#[test]
fn the_project_is_at_its_own_path_and_files_belong_to_the_caller() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    world.write("sub/input", "from outside\n");
    let outcome = world
        .run_shell("pwd; cat sub/input; echo from inside > sub/output; chmod 600 sub/output")
        .ok();
    let project = world.project().canonicalize().unwrap();
    assert_eq!(
        outcome.stdout,
        format!("{}\nfrom outside\n", project.display())
    );
    let written = project.join("sub/output");
    assert_eq!(std::fs::read_to_string(&written).unwrap(), "from inside\n");
    let metadata = std::fs::metadata(&written).unwrap();
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&metadata),
        nix::unistd::geteuid().as_raw()
    );
}

/// Commands work from any directory of the project, like git's.
#[test]
fn the_project_is_found_from_below_and_from_elsewhere() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.write("deep/er/file", "");
    let below = world.project().join("deep/er");
    let outcome = finish(
        world
            .envd_command(&["run", "--", "sh", "-c", "pwd; hello"])
            .current_dir(&below),
    )
    .ok();
    assert!(outcome.stdout.contains("deep/er\nHello"), "{outcome}");
    let project = world.project();
    let arguments = ["--project", project.to_str().unwrap(), "run", "--", "hello"];
    finish(world.envd_command(&arguments).current_dir("/")).ok();
    finish(world.envd_command(&["run", "--", "hello"]).current_dir("/"))
        .fails()
        .says(&["envd.toml"]);
}

/// What leaks in makes builds differ between machines; what leaks out is a secret lost.
#[test]
fn the_environment_is_clean_and_only_what_was_asked_is_added() {
    let Some(world) = World::small() else { return };
    world.write(
        "envd.toml",
        "[env]\nchannels = [\"debian:trixie\"]\npackages = []\n[env.vars]\nFROM_FILE = \"file\"\nBOTH = \"file\"\n",
    );
    let mut command = world.envd_command(&["run", "--env", "BOTH=line", "--", "env"]);
    command
        .env("AWS_SECRET_ACCESS_KEY", "leak")
        .env("LD_LIBRARY_PATH", "/leak")
        .env("PYTHONPATH", "/leak");
    let outcome = finish(&mut command).ok();
    assert!(!outcome.stdout.contains("leak"), "{outcome}");
    assert!(outcome.stdout.contains("FROM_FILE=file\n"), "{outcome}");
    assert!(outcome.stdout.contains("BOTH=line\n"), "{outcome}");
    assert!(outcome.stdout.contains("TERM=dumb\n"), "{outcome}");
    let path = outcome
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("PATH="))
        .expect("a PATH inside");
    assert!(path.split(':').any(|entry| entry == "/usr/bin"), "{path}");
    assert!(!path.contains("envd"), "no trick with PATH: {path}");
}

#[test]
fn the_hosts_files_are_not_there_and_what_is_written_is_gone() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let home = world.path("home");
    let script = "test ! -e /etc/apt && test ! -e /usr/bin/apt && echo clean;
                  test -z \"$(ls -A /tmp | grep -v envd-test)\" && echo private;
                  echo litter > /usr/bin/litter && echo litter > /tmp/litter && mkdir -p \"$HOME\" && echo litter > \"$HOME/litter\" && echo wrote";
    let outcome = world.run_shell(script).ok();
    assert_eq!(outcome.stdout, "clean\nprivate\nwrote\n", "{outcome}");
    assert!(!home.join("litter").exists());
    let outcome = world
        .run_shell("test ! -e /usr/bin/litter && test ! -e /tmp/litter && echo gone")
        .ok();
    assert_eq!(outcome.stdout, "gone\n");
    world.envd(&["store", "verify"]).ok();
}

#[test]
fn who_one_is_inside() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let own = nix::unistd::geteuid().as_raw();
    let outcome = world.run_shell("id -u").ok();
    assert_eq!(outcome.stdout.trim(), own.to_string());
    let outcome = world
        .envd(&["run", "--as-root", "--", "sh", "-c", "id -u; id -g"])
        .ok();
    assert_eq!(outcome.stdout, "0\n0\n");
}

#[test]
fn devices_and_special_files_work() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let script = "set -e
        echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c
        test -d /dev/pts; test -e /dev/ptmx; echo shm > /dev/shm/x; test -d /proc/self
        echo fd < /dev/null > /dev/stdout; test -w /run; cat /etc/hosts | grep -q localhost
        grep -q . /etc/passwd; echo done";
    let outcome = world.run_shell(script).ok();
    assert_eq!(outcome.stdout, "4\n4\nfd\ndone\n");
}

/// A toolchain that a package tree brings must not be able to write to the store it came from.
#[test]
fn the_store_cannot_be_written_from_inside() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let store = world.store();
    world.envd(&["run", "--", "true"]).ok();
    let script = format!(
        "for place in {0} {0}/objects {0}/views; do echo x > $place/planted; done 2>/dev/null; true",
        store.display()
    );
    world.run_shell(&script).ok();
    for place in ["", "objects", "views"] {
        assert!(!store.join(place).join("planted").exists());
    }
}

#[test]
fn descriptors_of_the_caller_do_not_get_in() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    world.envd(&["run", "--", "true"]).ok();
    let binary = envd_tests::sandbox::envd_binary();
    let script = format!(
        "exec 7</etc/passwd 9>/dev/null; exec {} run -- sh -c 'ls /proc/self/fd'",
        binary.display()
    );
    let outcome = finish(world.command("sh").args(["-c", &script])).ok();
    let open: Vec<_> = outcome.stdout.split_whitespace().collect();
    // `ls` itself opens the directory it lists.
    assert_eq!(open, ["0", "1", "2", "3"], "{outcome}");
}

#[test]
fn no_network_means_loopback_only() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(Deb::new("knock", "1.0").program("usr/bin/knock", programs::connecting()));
    world.publish();
    world.wants(&["knock"]);
    let outcome = world
        .envd(&[
            "run",
            "--no-network",
            "--",
            "sh",
            "-c",
            "ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev",
        ])
        .ok();
    assert!(!outcome.stdout.contains("eth"), "{outcome}");
    let port = world.server.url().replace("http://127.0.0.1:", "");
    let before = world.server.connections();
    world
        .envd(&["run", "--no-network", "--", "knock", &port])
        .fails();
    assert_eq!(world.server.connections(), before);
    world.envd(&["run", "--", "knock", &port]).ok();
}

#[test]
fn a_plan_is_printed_and_nothing_runs() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let outcome = world
        .envd(&["run", "--print-plan", "--", "touch", "ran"])
        .ok();
    let plan: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert!(plan.get("mounts").is_some(), "{outcome}");
    assert!(!world.project().join("ran").exists());
}

#[test]
fn background_processes_end_with_the_command() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let watch = envd_tests::leftovers::Watch::start(&world);
    world
        .run_shell("setsid sh -c 'trap \"\" TERM HUP INT; sleep 600' </dev/null >/dev/null 2>&1 & echo started")
        .ok();
    watch.assert_nothing_left();
}

#[test]
fn one_tool_without_a_project() {
    let Some(world) = World::small() else { return };
    let outcome = world.envd(&["x", "hello", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    let listing: Vec<_> = std::fs::read_dir(world.project()).unwrap().collect();
    assert!(listing.is_empty(), "litter in the directory: {listing:?}");
}

#[test]
fn a_script_names_its_tools_in_its_first_line() {
    let Some(world) = World::small() else { return };
    world.write(
        "script",
        "#!/usr/bin/env -S envd x shell hello -- sh\necho \"$1\"; hello\n",
    );
    let script = world.project().join("script");
    set_mode(&script, 0o755);
    let directory = envd_tests::sandbox::envd_binary().parent().unwrap();
    let mut command = world.command(&script);
    command
        .arg("argument")
        .env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
    let outcome = finish(&mut command).ok();
    assert_eq!(outcome.stdout, "argument\nHello, world! 1.0\n");
}

#[test]
fn once_realised_the_network_is_never_touched() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "hello"]).ok();
    let before = world.server.connections();
    world.envd(&["run", "--", "hello"]).ok();
    world.envd(&["list"]).ok();
    world.envd(&["why", "hello"]).ok();
    assert_eq!(world.server.connections(), before);
}

#[test]
fn offline_means_no_connection_and_a_clear_word() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    for arguments in [
        &["--offline", "run", "--", "hello"][..],
        &["--offline", "lock"],
    ] {
        world.envd(arguments).fails().says(&["offline"]);
    }
    let outcome = finish(
        world
            .envd_command(&["run", "--", "hello"])
            .env("ENVD_OFFLINE", "1"),
    );
    outcome.fails().says(&["offline"]);
    assert_eq!(world.server.connections(), 0);
    world.envd(&["run", "--", "hello"]).ok();
    let before = world.server.connections();
    world.envd(&["--offline", "run", "--", "hello"]).ok();
    assert_eq!(world.server.connections(), before);
}

/// The promise in one line: the caller's PATH finds no new program afterwards.
#[test]
fn path_outside_is_unchanged() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "hello"]).ok();
    let found = world
        .command("sh")
        .args(["-c", "command -v hello"])
        .output()
        .unwrap();
    assert!(!found.status.success());
    for name in ["home", "config", "state"] {
        let litter: Vec<_> = std::fs::read_dir(world.path(name)).unwrap().collect();
        assert!(litter.is_empty(), "{name}: {litter:?}");
    }
}
