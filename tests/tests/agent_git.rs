//! Git inside an environment: commits in a linked work tree and in work trees that are made inside, and what of them comes to the
//! host's repository.

use std::fs;

use envd_tests::{
    agent::Agent,
    git::{Project, command, count, git, identity, only_a_branch_is_new, plant, state, world},
    sandbox::finish,
    session::everyone,
};
use serde_json::{Value, json};

/// A user would lose their agent's work in the layout that agents are given most, or find it in all their work trees at once.
#[test]
fn a_linked_work_tree_has_a_repository_of_its_own_to_write_to() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let main = Project::repository(&sandbox);
        let tree = main.linked(sandbox.path("tree"));
        let repository = main.path.join(".git");
        let marker = sandbox.path("marker");
        let before = state(&repository);
        tree.agent(&["create", "--name", "try"]).ok();
        assert_eq!(tree.sh("try", "git status --porcelain"), "");
        assert_eq!(tree.sh("try", "git log --format=%s"), "first\n");
        tree.sh(
            "try",
            "echo two > file; git commit -qam two; git branch side; git worktree add -q /tmp/more side; \
             cd /tmp/more; echo side > file; git commit -qam side",
        );
        // Nothing of that is a change of the project but the file.
        let diff = tree.agent(&["--json", "diff", "try"]).ok();
        let diff: Value = serde_json::from_str(&diff.stdout).unwrap();
        let paths: Vec<_> = diff["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["file"], "{diff}");
        assert_eq!(state(&repository), before, "of one session only");

        // It is forked, frozen and put back with everything else.
        tree.agent(&["snapshot", "try", "--name", "two"]).ok();
        tree.agent(&["fork", "try", "--name", "fork"]).ok();
        tree.sh("fork", "echo fork > file; git commit -qam fork");
        let log = "git log --format=%s";
        assert_eq!(tree.sh("fork", log), "fork\ntwo\nfirst\n");
        assert_eq!(tree.sh("try", log), "two\nfirst\n");
        tree.sh("try", "git reset -q --hard HEAD^");
        assert_eq!(tree.sh("try", log), "first\n");
        tree.agent(&["restore", "try", "two"]).ok();
        assert_eq!(tree.sh("try", log), "two\nfirst\n");
        assert_eq!(
            tree.sh("try", "git log --format=%s side"),
            "side\ntwo\nfirst\n"
        );

        // Commits come, and nothing of what else was made of the repository.
        tree.sh(
            "try",
            &format!("c=$(git rev-parse --git-common-dir); {}", plant(&marker)),
        );
        let dry = tree.applied(&["try", "--git", "--dry-run"]);
        assert_eq!(
            (count(&dry["commits"]), count(&dry["applied"])),
            (1, 1),
            "{dry}"
        );
        assert_eq!(state(&repository), before, "a dry run");
        let applied = tree.applied(&["try", "--git"]);
        assert_eq!(applied["branch"], "envd/try", "{applied}");
        assert_eq!(applied["commits"], dry["commits"]);
        only_a_branch_is_new(&before, &repository, "heads/envd/try");
        assert_eq!(main.git(&["log", "--format=%s", "envd/try"]), "two\nfirst");
        assert_eq!(
            (tree.text("file"), main.text("file")),
            ("two\n".into(), "one\n".into())
        );
        main.git(&["fsck", "--strict", "--no-dangling"]);
        tree.runs_nothing(&marker);
        main.runs_nothing(&marker);

        // What comes after comes after, however git keeps it.
        tree.sh(
            "try",
            "c=$(git rev-parse --git-common-dir); rm -r $c/hooks $c/info/attributes; git config --unset core.fsmonitor; \
             git config --worktree --unset diff.external; \
             echo three > file; git commit -qam three; git pack-refs --all; git repack -q -a -d",
        );
        tree.applied(&["try", "--commits-only"]);
        let log = main.git(&["log", "--format=%s", "envd/try"]);
        assert_eq!(log, "three\ntwo\nfirst");
        assert_eq!(tree.text("file"), "two\n");
        // A work tree of the owner's that has the branch checked out keeps it.
        main.git(&["checkout", "--quiet", "envd/try"]);
        tree.sh("try", "echo four > file; git commit -qam four");
        tree.agent(&["apply", "try", "--commits-only"])
            .code(2)
            .says(&["checked out"]);
        tree.agent(&["rm", "--all"]).ok();
    }
}

