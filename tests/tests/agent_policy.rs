//! What agents may do, and who says so: `[agent]` in the user's file and in a project's, `envd agent explain`; secrets; and the
//! record of what they did, `envd agent audit`.

use std::path::PathBuf;

use envd_tests::{
    agent::Agent,
    leftovers::Watch,
    sandbox::{Sandbox, set_mode},
    user::Account,
    world::World,
};
use serde_json::{Value, json};

/// Whoever runs the tests, and an ordinary user where that is another.
fn everyone(world: &World) -> Vec<Sandbox> {
    let ordinary = Account::ordinary().map(|account| world.another_of(Some(account)));
    std::iter::once(world.another()).chain(ordinary).collect()
}

/// Writes the user's file.
fn user_says(sandbox: &Sandbox, text: &str) {
    let directory = sandbox.path("config").join("envd");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), text).unwrap();
    sandbox.hand_over();
}

/// Writes the project's file.
fn project_says(sandbox: &Sandbox, text: &str) {
    sandbox.write(
        "envd.toml",
        &format!("[env]\npackages = []\n[agent]\n{text}\n"),
    );
}

fn explained(sandbox: &Sandbox, options: &[&str]) -> Vec<Value> {
    let arguments = [&["agent", "explain", "--json"], options].concat();
    let printed = sandbox.envd(&arguments).ok();
    serde_json::from_str(&printed.stdout).expect(&printed.stdout)
}

fn about<'v>(lines: &'v [Value], what: &str) -> Vec<&'v Value> {
    lines.iter().filter(|line| line["what"] == what).collect()
}

#[test]
fn each_line_of_the_policy_says_where_it_is_from_and_whether_it_holds() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        user_says(
            &sandbox,
            "[agent]\nnetwork = [\"*.example.org\", \"pypi.org\"]\nmemory = \"4 GiB\"\n\
             require = [\"user-namespaces\"]\n",
        );
        project_says(
            &sandbox,
            "network = [\"a.example.org\"]\nmemory = \"2 GiB\"\nprotect = [\"/Makefile\"]",
        );
        let lines = explained(&sandbox, &[]);
        let network = about(&lines, "network");
        assert_eq!(network.len(), 1, "{lines:?}");
        assert_eq!(network[0]["value"], "a.example.org");
        assert_eq!(network[0]["origin"], "project envd.toml:4:12");
        assert_eq!(network[0]["enforced"], true, "{network:?}");
        assert_eq!(about(&lines, "memory")[0]["value"], "2 GiB");
        assert_eq!(about(&lines, "required")[0]["enforced"], true);
        let config = sandbox.path("config").join("envd/config.toml");
        let origin = format!("user {}:4:12", config.display());
        assert_eq!(about(&lines, "required")[0]["origin"], origin);
        let protected = about(&lines, "protected");
        assert_eq!(protected[1]["value"], "/makefile", "{protected:?}");
        let text = sandbox.envd(&["agent", "explain"]).ok().stdout;
        assert!(
            text.contains(
                "network: a.example.org  (project envd.toml:4:12)\n    enforced: network namespace"
            ),
            "{text}"
        );
        // The flags of whoever starts a server are the user's word as well: they add, and the project's file still tightens.
        sandbox.write("envd.toml", "[env]\npackages = []\n");
        let lines = explained(&sandbox, &["--allow-host", "crates.io"]);
        let origins: Vec<_> = about(&lines, "network")
            .iter()
            .map(|line| line["origin"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(origins.len(), 3, "{origins:?}");
        assert_eq!(origins[2], "flag --allow-host crates.io");
    }
}

