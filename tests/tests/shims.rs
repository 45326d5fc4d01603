//! Shims: files named like the tools. What an editor, a hook or cron would lose if they did not follow the environment, or
//! ran something else.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use envd_tests::{
    deb::Deb,
    programs,
    sandbox::{Outcome, Sandbox, finish},
    world::World,
};

/// What is in a directory: name and inode.
fn inodes(directory: &Path) -> BTreeMap<String, u64> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("readable");
        let name = entry.file_name().into_string().expect("a name of ours");
        let meta = std::fs::symlink_metadata(entry.path()).expect("it is there");
        (name, meta.ino())
    };
    entries.map(entry).collect()
}

fn shims(sandbox: &Sandbox) -> PathBuf {
    sandbox.project().join(".envd/bin")
}

/// A shim, with no variables at all but the store's place, which is not where it usually is, from another directory.
fn shim(sandbox: &Sandbox, tool: &str) -> Command {
    let mut command = sandbox.command(shims(sandbox).join(tool));
    command
        .env_clear()
        .env("ENVD_STORE", sandbox.store())
        .env("XDG_RUNTIME_DIR", sandbox.path("run"))
        .current_dir("/");
    command
}

/// A world with shims, and its daemon's end when dropped.
struct Shimmed(World);

impl Shimmed {
    fn new(packages: &[&str]) -> Option<Self> {
        let world = World::small()?;
        world.wants(packages);
        world.envd(&["shim", "install"]).ok();
        Some(Self(world))
    }
}

impl std::ops::Deref for Shimmed {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Drop for Shimmed {
    fn drop(&mut self) {
        // A shim starts the daemon.
        let _ = self.0.envd(&["daemon", "stop"]);
    }
}

fn git(sandbox: &Sandbox, directory: &Path, arguments: &[&str]) -> Outcome {
    let mut command = sandbox.command("git");
    command
        .args(["-c", "user.name=A", "-c", "user.email=a@example.invalid"])
        .args(arguments)
        .current_dir(directory);
    finish(&mut command)
}

#[test]
fn each_command_of_the_environment_has_one_and_all_are_one_file() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    let outcome = world.envd(&["--json", "shim", "install"]).ok();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let all = inodes(&shims(&world));
    assert!(
        all.contains_key("hello") && all.contains_key("sh"),
        "{all:?}"
    );
    assert!(!all.contains_key("greet"), "of no package here");
    assert_eq!(report["commands"], all.len());
    let file = inodes(&world.project().join(".envd"))["shim"];
    assert!(all.values().all(|inode| *inode == file), "{all:?}");
    let again = world.envd(&["--json", "shim", "install"]).ok();
    let report: serde_json::Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!(report["made"], serde_json::json!([]));
    assert_eq!(inodes(&shims(&world)), all);
}

#[test]
fn git_does_not_see_them() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["shim", "install"]).ok();
    let project = world.project();
    git(&world, &project, &["init", "-q"]).ok();
    let status = git(&world, &project, &["status", "--porcelain"]).ok();
    assert!(!status.stdout.contains(".envd/"), "{status}");
}

#[test]
fn they_follow_the_lock() {
    let Some(world) = World::small() else { return };
    let elsewhere = world.path("tools");
    world.wants(&["hello"]);
    world.envd(&["shim", "install"]).ok();
    world
        .envd(&["shim", "install", "--dir", elsewhere.to_str().unwrap()])
        .ok();
    world.wants(&["greet"]);
    world.envd(&["run", "--", "true"]).ok();
    for directory in [shims(&world), elsewhere] {
        let all = inodes(&directory);
        assert!(all.contains_key("greet"), "{directory:?}: {all:?}");
        assert!(!all.contains_key("hello"), "{directory:?}: {all:?}");
    }
}

#[test]
fn removing_leaves_the_project_as_it_was() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let before = inodes(&world.project());
    let elsewhere = world.path("tools");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("own"), "#!/bin/sh\n").unwrap();
    world.envd(&["shim", "install"]).ok();
    world
        .envd(&["shim", "install", "--dir", elsewhere.to_str().unwrap()])
        .ok();
    world.envd(&["shim", "remove"]).ok();
    assert_eq!(inodes(&world.project()), before);
    let left: Vec<_> = inodes(&elsewhere).into_keys().collect();
    assert_eq!(left, ["own"]);
}