/// What gives an environment more packages launches it anew.
#[test]
fn a_linked_work_tree_keeps_its_commits_when_packages_are_added() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let main = Project::repository(&sandbox);
        let tree = main.linked(sandbox.path("tree"));
        let path = tree.path.to_str().unwrap();
        let options = ["--project", path, "agent", "mcp"];
        let mut agent = Agent::by(&mut sandbox.envd_command(&options));
        let environment = agent.create(json!({}));
        let line = format!("{}echo two > file; git commit -qam two", identity());
        agent.run(&environment, &line);
        let add = json!({"environment": environment, "packages": ["hello"]});
        agent.ok("package_add", add);
        let seen = agent.run(
            &environment,
            "hello; git log --format=%s; git status --porcelain",
        );
        assert_eq!(seen, "Hello, world! 1.0\ntwo\nfirst\n");
        agent.leave();
    }
}

/// What is written there counts: else a disk could be filled in it.
#[test]
fn a_repository_of_a_linked_work_tree_counts_in_the_quota() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let main = Project::repository(&sandbox);
        let tree = main.linked(sandbox.path("tree"));
        let options = ["--project", tree.path.to_str().unwrap(), "agent", "mcp"];
        let mut agent = Agent::by(&mut sandbox.envd_command(&options));
        let environment = agent.create(json!({"limits": {"disk_bytes": 64 << 20}}));
        let bomb = "cd $(git rev-parse --git-common-dir)/objects; i=0; \
                    while :; do head -c 1000000 /dev/zero > $i; i=$((i+1)); done";
        let run = json!({"environment": environment, "command": ["sh", "-c", bomb]});
        let ended = agent.ok("command_run", run);
        assert_eq!(ended["state"], "out_of_space", "{ended}");
        let objects = main.path.join(".git/objects");
        assert!(!objects.join("0").exists());
        agent.leave();
    }
}

/// Where the repository lies beside the work tree's own place: in the home directory, and around the work tree.
#[test]
fn a_repository_is_seen_wherever_it_lies() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let main = Project::repository(&sandbox);
        let (home, bare) = (sandbox.path("home"), sandbox.path("bare.git"));
        for (directory, tree) in [
            (home.join("main.git"), home.join("tree")),
            (bare.clone(), bare.join("tree")),
        ] {
            let name = directory.to_str().unwrap();
            main.git(&["clone", "--quiet", "--bare", ".", name]);
            let there = Project::at(&sandbox, directory.clone());
            let tree = there.linked(tree);
            // No project: it is only where git runs.
            std::mem::forget(there);
            let before = state(&directory);
            // With files of envd's own in the home directory.
            let network = ["--allow-host", "example.org"];
            tree.agent(&[&["create", "--name", "try"][..], &network].concat())
                .ok();
            tree.sh(
                "try",
                "echo x > ~/note; echo x > /tmp/note; echo two > file; git commit -qam two",
            );
            tree.agent(&["fork", "try", "--name", "fork"]).ok();
            for name in ["fork", "try"] {
                let seen = tree.sh(
                    name,
                    "cat ~/note /tmp/note file; git log --format=%s; git status --porcelain",
                );
                assert_eq!(seen, "x\nx\ntwo\ntwo\nfirst\n");
            }
            tree.sh("fork", "echo three > file; git commit -qam three");
            assert_eq!(tree.sh("try", "git log --format=%s"), "two\nfirst\n");
            assert_eq!(state(&directory).len(), before.len());
            let applied = tree.applied(&["fork", "--commits-only"]);
            assert_eq!(count(&applied["commits"]), 2, "{applied}");
            only_a_branch_is_new(&before, &directory, "heads/envd/fork");
            tree.agent(&["rm", "--all"]).ok();
        }
    }
}

