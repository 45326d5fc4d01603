//! Files of the machine: reading what was not lent, writing through what was planted, and what the file tools meet on their way.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use envd_tests::{agent::Agent, leftovers::Watch, programs};
use serde_json::{Value, json};

use crate::ground::{SECRET, all, everyone, held, on, shell, text};

/// Gain: keys, tokens and settings of the user, from their home directory, from a neighbour of the project, from the machine's
/// accounts, or from the variables that the server was started with.
/// Must happen: none of it is there, under its path or any other.
/// Guard: the root of the environment has nothing of the machine's but what the plan mounts (`plan` in
/// `envd/src/environment/plan.rs`, `Home::Empty` in `envd/src/agents/blueprint.rs`); `envd/src/environment/variables.rs`.
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn keys_tokens_and_variables_of_the_user() {
    for ground in everyone() {
        let names = [
            "home/.ssh/id_ed25519",
            "home/.aws/credentials",
            "home/.netrc",
            "home/.config/gh/hosts.yml",
            "home/.git-credentials",
            "neighbour/.env",
            "config/envd/config.toml",
            "run/secret",
        ];
        let secrets: Vec<_> = names
            .iter()
            .filter(|name| !name.starts_with("config/"))
            .map(|name| ground.secret(name))
            .collect();
        let variables = [
            ("AWS_SECRET_ACCESS_KEY", "secret-1"),
            ("GITHUB_TOKEN", "secret-2"),
            ("ENVD_MCP_TOKEN", "secret-3"),
            ("SSH_AUTH_SOCK", "/secret-4"),
            ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/secret-5"),
            ("DOCKER_HOST", "unix:///secret-6"),
            ("LD_PRELOAD", ""),
            ("https_proxy", "http://user:secret-7@proxy.example:3128"),
        ];
        let mut command = ground.envd_command(&["agent", "mcp"]);
        let mut agent = Agent::by(command.envs(variables));
        let environment = agent.create(json!({}));
        let output = shell(
            &mut agent,
            &environment,
            "env; cat /proc/self/environ /proc/*/environ; cat /etc/shadow",
        );
        for (_, value) in variables.iter().filter(|(_, value)| !value.is_empty()) {
            assert!(
                !output.contains(value),
                "as {}: {value} in\n{output}",
                ground.user
            );
        }
        for secret in &secrets {
            let path = secret.to_str().unwrap();
            let read = format!(
                "cat {path} /proc/self/root{path} ../..{path} 2>/dev/null; ls -A $(dirname {path})"
            );
            let output = shell(&mut agent, &environment, &read);
            assert!(
                !output.contains(SECRET.trim()),
                "as {}: {output}",
                ground.user
            );
            agent.fails("file_read", on(&environment, json!({"path": path})));
        }
        let everywhere = "find / -xdev -type f 2>/dev/null | xargs grep -l \"the owner's secret\" 2>/dev/null; true";
        assert_eq!(
            agent.run(&environment, everywhere),
            "",
            "as {}",
            ground.user
        );
        agent.leave();
    }
}

/// Gain: writing to a file outside by a link that is followed by envd and not by the kernel inside (CVE-2026-39861).
/// Must happen: what a link names is the environment's own; nothing outside changes.
/// Guard: `RESOLVE_IN_ROOT` and `NO_MAGICLINKS` in `envd/src/agents/inside.rs`.
/// Seen to fail: with its guards taken out together; see `CASES.md`.
#[test]
fn writes_through_links() {
    for ground in everyone() {
        let target = ground.secret("outside/target");
        let directory = target.parent().unwrap().to_owned();
        let (mut agent, environment) = ground.agent();
        let script = format!(
            "ln -s {0} absolute; ln -s ../outside/target relative; ln -s {1} directory; ln -s /proc/self/cwd/../outside magic; \
             ln -s /proc/1/cwd first; ln -s {0}.new dangling; ln -s loop loop",
            target.display(),
            directory.display()
        );
        agent.run(&environment, &script);
        for path in [
            "absolute",
            "relative",
            "directory/target",
            "directory/new",
            "magic/target",
            "first/target",
            "dangling",
            "loop",
        ] {
            agent.call(
                "file_write",
                on(
                    &environment,
                    json!({"path": path, "content": "written\n", "executable": true}),
                ),
            );
            let edits = json!([{"old": "written", "new": "edited"}]);
            agent.call(
                "file_edit",
                on(&environment, json!({"path": path, "edits": edits})),
            );
            shell(
                &mut agent,
                &environment,
                &format!("echo written > {path}; chmod 777 {path}; rm -f {path}"),
            );
        }
        assert_eq!(text(&target), SECRET, "as {}", ground.user);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&target).unwrap().mode() & 0o111, 0);
        agent.leave();
    }
}