#[test]
fn a_file_of_ones_own_is_not_overwritten() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    let elsewhere = world.path("tools");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("hello"), "mine\n").unwrap();
    world
        .envd(&["shim", "install", "--dir", elsewhere.to_str().unwrap()])
        .code(2)
        .says(&["tools/hello", "is not touched"]);
    let own = std::fs::read_to_string(elsewhere.join("hello")).unwrap();
    assert_eq!(own, "mine\n");
}

#[test]
fn uninstall_takes_them_along() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["shim", "install"]).ok();
    world
        .envd(&["uninstall", "--verify"])
        .code(1)
        .says(&["left"]);
    world.envd(&["uninstall", "--yes"]).ok();
    assert!(!world.project().join(".envd").exists());
    assert!(world.project().join("envd.lock").exists());
}

#[test]
fn what_a_shim_runs_is_explained() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    let outcome = world.envd(&["--json", "shim", "explain", "hello"]).ok();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(report["realised"], false);
    world.envd(&["shim", "install"]).ok();
    let explain = |tool: &str| -> serde_json::Value {
        let outcome = world.envd(&["--json", "shim", "explain", tool]).ok();
        serde_json::from_str(&outcome.stdout).expect("JSON")
    };
    let report = explain("hello");
    assert_eq!(report["realised"], true);
    assert_eq!(report["path"], "/usr/bin/hello");
    assert_eq!(report["package"], "hello 1.0");
    assert_eq!(report["daemon"], false);
    let own = shims(&world).canonicalize().unwrap().join("hello");
    assert_eq!(report["shim"], own.to_str().unwrap());
    let report = explain("sh");
    assert_eq!(report["file"], "/usr/bin/busybox");
    assert_eq!(report["package"], "shell 1.35");
    world
        .envd(&["shim", "explain", "absent"])
        .code(2)
        .says(&["absent"]);
}

#[test]
fn editors_are_told_of_tools_that_are_there() {
    let Some(mut world) = World::small() else {
        return;
    };
    let tools = Deb::new("tools", "1.0")
        .program("usr/bin/python3", programs::printing("python"))
        .program("usr/bin/clangd", programs::printing("clangd"));
    world.archive.trixie().add(tools);
    world.publish();
    world.wants(&["tools"]);
    world
        .envd(&["shim", "vscode"])
        .code(2)
        .says(&["envd shim install"]);
    world.envd(&["shim", "install"]).ok();
    let outcome = world.envd(&["shim", "vscode"]).ok();
    let settings: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let bin = shims(&world).canonicalize().unwrap();
    let path = |tool: &str| bin.join(tool).to_str().unwrap().to_owned();
    assert_eq!(settings["python.defaultInterpreterPath"], path("python3"));
    assert_eq!(settings["clangd.path"], path("clangd"));
    assert!(settings.get("go.alternateTools").is_none());
    let outcome = world.envd(&["shim", "jetbrains"]).ok();
    assert!(outcome.stdout.contains(&path("python3")), "{outcome}");
}

#[test]
fn when_the_project_is_gone_the_shim_says_so() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["shim", "install"]).ok();
    std::fs::remove_file(world.project().join("envd.toml")).unwrap();
    finish(&mut shim(&world, "hello"))
        .code(125)
        .says(&["no envd.toml in", "project"]);
}

#[test]
fn a_copy_that_belongs_nowhere_says_so() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["shim", "install"]).ok();
    let stray = world.path("home").join("hello");
    std::fs::copy(shims(&world).join("hello"), &stray).unwrap();
    finish(&mut world.command(&stray))
        .code(125)
        .says(&["envd shim install"]);
}

/// An editor starts tools with whatever variables it has, cron with none.
#[test]
fn a_shim_runs_without_any_variables_from_any_directory() {
    let Some(world) = Shimmed::new(&["hello"]) else {
        return;
    };
    let outcome = finish(&mut shim(&world, "hello")).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    let script = "pwd; echo \"$0 $1\"; exit 7";
    let outcome = finish(shim(&world, "sh").args(["-c", script, "a", "b c"])).code(7);
    let project = world.project().canonicalize().unwrap();
    assert_eq!(outcome.stdout, format!("{}\na b c\n", project.display()));
    world.write("deep/er/file", "");
    let below = project.join("deep/er");
    let outcome = finish(shim(&world, "pwd").current_dir(&below)).ok();
    assert_eq!(outcome.stdout.trim(), below.to_str().unwrap());
}