/// An attacker would have envd read the owner's other files, wait for ever, or take another repository for the project's.
#[test]
fn a_hostile_repository_of_a_linked_work_tree_comes_to_nothing() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let main = Project::repository(&sandbox);
        let tree = main.linked(sandbox.path("tree"));
        let repository = main.path.join(".git");
        // Another repository of the owner, with something that the project does not have.
        let secret = sandbox.path("secret");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("key"), "SECRET\n").unwrap();
        sandbox.hand_over();
        git(&sandbox, &secret, &["init", "--quiet"]);
        git(&sandbox, &secret, &["add", "."]);
        git(&sandbox, &secret, &["commit", "--quiet", "-m", "secret"]);
        let tip = git(&sandbox, &secret, &["rev-parse", "HEAD"]);
        let objects = secret.join(".git/objects");
        let before = state(&repository);
        let begun = |name: &str| {
            tree.agent(&["create", "--name", name]).ok();
            tree.sh(name, "echo two > file; git commit -qam two");
        };
        let (objects, secret) = (objects.display(), secret.display());
        let first = &tip[..2];
        for (what, line) in [
            (
                "objects that are a link",
                format!("echo {tip} > $a/HEAD; rm -r $c/objects; ln -s {objects} $c/objects"),
            ),
            (
                "objects that wait for ever",
                "rm -r $c/objects; mkfifo $c/objects".to_owned(),
            ),
            (
                "alternates that lead outside",
                format!(
                    "echo {tip} > $a/HEAD; mkdir -p $c/objects/info; echo {objects} > $c/objects/info/alternates"
                ),
            ),
            (
                "a directory of objects that is a link",
                format!(
                    "echo {tip} > $a/HEAD; rm -rf $c/objects/{first}; ln -s {objects}/{first} $c/objects/{first}"
                ),
            ),
            (
                "a HEAD that waits for ever",
                "rm $a/HEAD; mkfifo $a/HEAD".to_owned(),
            ),
            (
                "a HEAD that is a link out",
                format!("rm $a/HEAD; ln -s {secret}/.git/HEAD $a/HEAD"),
            ),
            (
                "a HEAD that is a directory",
                "rm $a/HEAD; mkdir $a/HEAD".to_owned(),
            ),
            (
                "a HEAD that leads out",
                "echo 'ref: refs/../../../../etc/passwd' > $a/HEAD".to_owned(),
            ),
            (
                "a HEAD with a hostile name",
                "printf 'ref: refs/heads/$(touch x)\\n--upload-pack=x\\n' > $a/HEAD".to_owned(),
            ),
            (
                "references that wait for ever",
                "git pack-refs --all; rm $c/packed-refs; mkfifo $c/packed-refs".to_owned(),
            ),
            (
                "references that are a link",
                format!(
                    "echo 'ref: refs/heads/tree' > $a/HEAD; rm -r $c/refs; ln -s {secret}/.git/refs $c/refs; rm -f $c/packed-refs"
                ),
            ),
            (
                "references in a reftable",
                "echo 'ref: refs/heads/.invalid' > $a/HEAD".to_owned(),
            ),
            ("no repository at all", "rm -rf $c/* || :".to_owned()),
            (
                "objects that are not there",
                "rm -rf $c/objects/??".to_owned(),
            ),
        ] {
            begun("try");
            tree.sh(
                "try",
                &format!(
                    "c=$(git rev-parse --git-common-dir); a=$(git rev-parse --git-dir); {line}"
                ),
            );
            let outcome = tree.agent(&["apply", "try", "--commits-only"]);
            assert!(!outcome.status.success(), "{what}\n{outcome}");
            outcome.fails();
            assert_eq!(state(&repository), before, "{what}");
            let there = finish(&mut command(
                &sandbox,
                &main.path,
                &["cat-file", "-e", &tip],
            ));
            assert!(!there.status.success(), "{what}: the secret has come over");
            tree.agent(&["rm", "try"]).ok();
        }
        begun("whole");
        // The files that say where the repository is are the owner's; what the inside makes of them leads nowhere, and holds up
        // nothing.
        tree.sh(
            "whole",
            &format!(
                "c=$(git rev-parse --git-common-dir); a=$(git rev-parse --git-dir); echo {secret}/.git > $a/commondir; \
                 echo /elsewhere/.git > $a/gitdir; echo 'gitdir: {secret}/.git' > .git; \
                 mkdir -p $c/worktrees/tree2; echo {tip} > $c/worktrees/tree2/HEAD"
            ),
        );
        let applied = tree.applied(&["whole", "--commits-only"]);
        assert_eq!(count(&applied["commits"]), 1, "{applied}");
        only_a_branch_is_new(&before, &repository, "heads/envd/whole");
        assert_eq!(main.git(&["show", "envd/whole:file"]), "two");

        // Nor is anything brought where the owner has linked the project to another repository since.
        let link = tree.text(".git");
        fs::write(tree.path.join(".git"), format!("gitdir: {secret}/.git\n")).unwrap();
        sandbox.hand_over();
        tree.agent(&["apply", "whole", "--commits-only"])
            .code(2)
            .says(&["not kept where it was when the environment began"]);
        fs::write(tree.path.join(".git"), link).unwrap();
        sandbox.hand_over();
        tree.agent(&["apply", "whole", "--commits-only"]).ok();
        tree.agent(&["rm", "--all"]).ok();
    }
}

