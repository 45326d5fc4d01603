//! The lock: written once, the same everywhere, followed to the letter, and explained.

use envd_tests::{deb::Deb, programs, sandbox::finish, world::World};

#[test]
fn a_lock_names_every_package_with_version_and_digest() {
    let Some(world) = World::small() else { return };
    world.wants(&["greet"]);
    world.envd(&["lock"]).ok();
    let lock = world.lock();
    for word in ["greet", "2.0-1", "libgreet1", "1.4-2", "sha256", "trixie"] {
        assert!(lock.contains(word), "{word} is not in\n{lock}");
    }
    lock.parse::<toml::Table>().expect("the lock is TOML");
}

/// A lock that changes by itself cannot be reviewed.
#[test]
fn the_same_request_gives_the_same_bytes() {
    let Some(world) = World::small() else { return };
    let mut locks = Vec::new();
    for _ in 0..3 {
        let sandbox = world.another();
        sandbox.wants(&["greet", "hello"]);
        sandbox.envd(&["lock"]).ok();
        locks.push(sandbox.lock());
    }
    assert_eq!(locks[0], locks[1]);
    assert_eq!(locks[1], locks[2]);
}

#[test]
fn what_is_locked_stays_until_update() {
    let Some(mut world) = World::small() else {
        return;
    };
    world.wants(&["hello", "greet"]);
    world.envd(&["run", "--", "hello"]).ok();
    world
        .archive
        .trixie()
        .add(programs::hello("1.1"))
        .add(Deb::new("libgreet1", "1.5").file("usr/share/libgreet/words", "good evening\n"));
    world.archive.pass_a_day();
    world.publish();
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\n");
    world.envd(&["update", "hello"]).ok();
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.1\n");
    assert!(
        world.lock().contains("1.4-2"),
        "update touched more than it was asked to"
    );
    world.envd(&["update"]).ok();
    let outcome = world.envd(&["run", "--", "greet"]).ok();
    assert_eq!(outcome.stdout, "good evening\n");
}

#[test]
fn a_changed_file_changes_the_lock_at_the_next_run() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "hello"]).ok();
    world.wants(&["hello", "greet"]);
    let outcome = world.envd(&["run", "--", "greet"]).ok();
    assert_eq!(outcome.stdout, "good day\n");
}

#[test]
fn add_and_remove_keep_comments_and_layout() {
    let Some(world) = World::small() else { return };
    let text = "# why this project exists\n[env]\nchannels = [\"debian:trixie\"] # stable\npackages = [\n  \"hello\", # greets\n]\n\n[env.vars] # kept\nA = \"1\"\n";
    world.write("envd.toml", text);
    world.envd(&["add", "greet"]).ok();
    let added = std::fs::read_to_string(world.project().join("envd.toml")).unwrap();
    for line in [
        "# why this project exists",
        "# stable",
        "# greets",
        "[env.vars] # kept",
        "greet",
    ] {
        assert!(added.contains(line), "{line:?} is not in\n{added}");
    }
    world.envd(&["run", "--", "greet"]).ok();
    world.envd(&["remove", "greet"]).ok();
    let removed = std::fs::read_to_string(world.project().join("envd.toml")).unwrap();
    assert!(
        !removed.contains("greet") || removed.contains("# greets"),
        "{removed}"
    );
    world.envd(&["run", "--", "greet"]).code(127);
}

#[test]
fn why_and_list_explain_the_lock() {
    let Some(world) = World::small() else { return };
    world.wants(&["greet"]);
    world.envd(&["lock"]).ok();
    let why = world.envd(&["why", "libgreet1"]).ok();
    assert!(
        why.stdout.contains("greet") && why.stdout.contains("libgreet1"),
        "{why}"
    );
    let list = world.envd(&["list"]).ok();
    assert!(
        list.stdout.contains("greet") && list.stdout.contains("1.4-2"),
        "{list}"
    );
    world.envd(&["why", "hello"]).fails().says(&["hello"]);
}

#[test]
fn constraints_choose_versions() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(programs::hello("1.9"))
        .add(programs::hello("2.1"));
    world.publish();
    for (requirement, expected) in [
        ("hello", "2.1"),
        ("hello@1.0", "1.0"),
        ("hello@>=1.5", "2.1"),
        ("hello@<2", "1.9"),
    ] {
        let sandbox = world.another();
        sandbox.wants(&[requirement]);
        let outcome = sandbox.envd(&["run", "--", "hello"]).ok();
        assert_eq!(
            outcome.stdout,
            format!("Hello, world! {expected}\n"),
            "{requirement}"
        );
    }
    world.wants(&["hello@>=9"]);
    world.envd(&["lock"]).fails().says(&["hello", "9"]);
}

#[test]
fn the_first_listed_channel_is_preferred_and_the_second_fills_in() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .suite("bookworm")
        .add(programs::hello("0.5"))
        .add(Deb::new("old-tool", "1.0").program("usr/bin/old-tool", programs::printing("old")));
    world.publish();
    world.wants_of(
        &["debian:trixie", "debian:bookworm"],
        &["hello", "old-tool"],
    );
    let outcome = world.run_shell("hello; old-tool").ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0\nold\n");
    // Preference is by the order of channels, not by version.
    let sandbox = world.another();
    sandbox.wants_of(&["debian:bookworm", "debian:trixie"], &["hello"]);
    let outcome = sandbox.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 0.5\n");
}

#[test]
fn security_updates_are_taken() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .suite("trixie-security")
        .add(programs::hello("1.0+deb13u1"));
    world.publish();
    world.wants(&["hello"]);
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert_eq!(outcome.stdout, "Hello, world! 1.0+deb13u1\n");
}

