//! Submodules inside an environment: commits in them, and what of them comes to the host's repositories.

use std::{fs, path::Path};

use envd_tests::{
    agent::Agent,
    git::{Project, count, git, make_repository, plant, state, world},
    sandbox::Sandbox,
    session::everyone,
};
use serde_json::{Value, json};

/// A project with the submodule `lib`, checked out and absorbed; its commits come from `upstream`.
fn superproject(sandbox: &Sandbox) -> Project<'_> {
    let upstream = sandbox.path("upstream");
    fs::create_dir(&upstream).unwrap();
    fs::write(upstream.join("code"), "one\n").unwrap();
    sandbox.hand_over();
    make_repository(sandbox, &upstream, "library");
    let project = Project::repository(sandbox);
    add_submodule(&project, &upstream, "lib");
    project
}

/// `git submodule` with repositories of this machine, which it does not take unasked.
fn submodule(project: &Project<'_>, words: &[&str]) {
    let allow = ["-c", "protocol.file.allow=always", "submodule", "--quiet"];
    project.git(&[&allow, words].concat());
}

/// The submodule of a project as a project of its own.
fn library<'s>(sandbox: &'s Sandbox, above: &Project<'_>) -> Project<'s> {
    let library = Project::at(sandbox, above.path.join("lib"));
    for file in ["envd.toml", "envd.lock"] {
        fs::copy(above.path.join(file), library.path.join(file)).unwrap();
    }
    sandbox.hand_over();
    library
}

fn add_submodule(project: &Project<'_>, upstream: &Path, path: &str) {
    submodule(project, &["add", upstream.to_str().unwrap(), path]);
    project.git(&["commit", "--quiet", "-m", &format!("submodule {path}")]);
}

/// A user whose project has submodules would get a branch that leads to commits which nobody has.
#[test]
fn commits_of_submodules_come_with_those_that_record_them() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let project = superproject(&sandbox);
        let (own, module) = (
            project.path.join(".git"),
            project.path.join(".git/modules/lib"),
        );
        let marker = sandbox.path("marker");
        let before = state(&own);
        project.agent(&["create", "--name", "try"]).ok();
        assert_eq!(project.sh("try", "git status --porcelain"), "");
        let status = project.sh("try", "git submodule status");
        assert!(status.contains(" lib (heads/main)"), "{status}");
        // What is committed in the submodule and not recorded does not come.
        project.sh("try", "cd lib; echo two > code; git commit -qam two");
        let status = project.sh("try", "git submodule status; git status --porcelain");
        assert!(
            status.starts_with('+') && status.ends_with(" M lib\n"),
            "{status}"
        );
        let applied = project.applied(&["try", "--commits-only"]);
        assert_eq!(
            (count(&applied["commits"]), count(&applied["submodules"])),
            (0, 0),
            "{applied}"
        );
        assert!(state(&own) == before, "something came");

        project.sh(
            "try",
            "cd lib; echo three > code; git commit -qam three; cd ..; git commit -qam record",
        );
        for repository in [".", "lib"] {
            let planted = plant(&marker);
            project.sh(
                "try",
                &format!("cd {repository}; c=$(git rev-parse --git-common-dir); {planted}"),
            );
        }
        let dry = project.applied(&["try", "--git", "--dry-run"]);
        assert!(state(&own) == before, "a dry run");
        let applied = project.applied(&["try", "--git"]);
        assert_eq!(applied["submodules"], dry["submodules"]);
        let lib = &applied["submodules"][0];
        assert_eq!(
            (&lib["path"], &lib["branch"]),
            (&Value::from("lib"), &Value::from("envd/try")),
            "{applied}"
        );
        assert_eq!(
            (count(&applied["commits"]), count(&lib["commits"])),
            (1, 2),
            "{applied}"
        );
        assert_eq!(project.text("lib/code"), "three\n");
        let inside = project.path.join("lib");
        let log = git(&sandbox, &inside, &["log", "--format=%s", "envd/try"]);
        assert_eq!(log, "three\ntwo\nlibrary");
        let recorded = project.git(&["rev-parse", "envd/try:lib"]);
        assert_eq!(recorded, git(&sandbox, &inside, &["rev-parse", "envd/try"]));
        let after = state(&own);
        for (path, content) in &before {
            assert!(after.get(path) == Some(content), "{}", path.display());
        }
        let new: Vec<_> = after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .collect();
        assert!(
            new.iter().all(|path| path.ends_with("heads/envd/try")),
            "{new:?}"
        );
        git(&sandbox, &inside, &["fsck", "--strict", "--no-dangling"]);
        project.git(&["fsck", "--strict", "--no-dangling"]);
        project.runs_nothing(&marker);
        git(&sandbox, &inside, &["status"]);
        git(&sandbox, &inside, &["diff", "HEAD"]);
        assert!(!marker.exists());
        // The owner takes it as any branch.
        project.git(&["checkout", "--quiet", "--force", "envd/try"]);
        project.git(&["submodule", "--quiet", "update", "--force"]);
        assert_eq!(project.git(&["status", "--porcelain"]), "");
        assert!(module.join("objects").is_dir());
        project.agent(&["rm", "--all"]).ok();
    }
}

