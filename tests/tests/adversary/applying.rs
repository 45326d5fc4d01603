//! Bringing changes back: what an agent plants so that it acts outside, on the owner's next command, once it is applied.

use std::{
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::Path,
};

use envd_tests::{agent::Agent, daemon::until, requirement, sandbox::finish};
use serde_json::{Value, json};

use crate::ground::{Ground, SECRET, everyone, on, text};

/// Applies everything, which has to be refused, and gives the refused paths.
#[track_caller]
fn refused(agent: &mut Agent, environment: &str) -> Vec<String> {
    let answer = agent.ok("changes_apply", on(environment, json!({})));
    assert_eq!(answer["applied"], json!([]), "{answer}");
    let refused = answer["refused"].as_array().unwrap();
    let path = |entry: &Value| entry["path"].as_str().unwrap().to_owned();
    refused.iter().map(path).collect()
}

/// Gain: a file that the owner's programs obey, where there was none that could have been protected (CVE-2026-25725), or
/// whose parent is moved away, filled and moved back.
/// Must happen: refused by name with its rule; the rest can be applied without.
/// Guard: `Protected` (`agents/src/changes/protected`), judged by `agents/src/changes/apply/check.rs` on what would be there.
/// Seen to fail: with an empty list of rules.
#[test]
fn protected_files_that_were_not_there_and_parents_that_move() {
    for ground in everyone() {
        ground.write(".github/workflows/ci.yml", "on: push\n");
        ground.write(".claude/settings.json", "{}\n");
        let (mut agent, environment) = ground.agent();
        agent.run(
            &environment,
            "mv .github away; mkdir -p .github/workflows; echo evil > .github/workflows/ci.yml; rm -r away; \
             mv .claude gone; mkdir new; echo '{\"hooks\": 1}' > new/settings.json; mv new .claude; \
             mkdir .vscode .husky .git .ssh .CLAUDE; echo x | tee .vscode/tasks.json .husky/pre-commit .envrc .mcp.json \
             .bashrc CLAUDE.md .gitmodules .ssh/config .CLAUDE/settings.json .git/HEAD Jenkinsfile > /dev/null; \
             ln -s /tmp .cursor; mkdir sub; ln -s ../.github/workflows sub/link; echo fine > fine",
        );
        let refused = refused(&mut agent, &environment);
        for path in [
            ".github/workflows/ci.yml",
            ".claude/settings.json",
            ".vscode/tasks.json",
            ".husky/pre-commit",
            ".envrc",
            ".mcp.json",
            ".bashrc",
            "CLAUDE.md",
            ".gitmodules",
            ".ssh/config",
            ".CLAUDE/settings.json",
            "Jenkinsfile",
            ".cursor",
            "sub/link",
        ] {
            assert!(
                refused.iter().any(|named| named == path),
                "{path} is not in {refused:?}"
            );
        }
        let project = ground.project();
        assert_eq!(
            text(&project.join(".github/workflows/ci.yml")),
            "on: push\n"
        );
        for new in [".git", ".vscode", ".envrc", ".cursor", "fine"] {
            assert!(!project.join(new).exists(), "{new} as {}", ground.user);
        }
        let answer = agent.ok(
            "changes_apply",
            on(&environment, json!({"paths": ["fine"]})),
        );
        assert_eq!(answer["applied"], json!(["fine"]), "{answer}");
        agent.leave();
    }
}

/// Gain: the policy of the next session, by the section of `envd.toml` that says it.
/// Must happen: refused; the rest of the file can be changed.
/// Guard: `Judged::AgentSection` (`agents/src/changes/protected/content.rs`).
/// Seen to fail: with an empty list of rules.
#[test]
fn the_section_that_says_what_an_agent_may() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        agent.run(
            &environment,
            "printf '\\n[agent]\\nnetwork = [\"*.example.org\"]\\n' >> envd.toml",
        );
        assert_eq!(refused(&mut agent, &environment), ["envd.toml"]);
        agent.leave();
    }
}

fn git(ground: &Ground, words: &[&str]) -> String {
    let mut command = ground.command("git");
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@b")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@b")
        .args(words);
    finish(&mut command).ok().stdout
}

