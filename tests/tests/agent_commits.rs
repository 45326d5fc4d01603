//! `envd agent apply --git`: commits made inside come to the project's repository as objects and a branch, and whatever else the
//! inside has made of its `.git` comes to nothing.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use envd_tests::{
    daemon::Daemon,
    git::{command, git, make_repository},
    leftovers::Watch,
    requirement,
    sandbox::{Sandbox, conclude, finish},
    session::{agent, everyone, sh},
    world::World,
};
use serde_json::Value;

fn world() -> Option<World> {
    match requirement::program("git") && requirement::program("tar") {
        true => World::small(),
        false => None,
    }
}

/// A project that is a repository with a commit, in an environment named `try`.
fn prepared(sandbox: &Sandbox) {
    sandbox.wants(&[]);
    sandbox.write("file", "one\n");
    let project = sandbox.project();
    make_repository(sandbox, &project, "first");
    // Locking writes a file, before anything is compared.
    agent(sandbox, &["create", "--name", "try"]).ok();
    git(sandbox, &project, &["add", "."]);
    git(sandbox, &project, &["commit", "--quiet", "-m", "lock"]);
}

/// What `work` makes of a clone's `.git` becomes the environment's, as if git had been run inside.
fn inside(sandbox: &Sandbox, work: impl FnOnce(&Path)) {
    let clone = sandbox.path("clone");
    let _ = std::fs::remove_dir_all(&clone);
    let project = sandbox.project();
    let mut copy = sandbox.command("cp");
    copy.arg("-a").arg(&project).arg(&clone);
    finish(&mut copy).ok();
    work(&clone);
    sandbox.hand_over();
    let mut tar = sandbox
        .command("tar")
        .arg("-C")
        .arg(&clone)
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = "rm -rf .[!.]* *; tar -xf -";
    let child = sandbox
        .envd_command(&["agent", "run", "try", "--", "sh", "-c", line])
        .stdin(tar.stdout.take().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    conclude(child).ok();
    assert!(tar.wait().unwrap().success());
    std::fs::remove_dir_all(&clone).unwrap();
}

/// A commit of a changed file.
fn commit(sandbox: &Sandbox, clone: &Path, text: &str) {
    std::fs::write(clone.join("file"), text).unwrap();
    sandbox.hand_over();
    git(sandbox, clone, &["commit", "--quiet", "-am", text.trim()]);
}

/// All files of the host's repository but objects, with their contents.
fn state(sandbox: &Sandbox) -> BTreeMap<PathBuf, Vec<u8>> {
    envd_tests::git::state(&sandbox.project().join(".git"))
}

fn branches(sandbox: &Sandbox) -> String {
    let format = ["for-each-ref", "--format=%(refname)"];
    git(sandbox, &sandbox.project(), &format)
}

#[test]
fn commits_come_as_a_branch_and_nothing_else() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let daemon = Daemon::of(&sandbox);
        prepared(&sandbox);
        let project = sandbox.project();
        // A hook of the owner that would be run by whoever moves a branch carelessly.
        let marker = sandbox.path("marker");
        let hook = project.join(".git/hooks/reference-transaction");
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        let script = format!("#!/bin/sh\necho hook >> {}\n", marker.display());
        std::fs::write(&hook, script).unwrap();
        envd_tests::sandbox::set_mode(&hook, 0o755);
        sandbox.hand_over();
        let before = state(&sandbox);

        inside(&sandbox, |clone| {
            let _ = std::fs::remove_file(clone.join(".git/hooks/reference-transaction"));
            git(&sandbox, clone, &["checkout", "--quiet", "-b", "work"]);
            commit(&sandbox, clone, "two\n");
            commit(&sandbox, clone, "three\n");
        });
        let dry = agent(
            &sandbox,
            &["--json", "apply", "try", "--commits-only", "--dry-run"],
        )
        .ok();
        let dry: Value = serde_json::from_str(&dry.stdout).unwrap();
        assert_eq!(dry["commits"].as_array().unwrap().len(), 2, "{dry}");
        assert_eq!(state(&sandbox), before, "a dry run");

        let applied = agent(&sandbox, &["--json", "apply", "try", "--commits-only"]).ok();
        let applied: Value = serde_json::from_str(&applied.stdout).unwrap();
        assert_eq!(applied["branch"], "envd/try", "{applied}");
        assert_eq!(
            (&applied["commits"], &applied["applied"]),
            (&dry["commits"], &Value::Array(Vec::new()))
        );
        let log = git(&sandbox, &project, &["log", "--format=%s", "envd/try"]);
        assert_eq!(log, "three\ntwo\nlock\nfirst");
        assert_eq!(git(&sandbox, &project, &["show", "envd/try:file"]), "three");
        let tip = git(&sandbox, &project, &["rev-parse", "envd/try"]);
        assert_eq!(applied["commits"][1], Value::from(tip));
        git(&sandbox, &project, &["fsck", "--strict", "--no-dangling"]);
        // One branch and its log are all that is new.
        let after = state(&sandbox);
        for (path, content) in &before {
            assert_eq!(after.get(path), Some(content), "{}", path.display());
        }
        let new: Vec<_> = after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .collect();
        assert!(
            new.iter().all(|path| path.ends_with("heads/envd/try")),
            "{new:?}"
        );
        assert!(!marker.exists(), "a hook was run");
        assert_eq!(
            std::fs::read_to_string(project.join("file")).unwrap(),
            "one\n"
        );
        std::fs::remove_file(&hook).unwrap();

        // Once more brings nothing; what comes after comes after.
        let again = agent(&sandbox, &["--json", "apply", "try", "--commits-only"]).ok();
        let again: Value = serde_json::from_str(&again.stdout).unwrap();
        assert_eq!(
            again["commits"].as_array().map_or(0, Vec::len),
            0,
            "{again}"
        );
        inside(&sandbox, |clone| {
            git(
                &sandbox,
                clone,
                &["checkout", "--quiet", "-B", "work", "envd/try"],
            );
            git(&sandbox, clone, &["reset", "--quiet", "--hard"]);
            commit(&sandbox, clone, "four\n");
            // However git keeps its objects and references.
            git(&sandbox, clone, &["gc", "--quiet"]);
        });
        agent(&sandbox, &["apply", "try", "--git"]).ok();
        assert_eq!(git(&sandbox, &project, &["show", "envd/try:file"]), "four");
        assert_eq!(
            std::fs::read_to_string(project.join("file")).unwrap(),
            "four\n",
            "--git brings both"
        );
        git(&sandbox, &project, &["checkout", "--quiet", "--", "file"]);

        // What the owner has done with the branch is not undone.
        inside(&sandbox, |clone| {
            git(
                &sandbox,
                clone,
                &["checkout", "--quiet", "-B", "other", "main"],
            );
            commit(&sandbox, clone, "five\n");
        });
        agent(&sandbox, &["apply", "try", "--commits-only"])
            .code(2)
            .says(&["envd/try", "has commits"]);
        agent(
            &sandbox,
            &["apply", "try", "--commits-only", "--branch", "other"],
        )
        .ok();
        assert_eq!(
            git(&sandbox, &project, &["show", "envd/other:file"]),
            "five"
        );
        git(&sandbox, &project, &["checkout", "--quiet", "envd/other"]);
        inside(&sandbox, |clone| commit(&sandbox, clone, "six\n"));
        agent(
            &sandbox,
            &["apply", "try", "--commits-only", "--branch", "other"],
        )
        .code(2)
        .says(&["checked out"]);
        for name in ["../main", "a..b", "x.lock", "-x", "a b"] {
            let branch = format!("--branch={name}");
            agent(&sandbox, &["apply", "try", "--commits-only", &branch]).code(2);
        }
        // Files that cannot be applied hold the commits up, too.
        std::fs::write(project.join("file"), "mine\n").unwrap();
        sandbox.hand_over();
        let there = branches(&sandbox);
        agent(&sandbox, &["apply", "try", "--git", "--branch", "new"]).code(1);
        assert_eq!(branches(&sandbox), there);
        drop(daemon);
    }
}