/// Somebody whose project is a submodule of another has its history in that one's repository, and commits to it as anybody does.
#[test]
fn a_project_that_is_a_submodule_is_committed_to() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let above = superproject(&sandbox);
        let module = above.path.join(".git/modules/lib");
        let lib = library(&sandbox, &above);
        lib.git(&["add", "."]);
        lib.git(&["commit", "--quiet", "-m", "envd"]);
        let marker = sandbox.path("marker");
        let before = state(&above.path.join(".git"));
        lib.agent(&["create", "--name", "try"]).ok();
        assert_eq!(lib.sh("try", "git status --porcelain"), "");
        lib.sh("try", "echo two > code; git commit -qam two");
        lib.sh(
            "try",
            &format!("c=$(git rev-parse --git-common-dir); {}", plant(&marker)),
        );
        assert!(
            state(&above.path.join(".git")) == before,
            "it was written to"
        );
        let applied = lib.applied(&["try", "--git"]);
        assert_eq!(count(&applied["commits"]), 1, "{applied}");
        assert_eq!(lib.text("code"), "two\n");
        let log = lib.git(&["log", "--format=%s", "envd/try"]);
        assert_eq!(log, "two\nenvd\nlibrary");
        lib.git(&["fsck", "--strict", "--no-dangling"]);
        lib.runs_nothing(&marker);
        above.runs_nothing(&marker);
        let new = state(&module).into_keys();
        let new = new.filter(|path| !before.contains_key(path));
        assert!(new.into_iter().all(|path| path.ends_with("heads/envd/try")));
        lib.agent(&["rm", "--all"]).ok();
    }
}

/// The repository of a submodule lies where commands of the superproject write: one of them could have a directory of its user's there
/// by the time that somebody works in the submodule.
#[test]
fn a_repository_that_is_another_directory_by_now_is_not_seen() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let above = superproject(&sandbox);
        let secret = sandbox.path("secret");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("key"), "the key\n").unwrap();
        let lib = library(&sandbox, &above);
        let module = above.path.join(".git/modules/lib");
        let look = format!("cat {0}/HEAD {0}/key 2>/dev/null || true", module.display());
        let path = lib.path.to_str().unwrap();
        let options = ["--project", path, "agent", "mcp"];
        let mut agent = Agent::by(&mut sandbox.envd_command(&options));
        // What is made ahead is like this one.
        let first = agent.create(json!({}));
        assert_eq!(agent.run(&first, &look), "ref: refs/heads/main\n");
        fs::rename(&module, above.path.join(".git/modules/away")).unwrap();
        std::os::unix::fs::symlink(&secret, &module).unwrap();
        for _ in 0..3 {
            let next = agent.create(json!({}));
            assert_eq!(agent.run(&next, &look), "");
        }
        agent.leave();
    }
}

/// The same where the repository of the submodule lies elsewhere: in its own directory, in another submodule, and with a linked work
/// tree's.
#[test]
fn a_submodule_is_found_where_its_owner_keeps_it() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let project = superproject(&sandbox);
        let upstream = sandbox.path("upstream");
        // With a directory `.git` of its own.
        project.git(&["clone", "--quiet", upstream.to_str().unwrap(), "old"]);
        project.git(&["-c", "advice.addEmbeddedRepo=false", "add", "old"]);
        project.git(&["commit", "--quiet", "-m", "old"]);
        // One within another.
        let outer = sandbox.path("outer");
        project.git(&[
            "clone",
            "--quiet",
            upstream.to_str().unwrap(),
            outer.to_str().unwrap(),
        ]);
        add_submodule(&Project::at(&sandbox, outer.clone()), &upstream, "inner");
        add_submodule(&project, &outer, "outer");
        submodule(&project, &["update", "--init", "--recursive", "outer"]);
        project.agent(&["create", "--name", "try"]).ok();
        project.sh(
            "try",
            "for d in old outer/inner; do (cd $d; git checkout -q -B work; echo two > code; git commit -qam two); done; \
             (cd outer; git checkout -q -B work; git commit -qam inner); git commit -qam all",
        );
        let applied = project.applied(&["try", "--commits-only"]);
        let paths: Vec<_> = applied["submodules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["old", "outer/inner", "outer"], "{applied}");
        for path in ["old", "outer/inner"] {
            let shown = git(
                &sandbox,
                &project.path.join(path),
                &["show", "envd/try:code"],
            );
            assert_eq!(shown, "two", "{path}");
        }
        let inner = git(
            &sandbox,
            &project.path.join("outer"),
            &["rev-parse", "envd/try:inner"],
        );
        assert_eq!(
            inner,
            git(
                &sandbox,
                &project.path.join("outer/inner"),
                &["rev-parse", "envd/try"]
            )
        );
        project.agent(&["rm", "--all"]).ok();

        let tree = project.linked(sandbox.path("tree"));
        submodule(&tree, &["update", "--init", "lib"]);
        tree.agent(&["create", "--name", "linked"]).ok();
        tree.sh(
            "linked",
            "(cd lib; echo two > code; git commit -qam two); git commit -qam record",
        );
        let applied = tree.applied(&["linked", "--commits-only"]);
        assert_eq!(applied["submodules"][0]["path"], "lib", "{applied}");
        let shown = git(
            &sandbox,
            &tree.path.join("lib"),
            &["show", "envd/linked:code"],
        );
        assert_eq!(shown, "two");
        tree.agent(&["rm", "--all"]).ok();
    }
}