/// A work tree that is made inside is the inside's own; its commits come when the project is at them.
#[test]
fn a_work_tree_that_is_made_inside_stays_there() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let project = Project::repository(&sandbox);
        let own = project.path.join(".git");
        let before = state(&own);
        project.agent(&["create", "--name", "try"]).ok();
        project.sh(
            "try",
            "for d in /tmp/more below; do git worktree add -q $d; (cd $d; echo $d > file; git commit -qam $d); done; \
             git worktree list",
        );
        // The files of the one that lies in the project are new files there; what makes it a work tree is git's own.
        project.applied(&["try"]);
        assert_eq!(project.text("below/file"), "below\n");
        assert!(!project.path.join("below/.git").exists());
        assert!(state(&own) == before, "something came");
        let none = project.applied(&["try", "--commits-only"]);
        assert_eq!(count(&none["commits"]), 0, "{none}");
        project.sh("try", "git merge -q more");
        let applied = project.applied(&["try", "--commits-only"]);
        assert_eq!(count(&applied["commits"]), 1, "{applied}");
        only_a_branch_is_new(&before, &own, "heads/envd/try");
        assert_eq!(project.git(&["worktree", "list"]).lines().count(), 1);
        project.agent(&["rm", "--all"]).ok();
    }
}

/// An attacker would have the owner's git run what they wrote into a file of the project that it runs already.
#[test]
fn what_the_owners_git_runs_in_the_project_is_not_changed_unasked() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let main = Project::repository(&sandbox);
        let global = sandbox.path("home").join(".gitconfig");
        fs::write(&global, "[core]\n\tfsmonitor = tools/watch\n").unwrap();
        main.git(&["config", "core.hooksPath", "tools/hooks"]);
        main.git(&["config", "filter.x.clean", "sh ./tools/clean %f"]);
        sandbox.hand_over();
        let tree = main.linked(sandbox.path("tree"));
        for project in [&main, &tree] {
            project.agent(&["create", "--name", "try"]).ok();
            project.sh(
                "try",
                "mkdir -p tools/hooks; for f in hooks/pre-commit clean watch other; do echo x > tools/$f; done",
            );
            let refused = project.agent(&["apply", "try"]).code(1);
            for path in ["tools/hooks/pre-commit", "tools/clean", "tools/watch"] {
                assert!(refused.stdout.contains(path), "{path}\n{refused}");
            }
            assert!(refused.stdout.contains("git-programs"), "{refused}");
            assert!(!project.path.join("tools").exists());
            project.agent(&["apply", "try", "tools/other"]).ok();
            project.agent(&["rm", "--all"]).ok();
        }
    }
}

/// A repository whose references envd does not read is refused by name.
#[test]
fn a_reftable_is_refused_by_name() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let project = Project::at(&sandbox, sandbox.project());
        let mut made = command(
            &sandbox,
            &project.path,
            &["init", "--quiet", "--ref-format=reftable"],
        );
        if !finish(&mut made).status.success() {
            eprintln!("skipped: needs a git that knows reftables");
            return;
        }
        sandbox.wants(&["git"]);
        project.git(&["add", "."]);
        project.git(&["commit", "--quiet", "-m", "first"]);
        project.agent(&["create", "--name", "try"]).ok();
        project.sh("try", "echo two > file; git add file; git commit -qm two");
        project
            .agent(&["apply", "try", "--commits-only"])
            .code(2)
            .says(&["reftable", "git refs migrate --ref-format=files"]);
        project.agent(&["rm", "--all"]).ok();
    }
}