#[test]
fn a_project_without_a_repository_has_no_commits() {
    let Some(world) = world() else { return };
    let sandbox = world.another();
    let _daemon = Daemon::of(&sandbox);
    sandbox.wants(&[]);
    agent(&sandbox, &["create", "--name", "try"]).ok();
    agent(&sandbox, &["apply", "try", "--commits-only"])
        .code(2)
        .says(&["not the top of a git repository"]);
    // One that an agent has made inside is not the project's.
    sh(
        &sandbox,
        "try",
        "mkdir -p .git/objects .git/refs; echo 'ref: refs/heads/main' > .git/HEAD",
    );
    agent(&sandbox, &["apply", "try", "--commits-only"]).code(2);
    assert!(!sandbox.project().join(".git").exists());
}

/// An attacker would have git run a program of theirs, or take the owner's other files for objects.
#[test]
fn a_hostile_repository_comes_to_nothing() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let daemon = Daemon::of(&sandbox);
        prepared(&sandbox);
        let project = sandbox.project();
        let marker = sandbox.path("marker");
        let before = state(&sandbox);
        // Another repository of the owner, with something that the project does not have.
        let secret = sandbox.path("secret");
        std::fs::create_dir(&secret).unwrap();
        sandbox.hand_over();
        git(&sandbox, &secret, &["init", "--quiet"]);
        std::fs::write(secret.join("key"), "SECRET\n").unwrap();
        sandbox.hand_over();
        git(&sandbox, &secret, &["add", "."]);
        git(&sandbox, &secret, &["commit", "--quiet", "-m", "secret"]);
        let tip = git(&sandbox, &secret, &["rev-parse", "HEAD"]);
        let objects = secret.join(".git/objects");
        let objects = objects.display();

        let refused = |what: &str, line: &str| {
            // Each begins with a sound repository inside.
            inside(&sandbox, |clone| {
                git(&sandbox, clone, &["checkout", "--quiet", "-B", "work"]);
                commit(&sandbox, clone, "two\n");
            });
            sh(&sandbox, "try", line);
            let outcome = agent(&sandbox, &["apply", "try", "--commits-only"]);
            assert!(!outcome.status.success(), "{what}\n{outcome}");
            outcome.fails();
            assert_eq!(state(&sandbox), before, "{what}");
            let there = finish(&mut command(&sandbox, &project, &["cat-file", "-e", &tip]));
            assert!(!there.status.success(), "{what}: the secret has come over");
            assert!(!marker.exists(), "{what}");
        };
        let head = format!("echo {tip} > .git/HEAD");
        refused(
            "objects that are a link",
            &format!("{head}; rm -r .git/objects; ln -s {objects} .git/objects"),
        );
        refused(
            "alternates that lead outside",
            &format!(
                "{head}; mkdir -p .git/objects/info; echo {objects} > .git/objects/info/alternates"
            ),
        );
        refused(
            "a file that says where the repository is",
            &format!(
                "rm -r .git; echo 'gitdir: {}/.git' > .git",
                secret.display()
            ),
        );
        refused(
            "a link to another repository",
            &format!("rm -r .git; ln -s {}/.git .git", secret.display()),
        );
        refused(
            "a directory of objects that is a link",
            &format!(
                "{head}; rm -rf .git/objects/{0}; ln -s {objects}/{0} .git/objects/{0}",
                &tip[..2]
            ),
        );
        refused("a HEAD that is none", "echo nonsense > .git/HEAD");
        refused(
            "a HEAD that leads out",
            "echo 'ref: refs/../../../../etc/passwd' > .git/HEAD",
        );
        refused(
            "a HEAD that waits for ever",
            "rm .git/HEAD; mkfifo .git/HEAD",
        );
        refused(
            "a HEAD of another kind",
            "echo 'ref: refs/heads/x' > .git/HEAD; mkdir -p .git/refs/heads/x",
        );
        refused(
            "an object that is another one",
            "o=$(cat .git/refs/heads/work); f=.git/objects/$(echo $o | cut -c1-2)/$(echo $o | cut -c3-); \
             o=$(ls -d .git/objects/??/* | grep -v $f | head -1); chmod u+w $f; cat $o > $f",
        );
        refused(
            "an object that is broken",
            "for f in .git/objects/??/*; do chmod u+w $f; echo x >> $f; echo > $f; done",
        );
        refused("objects that are not there", "rm -rf .git/objects/??");
        refused(
            "a pack that is none",
            "mkdir -p .git/objects/pack; echo x > .git/objects/pack/pack-0123456789012345678901234567890123456789.pack",
        );

        // Configuration, hooks and attributes inside are the inside's alone.
        inside(&sandbox, |clone| {
            git(&sandbox, clone, &["checkout", "--quiet", "-B", "work"]);
            std::fs::write(clone.join(".gitattributes"), "* filter=evil diff=evil\n").unwrap();
            sandbox.hand_over();
            git(&sandbox, clone, &["add", "."]);
            commit(&sandbox, clone, "two\n");
            let evil = format!("touch {}", marker.display());
            for name in [
                "core.fsmonitor",
                "core.sshCommand",
                "core.alternateRefsCommand",
                "core.pager",
                "filter.evil.clean",
                "filter.evil.smudge",
                "diff.evil.textconv",
                "gpg.program",
                "uploadpack.packObjectsHook",
            ] {
                git(&sandbox, clone, &["config", name, &evil]);
            }
            git(&sandbox, clone, &["config", "core.hooksPath", ".git/hooks"]);
            let hook = clone.join(".git/hooks/reference-transaction");
            std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
            std::fs::write(&hook, format!("#!/bin/sh\n{evil}\n")).unwrap();
            envd_tests::sandbox::set_mode(&hook, 0o755);
            let _ = std::fs::remove_file(&marker);
        });
        agent(&sandbox, &["apply", "try", "--commits-only"]).ok();
        assert!(!marker.exists(), "something of the inside was run");
        assert_eq!(git(&sandbox, &project, &["show", "envd/try:file"]), "two");
        let after = state(&sandbox);
        for (path, content) in &before {
            assert_eq!(after.get(path), Some(content), "{}", path.display());
        }
        drop(daemon);
    }
}