/// Gain: a program of the agent's choice, run by the owner's next `git status`: by a hook, `core.fsmonitor`, a filter, in the
/// repository, in a nested one, in a submodule, in one that is bare, by a `.git` that is a file.
/// Must happen: nothing of it comes into the project; the owner's git runs nothing.
/// Guard: `Protected` and the search for embedded repositories (`agents/src/changes/protected`).
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn repositories_hooks_monitors_and_filters() {
    if !requirement::program("git") {
        return;
    }
    for ground in everyone() {
        git(&ground, &["init", "--quiet", "."]);
        ground.write("file", "content\n");
        ground.write("nested/file", "content\n");
        ground.write(".gitignore", "envd.lock\n");
        git(&ground, &["add", "."]);
        git(&ground, &["commit", "--quiet", "-m", "first"]);
        let marker = ground.path("tmp").join("marker");
        let evil = format!("touch {}", marker.display());
        let settings = format!(
            "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = \"{evil}; false\"\n\thooksPath = evil\n\tworktree = ..\n\
             [filter \"evil\"]\n\tclean = \"{evil}; cat\"\n\tsmudge = \"{evil}; cat\"\n\
             [diff \"evil\"]\n\tcommand = \"{evil}\"\n"
        );
        let (mut agent, environment) = ground.agent();
        let write = |agent: &mut Agent, path: &str, content: &str| {
            let write = json!({"path": path, "content": content, "executable": true});
            agent.ok("file_write", on(&environment, write));
        };
        let script = format!("#!/bin/sh\n{evil}\n");
        for directory in [".git", "nested/.git", "sub/.git", "bare"] {
            write(&mut agent, &format!("{directory}/config"), &settings);
            write(
                &mut agent,
                &format!("{directory}/HEAD"),
                "ref: refs/heads/main\n",
            );
            write(&mut agent, &format!("{directory}/objects/x"), "");
            write(&mut agent, &format!("{directory}/refs/x"), "");
            for hook in [
                "post-index-change",
                "fsmonitor-watchman",
                "post-checkout",
                "pre-commit",
            ] {
                write(&mut agent, &format!("{directory}/hooks/{hook}"), &script);
                write(&mut agent, &format!("evil/{hook}"), &script);
            }
        }
        write(&mut agent, "file2/.git", "gitdir: ../bare\n");
        write(&mut agent, ".gitattributes", "* filter=evil diff=evil\n");
        write(
            &mut agent,
            "nested/.gitattributes",
            "* filter=evil diff=evil\n",
        );
        write(
            &mut agent,
            ".gitmodules",
            "[submodule \"x\"]\n\tpath = sub\n\turl = ext::sh -c evil\n\tupdate = !evil\n",
        );
        agent.run(
            &environment,
            "echo changed > file; echo changed > nested/file",
        );
        let refused = refused(&mut agent, &environment);
        for path in [".gitattributes", "nested/.gitattributes", ".gitmodules"] {
            assert!(
                refused.iter().any(|named| named == path),
                "{path} is not in {refused:?}"
            );
        }
        // What is not refused, path by path, as an agent would that tries its luck.
        for path in [
            "file",
            "nested",
            "sub",
            "bare",
            "file2",
            "evil",
            ".git",
            ".git/config",
            ".git/hooks",
            "nested/.git",
            "bare/config",
            "bare/HEAD",
            "bare/objects",
            "bare/refs",
            "bare/hooks",
            ".gitattributes",
            "nested/file",
        ] {
            agent.call("changes_apply", on(&environment, json!({"paths": [path]})));
        }
        agent.leave();
        assert_eq!(text(&ground.project().join("file")), "changed\n");
        let status = git(&ground, &["status", "--porcelain"]);
        assert!(status.contains("M file"), "{status}");
        git(&ground, &["diff"]);
        git(&ground, &["add", "file"]);
        git(&ground, &["commit", "--quiet", "-m", "second"]);
        for inner in ["nested", "sub", "bare", "file2"] {
            if ground.project().join(inner).is_dir() {
                git(&ground, &["-C", inner, "status", "--porcelain"]);
            }
        }
        assert!(
            !marker.exists(),
            "as {}: the owner's git ran what the agent planted",
            ground.user
        );
    }
}