/// A repository that could widen its own policy would be one that everybody who opens it has to read first.
#[test]
fn a_projects_file_that_would_widen_is_refused_with_its_line() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    user_says(
        &sandbox,
        "[agent]\nnetwork = [\"pypi.org\"]\nenvironments = 3\n",
    );
    for (text, place, parts) in [
        (
            "network = \"host\"",
            "envd.toml:4:11",
            ["the machine's network", "network = \"host\""],
        ),
        (
            "network = [\"pypi.org\", \"evil.org\"]",
            "envd.toml:4:24",
            ["reaching evil.org", "network = [\"evil.org\"]"],
        ),
        (
            "environments = 4",
            "envd.toml:4:16",
            ["environments = 4", "3 (user "],
        ),
        (
            "lend = [\"/\"]",
            "envd.toml:4:8",
            ["not for a project to say", "config.toml"],
        ),
        (
            "[agent.secrets]\nKEY = { command = [\"touch\", \"/tmp/pwned\"] }",
            "envd.toml:4:1",
            ["not for a project to say", "config.toml"],
        ),
    ] {
        project_says(&sandbox, text);
        for command in [&["agent", "explain"][..], &["agent", "mcp"]] {
            let refused = sandbox.envd(command).code(2).stderr;
            for part in parts.iter().chain([&place]) {
                assert!(refused.contains(part), "{text}: {part}: {refused}");
            }
        }
    }
    // Nobody else is bothered by it, for nothing is lent.
    project_says(&sandbox, "network = \"host\"");
    sandbox.envd(&["list"]).ok();
}

#[test]
fn what_is_required_and_not_there_keeps_everything_from_being_lent() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    project_says(&sandbox, "require = [\"landlocks\"]");
    let refused = sandbox.envd(&["agent", "mcp"]).code(2).stderr;
    assert!(
        refused.contains("there is no mechanism `landlocks`"),
        "{refused}"
    );
    assert!(
        refused.contains("envd.toml:4:12") && refused.contains("landlock,"),
        "{refused}"
    );
    let lines = explained(&sandbox, &[]);
    assert_eq!(about(&lines, "required")[0]["enforced"], false);
    project_says(&sandbox, "require = [\"seccomp\", \"overlay\"]");
    let mut agent = Agent::start(&sandbox, &[]);
    agent.create(json!({"from": "empty"}));
    agent.leave();
}