/// A tree with `.git/config` in it writes one wherever it is checked out by a git that does not look.
#[test]
fn a_tree_that_no_git_should_check_out_is_refused() {
    let Some(world) = world() else { return };
    let sandbox = world.another();
    let watch = Watch::start(&sandbox);
    let daemon = Daemon::of(&sandbox);
    prepared(&sandbox);
    for name in [".git", "..", ".GIT", "git~1"] {
        let before = state(&sandbox);
        inside(&sandbox, |clone| {
            git(&sandbox, clone, &["checkout", "--quiet", "-B", "work"]);
            let blob = git(&sandbox, clone, &["hash-object", "-w", "file"]);
            let entry = format!("100644 blob {blob}\tconfig\n");
            let subtree = make_tree(&sandbox, clone, &entry);
            let tree = make_tree(&sandbox, clone, &format!("040000 tree {subtree}\t{name}\n"));
            let made = git(
                &sandbox,
                clone,
                &["commit-tree", "-p", "HEAD", "-m", "evil", &tree],
            );
            git(&sandbox, clone, &["update-ref", "refs/heads/work", &made]);
        });
        let outcome = agent(&sandbox, &["apply", "try", "--commits-only"]);
        outcome.fails().says(&["index-pack"]);
        assert_eq!(state(&sandbox), before, "{name}");
    }
    drop(daemon);
    std::fs::remove_dir_all(sandbox.path("run").join("envd")).unwrap_or_default();
    watch.assert_nothing_left();
}

fn make_tree(sandbox: &Sandbox, clone: &Path, entries: &str) -> String {
    use std::io::Write as _;
    let mut child = command(sandbox, clone, &["mktree"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(entries.as_bytes())
        .unwrap();
    conclude(child).ok().stdout.trim_end().to_owned()
}