/// Gain: the owner's git run by envd itself on what a hostile repository says, when a session begins or changes are merged.
/// Must happen: the repository's settings run nothing.
/// Guard: `command` in `agents/src/changes/git.rs`.
/// Seen to fail: with git as it is: an object that is not there is fetched, by a program of the repository's choice.
#[test]
fn git_as_envd_runs_it() {
    if !requirement::program("git") {
        return;
    }
    for ground in everyone() {
        git(&ground, &["init", "--quiet", "."]);
        ground.write("file", "one\ntwo\nthree\nfour\nfive\n");
        ground.write("promised", "one\n");
        git(&ground, &["add", "file", "promised"]);
        git(&ground, &["commit", "--quiet", "-m", "first"]);
        // An object that is not there is asked of the remote repository, by whatever program the settings name for that.
        let object = git(&ground, &["rev-parse", "HEAD:promised"]);
        let (above, name) = object.trim().split_at(2);
        let object = format!(".git/objects/{above}/{name}");
        std::fs::remove_file(ground.project().join(object)).unwrap();
        let marker = ground.path("tmp").join("marker");
        let evil = format!("touch {}", marker.display());
        for setting in [
            "core.fsmonitor",
            "core.sshCommand",
            "core.pager",
            "core.alternateRefsCommand",
            "filter.evil.smudge",
            "filter.evil.clean",
            "diff.evil.textconv",
        ] {
            git(&ground, &["config", setting, &evil]);
        }
        git(&ground, &["config", "extensions.partialClone", "origin"]);
        git(
            &ground,
            &[
                "config",
                "remote.origin.url",
                &format!("ext::sh -c {}", evil.replace(' ', "% ")),
            ],
        );
        git(&ground, &["config", "remote.origin.promisor", "true"]);
        git(&ground, &["config", "protocol.ext.allow", "always"]);
        let (mut agent, environment) = ground.agent();
        let work = "sed -i s/one/ONE/ file promised; echo x > unknown";
        agent.run(&environment, work);
        ground.write("file", "one\ntwo\nthree\nfour\nFIVE\n");
        ground.write("promised", "two\n");
        ground.write("unknown", "y\n");
        agent.ok(
            "changes_apply",
            on(&environment, json!({"paths": ["promised"]})),
        );
        agent.ok(
            "changes_apply",
            on(&environment, json!({"paths": ["file"]})),
        );
        agent.ok(
            "changes_apply",
            on(&environment, json!({"paths": ["unknown"]})),
        );
        agent.ok("changes_apply", on(&environment, json!({})));
        agent.leave();
        assert!(
            !marker.exists(),
            "as {}: a setting of the repository ran",
            ground.user
        );
    }
}

/// Gain: a set-user-ID program, a FIFO that stops the owner, a device, a link to the owner's keys, a file that is another one
/// outside by a second name.
/// Must happen: each is told by `changes_diff` and refused by `changes_apply`; what has two names is replaced, not written to.
/// Guard: `agents/src/changes/apply/check.rs` (`unfit`), `stage.rs` and `commit.rs`, which make new files and rename them.
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn special_files_set_user_id_and_links_that_lead_out() {
    for ground in everyone() {
        let secret = ground.secret("secret");
        std::fs::hard_link(&secret, ground.project().join("hard")).unwrap();
        ground.hand_over();
        let (mut agent, environment) = ground.agent();
        let out = secret.display();
        agent.run(
            &environment,
            &format!(
                "cp /usr/bin/attacker suid; chmod 4755 suid; cp suid sgid; chmod 2755 sgid; mkfifo fifo; \
                 ln -s {out} absolute; ln -s ../secret relative; mkdir -p a/b; ln -s ../../../secret a/b/deep; \
                 ln -s /proc/self/environ magic; ln -s a/b/../../../secret zigzag; echo written > hard"
            ),
        );
        let diff = agent.ok("changes_diff", on(&environment, json!({})));
        let shown = diff["diff"]["head"].as_str().unwrap();
        assert!(
            !shown.contains(SECRET.trim_end()) || shown.contains("hard"),
            "{shown}"
        );
        let refused = refused(&mut agent, &environment);
        for path in [
            "suid", "sgid", "fifo", "absolute", "relative", "a/b/deep", "magic", "zigzag",
        ] {
            assert!(
                refused.iter().any(|named| named == path),
                "{path} is not in {refused:?}"
            );
            agent.call("changes_apply", on(&environment, json!({"paths": [path]})));
            let met = ground.project().join(path).symlink_metadata();
            assert!(met.is_err(), "{path} as {}", ground.user);
        }
        let answer = agent.ok(
            "changes_apply",
            on(&environment, json!({"paths": ["hard"]})),
        );
        assert_eq!(answer["applied"], json!(["hard"]), "{answer}");
        assert_eq!(
            text(&secret),
            SECRET,
            "as {}: written through a second name",
            ground.user
        );
        assert_eq!(text(&ground.project().join("hard")), "written\n");
        agent.leave();
    }
}