#[test]
fn requests_stay_within_the_policy() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        user_says(
            &sandbox,
            "[agent]\nnetwork = [\"*.example.org\"]\npackages = false\nmemory = \"1 GiB\"\ntime-to-live = \"1h\"\n\
             environments = 2\n",
        );
        project_says(
            &sandbox,
            "network = [\"a.example.org\"]\nprotect = [\"/notes\"]",
        );
        sandbox.write("notes", "one\n");
        let watch = Watch::start(&sandbox);
        let mut agent = Agent::start(&sandbox, &[]);
        // What is not asked for is the policy's.
        let wish = json!({
            "ttl_seconds": 1_000_000, "limits": {"memory_bytes": 1_u64 << 40, "processes": 9},
        });
        let lent = agent.ok("environment_create", wish);
        assert_eq!(
            lent["network"],
            json!({"allow": ["a.example.org"]}),
            "{lent}"
        );
        let limits = &lent["limits"];
        assert_eq!(
            (&limits["memory_bytes"], &limits["processes"]),
            (&json!(1 << 30), &json!(9))
        );
        let left = lent["expires_in_seconds"].as_u64().unwrap();
        assert!(left <= 3600, "{lent}");
        let warnings = lent["warnings"].to_string();
        assert!(
            warnings.contains("memory is cut from 1 TiB to 1 GiB (user "),
            "{warnings}"
        );
        assert!(warnings.contains("time-to-live is cut from"), "{warnings}");

        for (wish, part) in [
            (
                json!({"network": {"allow": ["b.example.org"]}}),
                "envd.toml:4",
            ),
            (json!({"network": "host"}), "envd.toml:4"),
            (json!({"from": {"packages": ["hello"]}}), "packages = true"),
        ] {
            let denied = agent.fails("environment_create", wish);
            assert!(denied.contains(part), "{part}: {denied}");
        }
        let environment = lent["environment"].clone();
        let add = json!({"environment": environment, "packages": ["hello"]});
        agent.fails("package_add", add);
        // A fork is one more, and its time is no longer than its origin's could be.
        let fork = json!({"environment": environment, "ttl_seconds": 1_000_000});
        let forked = agent.ok("environment_fork", fork);
        assert!(
            forked["environments"][0]["expires_in_seconds"]
                .as_u64()
                .unwrap()
                <= 3600
        );
        let full = agent.fails("environment_create", json!({"network": "none"}));
        assert!(full.contains("environments at a time is 2"), "{full}");
        agent.fails("environment_fork", json!({"environment": environment}));
        let snapshot = agent.ok("environment_snapshot", json!({"environment": environment}));
        let as_new = json!({"snapshot": snapshot["snapshot"], "as_new": true});
        agent.fails("environment_restore", as_new.clone());
        let restore = json!({"snapshot": snapshot["snapshot"]});
        agent.ok("environment_restore", restore);
        let gone = json!({"environment": forked["environments"][0]["environment"]});
        agent.ok("environment_destroy", gone);
        let new = agent.ok("environment_restore", as_new);
        assert!(new["expires_in_seconds"].as_u64().unwrap() <= 3600, "{new}");

        let write = json!({"environment": environment, "path": "notes", "content": "two\n"});
        agent.ok("file_write", write);
        let diff = agent.ok("changes_diff", json!({"environment": environment}));
        assert_eq!(diff["changes"][0]["protected_by"], "policy", "{diff}");
        let refused = agent.ok("changes_apply", json!({"environment": environment}));
        let reason = refused["refused"][0]["reason"].as_str().unwrap();
        assert!(
            reason.contains("`protect` of [agent] names it (project envd.toml:5:"),
            "{refused}"
        );
        let notes = std::fs::read_to_string(sandbox.project().join("notes")).unwrap();
        assert_eq!(notes, "one\n");

        // Its own policy an agent cannot change: not now, for it was read before, and not for the next.
        let edits = json!([{"old": "/notes", "new": "/other"}]);
        let edit = json!({"environment": environment, "path": "envd.toml", "edits": edits});
        agent.ok("file_edit", edit);
        let apply = json!({"environment": environment, "paths": ["envd.toml"]});
        let refused = agent.ok("changes_apply", apply);
        assert!(
            refused["refused"][0]["reason"]
                .as_str()
                .unwrap()
                .contains("envd-agent"),
            "{refused}"
        );
        agent.leave();
        watch.assert_nothing_left();
    }
}

/// A project that is lent beside the server's own has a file of its own, which tightens for it alone.
#[test]
fn another_projects_file_holds_for_that_project() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    let other: PathBuf = sandbox.path("other");
    std::fs::create_dir_all(other.join("below")).unwrap();
    set_mode(&other, 0o755);
    let says = |text: &str| {
        std::fs::write(
            other.join("envd.toml"),
            format!("[env]\npackages = []\n[agent]\n{text}\n"),
        )
        .unwrap();
    };
    sandbox.wants(&[]);
    user_says(
        &sandbox,
        &format!("[agent]\nlend = [\"{}\"]\n", other.display()),
    );
    let mut agent = Agent::start(&sandbox, &["--allow-host", "example.org"]);
    let create = |path: &std::path::Path| json!({"from": "empty", "project": path});
    says("network = \"none\"");
    for path in [&other, &other.join("below")] {
        let lent = agent.ok("environment_create", create(path));
        assert_eq!(lent["network"], "none", "{lent}");
    }
    let own = agent.ok("environment_create", json!({"from": "empty"}));
    assert_eq!(own["network"], json!({"allow": ["example.org"]}));
    says("network = \"host\"");
    let refused = agent.fails("environment_create", create(&other));
    assert!(refused.contains("can only tighten"), "{refused}");
    // With a server of many threads, too, the machine is asked.
    says("require = [\"user-namespaces\"]");
    agent.ok("environment_create", create(&other));
    says("require = [\"telepathy\"]");
    let refused = agent.fails("environment_create", create(&other));
    assert!(
        refused.contains("there is no mechanism `telepathy`"),
        "{refused}"
    );
    agent.leave();
}