/// Gain: the moment between looking at a path and opening it, in which a directory becomes a link.
/// Must happen: whatever is swapped, nothing outside is read or written.
/// Guard: one call of openat2(2) resolves and opens (`Inside::open`); what is opened again is named by its descriptor
/// (`Found::reopen`).
/// Seen to fail: with its guards taken out together; see `CASES.md`.
#[test]
fn links_swapped_in_a_loop() {
    for ground in everyone() {
        let target = ground.secret("outside/target");
        let (mut agent, environment) = ground.agent();
        let outside = target.parent().unwrap().to_str().unwrap();
        let start = json!({"command": ["attacker", format!("swap={outside}")]});
        agent.ok("command_start", on(&environment, start));
        agent.run(
            &environment,
            "until test -e link/.; do :; done; until test -L link; do :; done",
        );
        for round in 0..150 {
            let path = if round % 2 == 0 {
                "link/target"
            } else {
                "real/target"
            };
            let write = json!({"path": path, "content": "written\n"});
            agent.call("file_write", on(&environment, write));
            let (read, _) = agent.call("file_read", on(&environment, json!({"path": path})));
            assert!(
                !read.to_string().contains(SECRET.trim()),
                "as {}: {read}",
                ground.user
            );
            agent.call(
                "file_list",
                on(&environment, json!({"path": "link", "depth": 3})),
            );
            if round % 30 == 0 {
                agent.call("changes_diff", on(&environment, json!({})));
                agent.call(
                    "changes_apply",
                    on(&environment, json!({"paths": ["link", "real"]})),
                );
            }
        }
        assert_eq!(text(&target), SECRET, "as {}", ground.user);
        for name in ["link", "real"] {
            let met = ground.project().join(name);
            assert!(!met.is_symlink(), "a link that leads out was applied");
        }
        agent.leave();
    }
}

/// Gain: a call that never returns, or acts on a device or the kernel, because of what lies where a file was expected.
/// Must happen: FIFOs, devices, sockets, magic links and procfs are refused by name; everything else goes on.
/// Guard: `Found::reopen` and `open_file` (`envd/src/agents/inside.rs`): a reference first, then only regular files of the
/// environment's own file systems.
/// Seen to fail: a magic link was called an internal failure when the case was written.
#[test]
fn fifos_devices_and_magic_links_met_by_the_file_tools() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        agent.run(
            &environment,
            "mkfifo fifo; ln -s fifo link; ln -s /dev/zero zero; ln -s /dev/stdin input; mkdir dir; mkfifo dir/fifo; \
             ln -s /proc/self/environ environ; ln -s /proc/self/mem mem; (nc -lU socket & sleep 0.1; kill $!) 2>/dev/null; true",
        );
        for path in [
            "fifo",
            "link",
            "zero",
            "input",
            "environ",
            "mem",
            "/dev/zero",
            "/dev/ptmx",
            "/dev/tty",
            "/dev/full",
            "/proc/self/mem",
            "/proc/self/fd/0",
            "/proc/1/fd/0",
            "/proc/kcore",
            "/proc/kmsg",
            "/proc/self/task/1/environ",
            "/proc/sys/kernel/hostname",
            "/proc/self/attr/current",
            "/proc/self/uid_map",
        ] {
            let read = agent.fails("file_read", on(&environment, json!({"path": path})));
            assert!(!read.contains("internal"), "{path}: {read}");
            agent.fails(
                "file_write",
                on(&environment, json!({"path": path, "content": "x"})),
            );
            let edits = json!([{"old": "a", "new": "b"}]);
            agent.fails(
                "file_edit",
                on(&environment, json!({"path": path, "edits": edits})),
            );
        }
        let searched = agent.ok(
            "file_search",
            on(&environment, json!({"pattern": ".", "path": "dir"})),
        );
        assert_eq!(searched["matches"], json!([]));
        agent.ok("file_list", on(&environment, json!({"depth": 5})));
        agent.ok(
            "file_list",
            on(&environment, json!({"path": "/dev", "depth": 5})),
        );
        let (found, _) = agent.call(
            "file_search",
            on(&environment, json!({"pattern": "root", "path": "/proc"})),
        );
        assert!(!found.to_string().contains("kernel"), "{found}");
        agent.leave();
    }
}