/// What has nowhere to come to, or comes from where it should not, is refused by name, and nothing is brought.
#[test]
fn a_submodule_that_the_owner_does_not_have_holds_everything_up() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let project = superproject(&sandbox);
        let upstream = sandbox.path("upstream");
        let own = project.path.join(".git");
        // A directory of the owner's with a repository, behind a link of the project.
        let secret = sandbox.path("secret");
        git(
            &sandbox,
            sandbox.directory(),
            &[
                "clone",
                "--quiet",
                upstream.to_str().unwrap(),
                secret.to_str().unwrap(),
            ],
        );
        std::os::unix::fs::symlink(&secret, project.path.join("link")).unwrap();
        sandbox.hand_over();
        let (before, others) = (state(&own), state(&secret.join(".git")));
        let clone = "git clone -q --no-hardlinks lib new; (cd new; git checkout -q -B work; echo two > code; git commit -qam two)";
        for (what, line, says) in [
            ("one that is new", format!("{clone}; git -c advice.addEmbeddedRepo=false add new; git commit -qm new"), "submodule new"),
            (
                "one behind a link",
                "rm link; git clone -q --no-hardlinks lib link; (cd link; git checkout -q -B work; echo two > code; git commit -qam two); \
                 git -c advice.addEmbeddedRepo=false add link; git commit -qm link"
                    .to_owned(),
                "submodule link",
            ),
            ("one that is a file of the owner's", format!("rm file; {clone}; mv new file; git -c advice.addEmbeddedRepo=false add file; git commit -qm file"), "submodule file"),
            ("one within another", format!("{clone}; c=$(git -C new rev-parse HEAD); git rm -rqf --cached lib; git update-index --add --cacheinfo 160000,$c,lib/sub; git commit -qm sub"), "submodule lib/sub"),
            ("a commit that is nowhere", "git update-index --add --cacheinfo 160000,1234567890123456789012345678901234567890,lib; git commit -qm none".to_owned(), "submodule lib: the commit 1234567890123456789012345678901234567890"),
            (
                "a repository that was moved away inside",
                "(cd lib; git checkout -q -B work; echo two > code; git commit -qam two); mv .git/modules/lib /tmp/lib; \
                 echo 'gitdir: /tmp/lib' > lib/.git; git -C lib config core.worktree $PWD/lib; git commit -qam moved"
                    .to_owned(),
                "submodule lib: the commit",
            ),
            (
                "objects that are a link",
                format!(
                    "(cd lib; git checkout -q -B work; echo two > code; git commit -qam two); git commit -qam link; \
                     rm -rf .git/modules/lib/objects; ln -s {}/.git/objects .git/modules/lib/objects",
                    secret.display()
                ),
                "submodule lib",
            ),
        ] {
            project.agent(&["create", "--name", "try"]).ok();
            project.sh("try", &line);
            let outcome = project.agent(&["apply", "try", "--commits-only"]).code(2);
            outcome.says(&[says]);
            assert!(state(&own) == before, "{what}");
            assert!(state(&secret.join(".git")) == others, "{what}");
            project.agent(&["rm", "try"]).ok();
        }

        // What to do next is said, and helps: the owner adds it, too.
        project.agent(&["create", "--name", "try"]).ok();
        project.sh(
            "try",
            &format!("{clone}; git -c advice.addEmbeddedRepo=false add new; git commit -qm new"),
        );
        let refused = project.agent(&["apply", "try", "--commits-only"]).code(2);
        refused.says(&["git submodule add"]);
        add_submodule(&project, &upstream, "new");
        let applied = project.applied(&["try", "--commits-only"]);
        assert_eq!(applied["submodules"][0]["path"], "new", "{applied}");
        project.agent(&["rm", "--all"]).ok();
    }
}