/// Every line of the record that these options pick.
fn audited(sandbox: &Sandbox, options: &[&str]) -> Vec<Value> {
    let arguments = [&["agent", "audit", "--json"], options].concat();
    let printed = sandbox.envd(&arguments).ok().stdout;
    let lines = printed.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect(&printed)
}

fn methods(lines: &[Value]) -> Vec<&str> {
    let methods = lines.iter().map(|line| line["method"].as_str().unwrap());
    methods.collect()
}

#[test]
fn every_call_is_on_record_for_its_owner_alone() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        sandbox.wants(&[]);
        let watch = Watch::start(&sandbox);
        let from = json!({"packages": ["shell"]});
        let mut agent = Agent::start(&sandbox, &["--allow-host", "a.example.org"]);
        let environment = agent.create(json!({"from": from}));
        agent.run(&environment, "echo from the inside");
        agent.fails(
            "file_read",
            json!({"environment": environment, "path": "missing"}),
        );
        let ask = "for i in 1 2 3; do printf 'CONNECT evil.example.net:443 HTTP/1.1\\r\\nHost: evil.example.net\\r\\n\\r\\n' \
                   | nc 127.0.0.1 3128 >/dev/null; done";
        agent.run(&environment, ask);
        let late =
            json!({"environment": environment, "command": "sleep 1000", "timeout_seconds": 1});
        agent.ok("command_run", late);
        let other = agent.create(json!({"from": "empty"}));
        agent.leave();
        watch.assert_nothing_left();

        let all = audited(&sandbox, &[]);
        assert_eq!(
            methods(&all),
            [
                "environment_create",
                "command_run",
                "file_read",
                "command_run",
                "command_run",
                "environment_create",
                "release",
            ]
        );
        assert_eq!(all[1]["subject"], "echo from the inside");
        assert_eq!(all[1]["client"], "test 1");
        assert_eq!(all[2]["verdict"], "no_such_file");
        assert_eq!(
            all[3]["refused"],
            json!([{"host": "evil.example.net", "port": 443, "reason": "not-listed", "count": 3}])
        );
        assert_eq!(all[4]["limits"], json!(["timed_out"]));
        let about = audited(&sandbox, &["--environment", &environment]);
        assert_eq!(about.len(), 5, "{about:?}");
        assert_eq!(audited(&sandbox, &["--environment", &other]).len(), 1);
        assert_eq!(
            methods(&audited(&sandbox, &["--failed"])),
            ["file_read", "command_run", "command_run"]
        );
        assert_eq!(
            audited(&sandbox, &["--method", "command_run", "--since", "1h"]).len(),
            3
        );
        assert_eq!(audited(&sandbox, &["--since", "2999-01-01"]).len(), 0);
        let text = sandbox.envd(&["agent", "audit"]).ok().stdout;
        assert!(
            text.contains("refused: evil.example.net:443: not-listed (3 times)"),
            "{text}"
        );
        sandbox.envd(&["agent", "audit", "--since", "soon"]).code(2);

        let directory = sandbox.store().join("audit");
        let mode = |path: &std::path::Path| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("calls.jsonl")), 0o600);
        // gc and verify leave it alone, and with the store it goes.
        sandbox.envd(&["gc"]).ok();
        sandbox.envd(&["store", "verify"]).ok();
        assert_eq!(audited(&sandbox, &[]).len(), 7);
        sandbox.envd(&["uninstall", "--yes"]).ok();
        sandbox.envd(&["uninstall", "--verify"]).ok();
        assert!(!sandbox.store().exists());
    }
}