/// Gain: a call that waits for somebody inside to give up a lease (fcntl(2)) that they do not give up.
/// Must happen: file tools, diff and apply answer.
/// Guard: `O_NONBLOCK` in `Found::reopen`; diff and apply read the layer below the overlay, which has no lease.
/// Seen to fail: without `O_NONBLOCK`: `file_read` waits until the kernel takes the lease.
#[test]
fn leases_that_are_not_given_up() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        agent.run(&environment, "echo content > file");
        let start = json!({"command": ["attacker", "lease=file"]});
        let started = agent.ok("command_start", on(&environment, start));
        let poll = json!({"command": started["command"], "wait_seconds": 60});
        assert_eq!(agent.ok("command_poll", poll)["stdout"]["text"], "held\n");
        // Where nobody gives it up, the kernel takes it after this time (proc_sys_fs(5)), and whoever waits has waited.
        let patience = text(Path::new("/proc/sys/fs/lease-break-time"));
        let patience = Duration::from_secs(patience.trim().parse().unwrap());
        for (tool, more) in [
            ("file_read", json!({"path": "file"})),
            ("file_write", json!({"path": "file", "content": "x\n"})),
            ("file_search", json!({"pattern": "x"})),
            ("changes_diff", json!({})),
            ("changes_apply", json!({"paths": ["file"]})),
        ] {
            let began = Instant::now();
            let (answer, failed) = agent.call(tool, on(&environment, more));
            let took = began.elapsed();
            assert!(took < patience, "as {}: {tool} took {took:?}", ground.user);
            // A file that is held can be neither read nor written to by name.
            let held = tool == "file_read" || tool == "file_write";
            assert!(held || !failed, "{tool}: {answer}");
        }
        let still = agent.ok("command_poll", json!({"command": started["command"]}));
        assert_eq!(
            still["state"], "running",
            "as {}: nobody waited for it",
            ground.user
        );
        agent.leave();
    }
}

/// Gain: the server's stack or descriptors, by a tree deeper than whoever walks it can go; files that stay because nobody can
/// remove them.
/// Must happen: lists, searches and diffs come to an end; destroying leaves nothing, and neither does the next command after a
/// server that was killed.
/// Guard: the bound of `walk` (`envd/src/agents/files.rs`), the depth of `Scope` and `remove_tree` (`agents/src/changes`), the
/// store's sweep.
/// Seen to fail: `file_list` with a large depth ended the server when the case was written.
#[test]
fn trees_deeper_than_any_stack() {
    for ground in everyone() {
        ground.envd(&["run", "--", "true"]).ok();
        let watch = Watch::start(&ground);
        // As many descriptors as there may be, so that they are not what ends a walk.
        let envd = ground.envd_command(&[]).get_program().to_owned();
        let start = || {
            let mut command = ground.command("sh");
            command
                .args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" agent mcp"])
                .arg(&envd);
            command
        };
        let mut agent = Agent::by(&mut start());
        let environment = agent.create(json!({}));
        // An overlay takes its time for deep names, a tmpfs does not.
        let lines = [
            "cd /dev/shm && attacker deep=8000",
            "cd ~ && attacker deep=1500",
            "attacker deep=1500",
        ];
        for line in lines {
            let made = agent.run(&environment, line);
            assert!(made.ends_with("SUCCEEDED\n"), "{made}");
        }
        for path in [".", "/dev/shm"] {
            let list =
                json!({"path": path, "depth": 4_000_000_000_u32, "limit": 4_000_000_000_u32});
            agent.ok("file_list", on(&environment, list));
            agent.ok(
                "file_search",
                on(&environment, json!({"path": path, "pattern": "x"})),
            );
        }
        agent.ok("changes_diff", on(&environment, json!({})));
        agent.ok("changes_apply", on(&environment, json!({"dry_run": true})));
        agent.ok("environment_snapshot", on(&environment, json!({})));
        agent.ok("environment_destroy", on(&environment, json!({})));
        let left = agent.create(json!({}));
        agent.run(&left, "attacker deep=1500");
        agent.kill();
        Agent::start(&ground, &[]).leave();
        let places = std::fs::read_dir(ground.store().join("tmp"))
            .unwrap()
            .count();
        assert_eq!(places, 0, "as {}", ground.user);
        watch.assert_nothing_left();
    }
}