/// Gain: files outside the project, written or removed by envd because something on the way to them is a link or a FIFO by now:
/// in the project, as the owner's own build may leave them.
/// Must happen: nothing outside changes; the path is refused or replaced.
/// Guard: `agents/src/changes/beneath.rs`: descriptors, openat2(2) without links.
/// Seen to fail: with `as_it_was` left out: the FIFO is replaced; for `beneath.rs` see the next case.
#[test]
fn links_and_fifos_on_the_way_in_the_project() {
    for ground in everyone() {
        let target = ground.secret("outside/target");
        let directory = target.parent().unwrap().to_owned();
        ground.write("dir/target", "project\n");
        ground.write("plain", "project\n");
        let (mut agent, environment) = ground.agent();
        agent.run(
            &environment,
            "echo inside > dir/target; echo new > dir/new; echo inside > plain; rm -f dir/gone",
        );
        // Meanwhile, outside.
        let project = ground.project();
        std::fs::remove_dir_all(project.join("dir")).unwrap();
        symlink(&directory, project.join("dir")).unwrap();
        std::fs::remove_file(project.join("plain")).unwrap();
        nix::unistd::mkfifo(
            &project.join("plain"),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        agent.ok("changes_diff", on(&environment, json!({})));
        for paths in [
            json!([]),
            json!(["dir"]),
            json!(["dir/target"]),
            json!(["dir/new"]),
            json!(["plain"]),
        ] {
            agent.call("changes_apply", on(&environment, json!({"paths": paths})));
        }
        assert_eq!(text(&target), SECRET, "as {}", ground.user);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        assert!(
            project
                .join("plain")
                .symlink_metadata()
                .unwrap()
                .file_type()
                .is_fifo()
        );
        agent.leave();
    }
}

/// Gain: files outside the project, written or removed in the moment between the judgement of a path and going it, in which a
/// directory on the way becomes a link: by whatever the owner's own build does in the project meanwhile.
/// Must happen: whatever is swapped, nothing outside changes.
/// Guard: `agents/src/changes/beneath.rs`: descriptors, openat2(2) without links.
/// Seen to fail: with `RESOLVE` empty and links followed: written outside, in three of four runs.
#[test]
fn links_swapped_in_the_project_while_changes_are_applied() {
    for ground in everyone() {
        let target = ground.secret("outside/target");
        ground.secret("outside/gone");
        let directory = target.parent().unwrap().to_owned();
        ground.write("real/target", "project\n");
        ground.write("real/gone", "project\n");
        let (mut agent, environment) = ground.agent();
        agent.run(&environment, "echo inside > real/target; rm real/gone");
        let mut swapping = ground
            .command(ground.attacker())
            .arg(format!("swap={}", directory.display()))
            .current_dir(ground.project())
            .process_group(0)
            .spawn()
            .unwrap();
        until("the first link", || {
            ["real", "link"]
                .iter()
                .any(|name| ground.project().join(name).is_symlink())
        });
        for round in 0..150 {
            // Something new each time: what is applied is no change any more.
            let write = json!({"path": format!("real/new{round}"), "content": "inside\n"});
            agent.call("file_write", on(&environment, write));
            agent.call("changes_apply", on(&environment, json!({})));
        }
        let group = nix::unistd::Pid::from_raw(swapping.id().cast_signed());
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
        swapping.wait().unwrap();
        for name in ["target", "gone"] {
            assert_eq!(text(&directory.join(name)), SECRET, "as {}", ground.user);
        }
        let count = std::fs::read_dir(&directory).unwrap().count();
        assert_eq!(count, 2, "as {}: something was put outside", ground.user);
        agent.leave();
    }
}

/// Gain: names that are something else to whoever shows or uses them: options, escape sequences, climbing, a zero byte's worth of
/// confusion; whiteouts that remove what was not chosen.
/// Must happen: names come out quoted and go back in as they are; deletions are changes like others, and only what was chosen goes.
/// Guard: `agents/src/changes/escape.rs`, `TreePath`.
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn hostile_names_and_deletions() {
    for ground in everyone() {
        ground.write("keep/one", "1\n");
        ground.write("keep/two", "2\n");
        ground.write("gone", "3\n");
        let (mut agent, environment) = ground.agent();
        agent.run(
            &environment,
            "rm -r keep gone; mkdir keep; \
             touch -- '-rf' \"$(printf 'a\\033[2Jb')\" \"$(printf 'new\\nline')\" \"$(printf '\\377bytes')\" 'space ' '\"quoted\"' \
             '$(touch x)' 'b:c' \"$(printf '\\342\\200\\256txt')\"; mkdir -- '...'; touch -- '.../x'",
        );
        let diff = agent.ok("changes_diff", on(&environment, json!({})));
        let paths: Vec<String> = diff["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["path"].as_str().unwrap().to_owned())
            .collect();
        let strange = |c: char| c.is_control() || c == '\u{202e}';
        for shown in paths
            .iter()
            .map(String::as_str)
            .chain([diff["diff"]["head"].as_str().unwrap()])
        {
            let found: Vec<char> = shown
                .chars()
                .filter(|c| strange(*c) && *c != '\n' && *c != '\t')
                .collect();
            assert!(found.is_empty(), "{found:?} in {shown:?}");
        }
        assert!(paths.iter().any(|path| path.starts_with('"')), "{paths:?}");
        let answer = agent.ok(
            "changes_apply",
            on(&environment, json!({"paths": ["gone"]})),
        );
        assert_eq!(answer["applied"], json!(["gone"]), "{answer}");
        let project = ground.project();
        assert_eq!(text(&project.join("keep/one")), "1\n");
        assert!(!project.join("gone").exists());
        agent.ok("changes_apply", on(&environment, json!({})));
        assert!(!Path::new("/tmp/x").exists());
        agent.leave();
    }
}

/// Gain: files of the agent's making that run with root's number, found in the store by another user of the machine.
/// Must happen: whatever modes are set inside, the directories of the layers are their owner's alone.
/// Guard: `Owned::make` (`envd/src/agents/layers.rs`), the store's place.
/// Seen to fail: with its guards taken out together; see `CASES.md`.
#[test]
fn layers_are_closed_to_other_users() {
    for ground in everyone() {
        let (mut agent, environment) = ground.agent();
        agent.run(
            &environment,
            "cp /usr/bin/attacker suid; chmod 6777 suid; chmod 777 . ~ /tmp",
        );
        let place = std::fs::read_dir(ground.store().join("tmp"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let mut closed = place.metadata().unwrap().permissions().mode() & 0o077 == 0;
        let layers: Vec<_> = std::fs::read_dir(place.path().join("layers"))
            .unwrap()
            .flatten()
            .collect();
        // Three of its own, and those of one that is made ahead.
        assert!(layers.len() >= 3, "{layers:?}");
        closed |= layers
            .iter()
            .all(|layer| layer.metadata().unwrap().mode() & 0o077 == 0);
        assert!(closed, "as {}", ground.user);
        agent.leave();
    }
}