/// The value of a secret, and what is seen of it when every letter is followed by a dot.
const VALUE: &str = "hush-0123456789";
const DOTTED: &str = "h.u.s.h.-.0.1.2.3.4.5.6.7.8.9.\n";

/// Files below a directory that hold a text.
fn holding(directory: &std::path::Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(kind) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if kind.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_secret_is_one_commands_and_is_seen_nowhere() {
    let Some(world) = World::small() else { return };
    for sandbox in everyone(&world) {
        let sandbox = sandbox.variable("MY_TOKEN", VALUE);
        let file = sandbox.path("home").join("key");
        std::fs::write(&file, "from-a-file-0123\n").unwrap();
        user_says(
            &sandbox,
            "[agent.secrets]\nTOKEN = { env = \"MY_TOKEN\" }\nKEY = { file = \"~/key\" }\n\
             PRINTED = { command = [\"printf\", \"printed-0123456\"] }\nUNSET = { env = \"NO_SUCH\" }\n\
             GH = { env = \"MY_TOKEN\", header = \"Authorization: Bearer {}\", host = \"api.example.org\" }\n",
        );
        project_says(
            &sandbox,
            "secrets = [\"TOKEN\", \"KEY\", \"PRINTED\", \"GH\", \"UNSET\", \"UNKNOWN\"]",
        );
        let lines = explained(&sandbox, &[]);
        assert_eq!(
            about(&lines, "secret TOKEN")[0]["value"],
            "the variable MY_TOKEN"
        );
        assert_eq!(about(&lines, "secret UNKNOWN")[0]["enforced"], false);

        let mut agent = Agent::start(&sandbox, &[]);
        let wish = json!({"from": {"packages": ["shell"]}});
        let lent = agent.ok("environment_create", wish);
        let names = json!(["KEY", "PRINTED", "TOKEN", "UNSET"]);
        assert_eq!(lent["secrets"], names, "those for commands");
        let environment = lent["environment"].as_str().unwrap().to_owned();
        let with = |line: &str, secrets: &[&str]| json!({"environment": environment, "command": line, "secrets": secrets});
        let told = |agent: &mut Agent, line: &str, secrets: &[&str]| {
            let ended = agent.ok("command_run", with(line, secrets));
            let text = |stream: &str| ended[stream]["head"].as_str().unwrap().to_owned();
            text("stdout") + &text("stderr")
        };
        let dotted = "printf %s \"$TOKEN\" | sed 's/./&./g'; echo";
        assert_eq!(
            told(&mut agent, dotted, &["TOKEN"]).trim_end(),
            DOTTED.trim_end()
        );
        assert_eq!(told(&mut agent, "echo \"<$TOKEN>\"", &[]), "<>\n");
        let all = "echo $TOKEN $KEY; echo $PRINTED >&2";
        assert_eq!(
            told(&mut agent, all, &["TOKEN", "KEY", "PRINTED"]),
            "[secret TOKEN] [secret KEY]\n[secret PRINTED]\n"
        );
        // In pieces, as slowly as it may be.
        let pieces = "for c in $(printf %s \"$TOKEN\" | sed 's/./& /g'); do printf %s $c; sleep 0.02; done; echo";
        assert_eq!(told(&mut agent, pieces, &["TOKEN"]), "[secret TOKEN]\n");
        let started = agent.ok(
            "command_start",
            with("echo a $TOKEN b; exec sleep 1000", &["TOKEN"]),
        );
        let mut seen = String::new();
        while !seen.contains("b\n") {
            let poll = json!({
                "command": started["command"], "stdout_offset": seen.len(), "wait_seconds": 60,
            });
            seen += agent.ok("command_poll", poll)["stdout"]["text"]
                .as_str()
                .unwrap();
        }
        assert_eq!(seen, "a [secret TOKEN] b\n");
        // It stays in that command's environment: nothing of it in any file, inside or out.
        let printed = holding(&sandbox.store(), VALUE);
        assert_eq!(printed, Vec::<PathBuf>::new());
        let environ = "cat /proc/self/environ /proc/1/environ 2>/dev/null | tr '\\0' '\\n' | grep -c hush; true";
        assert_eq!(told(&mut agent, environ, &[]), "0\n");

        // What a command writes down is its own doing, and is not shown all the same.
        agent.ok(
            "command_run",
            with(
                "printf %s $TOKEN > leaked; printf '\\377%s' $TOKEN > binary",
                &["TOKEN"],
            ),
        );
        let on = |path: &str| json!({"environment": environment, "path": path});
        assert_eq!(
            agent.ok("file_read", on("leaked"))["content"],
            "[secret TOKEN]"
        );
        let binary = agent.ok("file_read", on("binary"));
        // A byte 0xff, and the name.
        assert_eq!(binary["content"], "/1tzZWNyZXQgVE9LRU5d", "{binary}");
        assert_eq!(told(&mut agent, "cat leaked", &[]), "[secret TOKEN]");
        let search = json!({"environment": environment, "pattern": "h.sh"});
        let (found, _) = agent.call("file_search", search);
        let (diff, _) = agent.call("changes_diff", json!({"environment": environment}));
        for answer in [found, diff] {
            let answer = answer.to_string();
            assert!(
                answer.contains("[secret TOKEN]") && !answer.contains(VALUE),
                "{answer}"
            );
        }

        for (secrets, part) in [
            (
                &["NO_SUCH"][..],
                "only GH, KEY, PRINTED, TOKEN, UNSET may be used here",
            ),
            (&["GH"], "only put into requests by the proxy"),
            (&["UNSET"], "the variable NO_SUCH is not set"),
        ] {
            let denied = agent.fails("command_run", with("true", secrets));
            assert!(denied.contains(part), "{part}: {denied}");
        }
        let mut twice = with("true", &["TOKEN"]);
        twice["env"] = json!({"TOKEN": "x"});
        assert!(agent.fails("command_run", twice).contains("in env, too"));
        agent.leave();

        project_says(&sandbox, "secrets = []");
        let mut agent = Agent::start(&sandbox, &[]);
        let environment = agent.create(json!({"from": {"packages": ["shell"]}}));
        let with = json!({"environment": environment, "command": "true", "secrets": ["TOKEN"]});
        let denied = agent.fails("command_run", with);
        assert!(denied.contains("no secrets may be used here"), "{denied}");
        agent.leave();

        let all = audited(&sandbox, &["--method", "command_run"]);
        assert_eq!(all[0]["secrets"], json!(["TOKEN"]));
        assert_eq!(
            holding(&sandbox.store().join("audit"), VALUE),
            Vec::<PathBuf>::new()
        );
    }
}

/// A header that cannot be made is told when the environment is, not found out by a server's refusal.
#[test]
fn a_header_without_a_value_is_warned_of() {
    let Some(world) = World::small() else { return };
    let sandbox = world.another();
    sandbox.wants(&[]);
    user_says(
        &sandbox,
        "[agent]\nnetwork = [\"api.example.org\"]\n[agent.secrets]\n\
         GH = { env = \"NO_SUCH\", header = \"Authorization: Bearer {}\", host = \"api.example.org\" }\n",
    );
    let mut agent = Agent::start(&sandbox, &[]);
    let lent = agent.ok("environment_create", json!({"from": "empty"}));
    let warnings = lent["warnings"].to_string();
    assert!(
        warnings.contains("NO_SUCH is not set") && warnings.contains("api.example.org"),
        "{warnings}"
    );
    let lent = agent.ok(
        "environment_create",
        json!({"from": "empty", "network": "none"}),
    );
    assert!(!lent["warnings"].to_string().contains("NO_SUCH"), "{lent}");
    agent.leave();
}