/// Gain: device nodes, marks of overlayfs, links to files outside, another owner: what a later reader of the layers would obey.
/// Must happen: none can be made; marks of overlayfs that are set are data and hide or lead nowhere.
/// Guard: the user namespace without capabilities; overlayfs, which keeps its own marks apart (`userxattr`); `MOUNT_ATTR_NODEV`.
/// Seen to fail: not by removing: they are the kernel's own rules; outside, as root, the same succeeds.
#[test]
fn device_nodes_marks_and_hard_links() {
    for ground in everyone() {
        let secret = ground.secret("secret");
        let (mut agent, environment) = ground.agent();
        let project = ground.project();
        let project = project.to_str().unwrap();
        let outside = format!("link={}", secret.display());
        let places = ["/tmp", project];
        for place in places {
            let names = [
                "mknod_memory",
                "mknod_disk",
                "mknod_whiteout",
                "xattr_trusted",
            ];
            let attacks: Vec<String> = names.iter().map(|name| format!("{name}={place}")).collect();
            let attacks: Vec<&str> = attacks.iter().map(String::as_str).collect();
            held(
                &mut agent,
                &environment,
                ground.user,
                &all(&attacks, &["EPERM", "EACCES", "EOPNOTSUPP"]),
            );
        }
        if ground.user == "root" {
            // Outside these are root's to do: what refuses them is what is around them.
            let directory = ground.path("tmp");
            let directory = directory.display();
            let names =
                ["mknod_whiteout", "xattr_trusted"].map(|name| format!("{name}={directory}"));
            let names = [&names[..], std::slice::from_ref(&outside)].concat();
            let output = ground.command(ground.attacker()).args(&names).output();
            let output = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
            assert_eq!(output.matches("SUCCEEDED").count(), 3, "{output}");
            let _ = std::fs::remove_file("/tmp/linked");
        }
        let attacks = all(
            &[
                &*outside,
                "link=/usr/bin/attacker",
                "link=/proc/self/exe",
                "link_descriptor=/usr/bin/attacker",
            ],
            &["EXDEV", "ENOENT", "EPERM", "EACCES"],
        );
        held(&mut agent, &environment, ground.user, &attacks);
        held(
            &mut agent,
            &environment,
            ground.user,
            &[("chown=envd.toml", &["EPERM", "EINVAL"])],
        );
        // Marks: whether they can be set or not, what lies below stays what it is, also in what is launched over them.
        let marks = format!(
            "attacker xattr_opaque={project} xattr_redirect={project} > /dev/null; cat envd.toml"
        );
        let before = agent.run(&environment, &marks);
        assert!(before.contains("attacker"), "{before}");
        agent.ok("environment_snapshot", on(&environment, json!({})));
        assert_eq!(agent.run(&environment, "cat envd.toml"), before);
        let diff = agent.ok("changes_diff", on(&environment, json!({})));
        assert_eq!(diff["changes"], json!([]), "as {}: {diff}", ground.user);
        agent.leave();
    }
}

/// Gain: the machine's own `/dev/null`, made unusable or private by whoever has the number of its owner, root.
/// Must happen: its mode and times cannot be changed, by its path or by the descriptor that a command has as standard input.
/// Guard: the nodes are attached read-only (`Compiler::node` in `shims/src/compile/devices.rs`); standard input is opened
/// inside (`Inside::null` in `envd/src/agents/inside.rs`).
/// Seen to fail: as root, both were possible when the case was written.
#[test]
fn modes_of_the_machines_devices() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        let mut names = vec!["chmod_input".to_owned()];
        for node in ["null", "zero", "full", "random", "urandom", "tty"] {
            names.push(format!("chmod=/dev/{node}"));
            names.push(format!("touch=/dev/{node}"));
        }
        for number in 0..3 {
            names.push(format!("chmod=/proc/self/fd/{number}"));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // Standard output and error are pipes of the command's own.
        let attacks: Vec<_> = all(&names, &["EROFS", "EPERM", "EACCES"])
            .into_iter()
            .filter(|(name, _)| !name.ends_with("fd/1") && !name.ends_with("fd/2"))
            .collect();
        held(&mut agent, &environment, ground.user, &attacks);
        // And they still work.
        let output = agent.run(
            &environment,
            "echo x > /dev/null; head -c 2 /dev/zero | wc -c; cat",
        );
        assert_eq!(output.trim(), "2");
        agent.leave();
    }
}