#[test]
fn an_unsatisfiable_request_is_explained_in_package_names() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(Deb::new("app", "1.0").depends("middle (>= 2)"))
        .add(Deb::new("middle", "2.1").depends("libdeep (>= 5)"))
        .add(Deb::new("libdeep", "4.0"))
        .add(Deb::new("left", "1.0").field("Conflicts", "right"))
        .add(Deb::new("right", "1.0"));
    world.publish();
    world.wants(&["app"]);
    world
        .envd(&["lock"])
        .fails()
        .says(&["app", "middle", "libdeep", "5"]);
    assert!(!world.project().join("envd.lock").exists());
    world.wants(&["left", "right"]);
    world
        .envd(&["lock"])
        .fails()
        .says(&["left", "right", "conflict"]);
}

#[test]
fn alternatives_provides_and_recommends_follow_the_archive() {
    let Some(mut world) = World::small() else {
        return;
    };
    world
        .archive
        .trixie()
        .add(
            Deb::new("needs-editor", "1.0")
                .depends("first-editor | editor")
                .field("Recommends", "extras"),
        )
        .add(Deb::new("first-editor", "1.0").field("Provides", "editor"))
        .add(Deb::new("second-editor", "1.0").field("Provides", "editor"))
        .add(Deb::new("needs-virtual", "1.0").depends("editor"))
        .add(Deb::new("extras", "1.0"));
    world.publish();
    world.wants(&["needs-editor"]);
    world.envd(&["lock"]).ok();
    let lock = world.lock();
    assert!(
        lock.contains("first-editor") && !lock.contains("second-editor"),
        "{lock}"
    );
    assert!(
        !lock.contains("extras"),
        "Recommends are off unless asked\n{lock}"
    );
    // Asked for by name, a provider is used instead of a second one.
    let sandbox = world.another();
    sandbox.wants(&["needs-virtual", "second-editor"]);
    sandbox.envd(&["lock"]).ok();
    assert!(
        !sandbox.lock().contains("first-editor"),
        "{}",
        sandbox.lock()
    );
}

/// Whoever edits the lock by hand must not get a different root in silence.
#[test]
fn a_lock_that_was_tampered_with_is_refused() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "hello"]).ok();
    let honest = world.lock();
    let value = |line: &str| {
        let digest = line.split('"').nth(1).unwrap_or_default();
        (digest.len() == 64).then(|| digest.to_owned())
    };
    // What fixes the content: the root's digest and each package's. Those of indexes matter when locking again.
    let fixed: Vec<_> = honest
        .lines()
        .filter(|line| line.starts_with("root = ") || line.starts_with("sha256 = "))
        .filter_map(value)
        .collect();
    assert!(fixed.len() >= 4, "{honest}");
    for digest in fixed {
        let last = if digest.ends_with('0') { "1" } else { "0" };
        let forged = honest.replace(&digest, &format!("{}{last}", &digest[..63]));
        for sandbox in [&world.another(), &world.sandbox] {
            sandbox.wants(&["hello"]);
            sandbox.write("envd.lock", &forged);
            let outcome = sandbox.envd(&["run", "--", "hello"]).fails();
            assert_eq!(
                sandbox.lock(),
                forged,
                "the evidence was overwritten\n{outcome}"
            );
        }
    }
    for garbage in [
        "not TOML at all [",
        "version = 99\n",
        "version = 1\nunknown = 1\n",
    ] {
        let sandbox = world.another();
        sandbox.wants(&["hello"]);
        sandbox.write("envd.lock", garbage);
        sandbox
            .envd(&["run", "--", "hello"])
            .fails()
            .says(&["envd.lock"]);
    }
}

#[test]
fn a_lock_travels_to_another_machine() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello", "greet"]);
    world.envd(&["run", "--", "hello"]).ok();
    let lock = world.lock();
    let elsewhere = world.another();
    elsewhere.wants(&["hello", "greet"]);
    elsewhere.write("envd.lock", &lock);
    let asked_before = world.server.asked().len();
    elsewhere.envd(&["run", "--", "hello"]).ok();
    assert_eq!(elsewhere.lock(), lock);
    let asked = &world.server.asked()[asked_before..];
    assert!(
        asked
            .iter()
            .all(|request| !request.path.contains("/dists/")),
        "a locked command asked for metadata: {asked:?}"
    );
}

#[test]
fn configuration_by_file_and_by_variable() {
    let Some(world) = World::small() else { return };
    let url = world.server.url();
    let keyring = world.path("archive.gpg");
    let text = format!(
        "[debian]\nmirror = \"{url}/debian\"\nsecurity-mirror = \"{url}/debian-security\"\nsnapshot-mirror = \"{url}\"\nkeyring = {keyring:?}\n"
    );
    let sandbox = envd_tests::sandbox::Sandbox::new();
    let directory = sandbox.path("config").join("envd");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), &text).unwrap();
    sandbox.wants(&["hello"]);
    sandbox.envd(&["run", "--", "hello"]).ok();
    // The variable wins over the file.
    let mut command = sandbox.envd_command(&["update"]);
    command.env("ENVD_DEBIAN_MIRROR", format!("{url}/nowhere"));
    finish(&mut command).fails().says(&["nowhere"]);
    std::fs::write(
        directory.join("config.toml"),
        "[debian]\nmiror = \"http://x\"\n",
    )
    .unwrap();
    sandbox
        .envd(&["lock"])
        .fails()
        .says(&["config.toml:2:", "miror", "mirror"]);
}