/// What is started inside finds the same paths: an editor's settings hold there, too.
#[test]
fn inside_the_environment_a_shim_is_the_tool() {
    let Some(world) = Shimmed::new(&["hello"]) else {
        return;
    };
    let outcome = world.run_shell(".envd/bin/hello; .envd/bin/sh -c 'exit 7'");
    assert_eq!(outcome.code(7).stdout, "Hello, world! 1.0\n");
    std::fs::hard_link(shims(&world).join("hello"), shims(&world).join("absent")).unwrap();
    world
        .run_shell(".envd/bin/absent")
        .code(125)
        .says(&["no such command"]);
}

#[test]
fn a_shim_elsewhere_runs_its_own_projects_tool() {
    let Some(world) = Shimmed::new(&["hello"]) else {
        return;
    };
    let elsewhere = world.path("tools");
    world
        .envd(&["shim", "install", "--dir", elsewhere.to_str().unwrap()])
        .ok();
    let mut command = world.command(elsewhere.join("hello"));
    let outcome = finish(command.current_dir("/")).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
}

#[test]
fn a_shim_follows_the_environment_to_a_new_version() {
    let Some(mut world) = Shimmed::new(&["hello"]) else {
        return;
    };
    finish(&mut shim(&world, "hello")).ok();
    world.0.archive.trixie().supersede(programs::hello("2.0"));
    world.publish();
    world.envd(&["update"]).ok();
    world.envd(&["run", "--", "true"]).ok();
    let outcome = finish(&mut shim(&world, "hello")).ok();
    assert_eq!(outcome.stdout, "Hello, world! 2.0\n");
}

#[test]
fn a_git_hook_runs_one() {
    let Some(world) = Shimmed::new(&["hello"]) else {
        return;
    };
    let project = world.project();
    git(&world, &project, &["init", "-q"]).ok();
    let hook = project.join(".git/hooks/pre-commit");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nexec .envd/bin/hello >&2\n").unwrap();
    envd_tests::sandbox::set_mode(&hook, 0o755);
    git(&world, &project, &["add", "envd.toml"]).ok();
    git(&world, &project, &["commit", "-q", "-m", "one"])
        .ok()
        .says(&["Hello, world! 1.0"]);
}

/// Work trees with the same lock share one root: nothing is downloaded, nothing has to be made first.
#[test]
fn in_a_git_work_tree_the_same_shims_run_the_same_tools() {
    let Some(world) = Shimmed::new(&["hello"]) else {
        return;
    };
    let project = world.project();
    git(&world, &project, &["init", "-q"]).ok();
    git(&world, &project, &["add", "envd.toml", "envd.lock"]).ok();
    git(&world, &project, &["commit", "-q", "-m", "one"]).ok();
    let tree = world.path("tree");
    let add = ["worktree", "add", "-q", tree.to_str().unwrap()];
    git(&world, &project, &add).ok();
    let before = world.server.connections();
    let outcome = finish(shim(&world, "pwd").current_dir(&tree)).ok();
    let tree = tree.canonicalize().unwrap();
    assert_eq!(outcome.stdout.trim(), tree.to_str().unwrap());
    let outcome = finish(shim(&world, "hello").current_dir(&tree)).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    assert_eq!(world.server.connections(), before);
    let tree = tree.to_str().unwrap();
    let _ = world.envd(&["--project", tree, "daemon", "stop"]);
}

/// The same for `envd run`: another work tree is entered at once.
#[test]
fn a_work_tree_with_the_same_lock_needs_no_download() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let tree = world.path("tree");
    std::fs::create_dir(&tree).unwrap();
    for name in ["envd.toml", "envd.lock"] {
        std::fs::copy(world.project().join(name), tree.join(name)).unwrap();
    }
    let before = world.server.connections();
    let tree = tree.to_str().unwrap();
    let arguments = ["--project", tree, "--offline", "run", "--", "hello"];
    let outcome = world.envd(&arguments).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    assert_eq!(world.server.connections(), before);
    // Each keeps it for itself.
    std::fs::remove_dir_all(world.project()).unwrap();
    std::fs::create_dir(world.project()).unwrap();
    world.envd(&["gc"]).ok();
    world.envd(&arguments).ok();
}

/// An editor must not begin to download.
#[test]
fn what_is_not_realised_is_not_realised_by_a_shim() {
    let Some(world) = Shimmed::new(&["hello"]) else {
        return;
    };
    world.wants(&["hello", "greet"]);
    let before = world.server.connections();
    finish(&mut shim(&world, "hello"))
        .fails()
        .says(&["not realised", "envd run"]);
    assert_eq!(world.server.connections(), before);
}