/// Gain: talking to a process outside through a FIFO, a socket or a file with two names that lies in the project.
/// Must happen: a FIFO inside is another one; a file that is written to is a copy.
/// Guard: overlayfs over the project (`Layered::mount` in `envd/src/agents/layers.rs`); for sockets see `sockets.rs`.
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn fifos_and_hard_links_of_the_project() {
    for ground in everyone() {
        let secret = ground.secret("secret");
        let fifo = ground.project().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        std::fs::hard_link(&secret, ground.project().join("hard")).unwrap();
        ground.hand_over();
        let reader = ground
            .command("timeout")
            .args(["60", "cat"])
            .arg(&fifo)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut agent, environment) = ground.agent();
        let start = json!({"command": "echo through > fifo"});
        let started = agent.ok("command_start", on(&environment, start));
        agent.run(
            &environment,
            "echo written > hard; cat hard; chmod 4777 hard",
        );
        assert_eq!(text(&secret), SECRET);
        assert_eq!(std::fs::metadata(&secret).unwrap().mode() & 0o7000, 0);
        // Who opens it inside waits for a reader inside.
        assert_eq!(agent.run(&environment, "cat fifo"), "through\n");
        agent.ok(
            "command_poll",
            json!({"command": started["command"], "wait_seconds": 60}),
        );
        // Only now somebody outside writes.
        std::fs::write(&fifo, "outside\n").unwrap();
        let read = reader.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&read.stdout),
            "outside\n",
            "as {}",
            ground.user
        );
        agent.leave();
    }
}

/// Gain: the server's processor and memory, by a search that is expensive for what it looks for.
/// Must happen: a pattern that would take hours is refused or given up; other calls are answered meanwhile.
/// Guard: the bounds of `Search` (`envd/src/agents/files.rs`).
/// Seen to fail: the search went on for as long as anybody waited when the case was written.
#[test]
fn searches_that_are_expensive() {
    let Some(ground) = crate::ground::one() else {
        return;
    };
    let (mut agent, environment) = ground.agent();
    agent.run(&environment, "head -c 16000000 /dev/zero | tr '\\0' a > long; yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | head -c 16000000 > lines");
    let patterns = ["(a{0,100}){0,100}b", "(.*)*x", "(a|aa|aaa){50}.{500}!"];
    let mut waiting = Vec::new();
    for pattern in patterns {
        for path in ["long", "lines"] {
            let search = json!({"name": "file_search", "arguments": on(&environment, json!({"pattern": pattern, "path": path}))});
            waiting.push(agent.request("tools/call", &search));
        }
    }
    assert_eq!(agent.run(&environment, "echo meanwhile"), "meanwhile\n");
    for number in waiting {
        let answer: Value = agent.answer(number);
        assert!(answer.get("result").is_some(), "{answer}");
    }
    agent.leave();
}

/// Gain: what is read as another program than was compiled, or compiled here and run there: nothing; this holds the suite itself.
/// Must happen: without envd around it, the attacker's program does succeed, so that its refusals inside mean something.
#[test]
fn the_attacker_can_attack() {
    let Some(ground) = crate::ground::one() else {
        return;
    };
    assert!(!programs::attacker().is_empty());
    let output = ground
        .command(ground.attacker())
        .args([
            "core_handler",
            "clone_newuser",
            "unshare_newuser",
            "mknod_whiteout",
            "open=/proc/self/environ",
        ])
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.matches("SUCCEEDED").count(), 5, "{output}");
    let _ = std::fs::remove_file("/tmp/whiteout");
    std::thread::sleep(Duration::ZERO);
}
