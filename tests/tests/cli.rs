//! What people read and type: errors with a place and a way out, guesses that are told, output for machines.

use envd_tests::{
    sandbox::{Sandbox, finish},
    world::World,
};

/// Writes an `envd.toml` and returns what `envd lock` says about it.
fn complaint(text: &str) -> envd_tests::sandbox::Outcome {
    let sandbox = Sandbox::new();
    sandbox.write("envd.toml", text);
    sandbox.envd(&["--offline", "lock"]).fails()
}

#[test]
fn a_mistake_in_the_file_is_shown_with_file_line_and_column() {
    complaint("[env]\nchannels = [\"debian:trixie\"\npackages = []\n").says(&["envd.toml:3:"]);
    complaint("[env]\nchannels = [\"debian:trixie\"]\npackages = [3]\n")
        .says(&["envd.toml:3:13", "packages"]);
    complaint("[env]\npackages = [\"hello\"]\nchannels = [\"debian\"]\n")
        .says(&["envd.toml:3:13", "debian"]);
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_one() {
    complaint("[env]\nchannels = [\"debian:trixie\"]\npakcages = [\"hello\"]\n").says(&[
        "envd.toml:3:1",
        "pakcages",
        "packages",
    ]);
    complaint("[env]\nchannels = [\"debian:trixie\"]\n[envv]\n").says(&[
        "envd.toml:3:",
        "envv",
        "env",
    ]);
}

#[test]
fn an_unknown_package_is_answered_with_the_nearest_names() {
    let Some(world) = World::small() else { return };
    world.wants(&["libgret1"]);
    world
        .envd(&["lock"])
        .fails()
        .says(&["libgret1", "libgreet1"]);
}

#[test]
fn an_unknown_suite_is_named() {
    let Some(world) = World::small() else { return };
    world.wants_of(&["debian:trixi"], &["hello"]);
    world.envd(&["lock"]).fails().says(&["trixi"]);
}

#[test]
fn an_archive_that_cannot_be_reached_is_named() {
    let Some(world) = World::small() else { return };
    let World {
        server, sandbox, ..
    } = world;
    sandbox.wants(&["hello"]);
    let url = server.url();
    drop(server);
    sandbox
        .envd(&["lock"])
        .fails()
        .says(&[&url.replace("http://", "")]);
}

#[test]
fn init_guesses_and_says_what_it_guessed() {
    for (file, text, words) in [
        (
            "Cargo.toml",
            "[package]\nname = \"x\"\n",
            &["rustc", "cargo"][..],
        ),
        ("package.json", "{}\n", &["nodejs"]),
        ("pyproject.toml", "[project]\nname = \"x\"\n", &["python3"]),
        ("go.mod", "module x\n", &["golang"]),
        ("Makefile", "all:\n", &["make"]),
        ("CMakeLists.txt", "project(x)\n", &["cmake"]),
        (".python-version", "3.13\n", &["python3"]),
        (
            "rust-toolchain.toml",
            "[toolchain]\nchannel = \"stable\"\n",
            &["rustc"],
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write(file, text);
        let outcome = sandbox.envd(&["init"]).ok();
        let written = std::fs::read_to_string(sandbox.project().join("envd.toml")).unwrap();
        assert!(written.contains("debian:trixie"), "{written}");
        for word in words {
            assert!(written.contains(word), "{file}: no {word} in\n{written}");
        }
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(said.contains(file), "{file} is not mentioned\n{outcome}");
        sandbox.envd(&["init"]).fails().says(&["envd.toml"]);
    }
}

#[test]
fn search_finds_names_and_descriptions_best_first() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    world.envd(&["lock"]).ok();
    let outcome = world.envd(&["search", "greet"]).ok();
    let place = |name: &str| {
        outcome
            .stdout
            .find(name)
            .unwrap_or_else(|| panic!("no {name}\n{outcome}"))
    };
    assert!(place("greet") < place("libgreet1"), "{outcome}");
    let outcome = world.envd(&["search", "greetings"]).ok();
    assert!(outcome.stdout.contains("libgreet1"), "{outcome}");
    let before = world.server.connections();
    world.envd(&["search", "hello"]).ok();
    assert_eq!(
        world.server.connections(),
        before,
        "a search touched the network"
    );
}

/// JSON, whole or a value a line.
fn json(text: &str) -> Vec<serde_json::Value> {
    let values: Vec<_> = serde_json::Deserializer::from_str(text)
        .into_iter::<serde_json::Value>()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(!values.is_empty(), "nothing was printed");
    values
}

#[test]
fn machines_read_json() {
    let Some(world) = World::small() else { return };
    world.wants(&["greet"]);
    world.envd(&["run", "--", "true"]).ok();
    for arguments in [
        &["--json", "list"][..],
        &["--json", "search", "greet"],
        &["--json", "why", "libgreet1"],
        &["--json", "store", "info"],
        &["--json", "store", "du"],
        &["--json", "store", "roots"],
        &["--json", "store", "verify"],
        &["--json", "gc", "--dry-run"],
        &["--json", "doctor"],
    ] {
        let outcome = world.envd(arguments).ok();
        json(&outcome.stdout);
    }
    let list = world.envd(&["--json", "list"]).ok();
    assert!(list.stdout.contains("1.4-2"), "{list}");
}

#[test]
fn the_schema_describes_the_file() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.envd(&["schema"]).ok();
    let schema = &json(&outcome.stdout)[0];
    assert!(schema["properties"]["env"].is_object(), "{outcome}");
}

#[test]
fn completions_for_the_usual_shells() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = sandbox.envd(&["completions", shell]).ok();
        assert!(outcome.stdout.contains("envd"), "{outcome}");
    }
}

/// An image is to need nothing else for its PID 1, under the name that its build knows.
#[test]
fn the_pid_1_that_is_written_behaves_as_it_is_called() {
    let sandbox = Sandbox::new();
    sandbox.envd(&["pid1", "--output", "tini"]).ok();
    let script = ["-s", "-e", "3", "--", "sh", "-c", "exit 3"];
    let tini = sandbox.project().join("tini");
    finish(sandbox.command(tini).args(script)).code(0);
    sandbox
        .envd(&["pid1", "--output", "tini"])
        .code(2)
        .says(&["tini exists already", "--force"]);
    sandbox.envd(&["pid1", "--force", "-o", "envd-init"]).ok();
    let plain = sandbox.project().join("envd-init");
    finish(sandbox.command(plain).args(["sh", "-c", "exit 3"])).code(3);
}

#[test]
fn help_fits_a_screen_and_names_every_command() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.envd(&["--help"]).ok();
    let lines = outcome.stdout.lines().count();
    assert!(lines <= 50, "{lines} lines\n{outcome}");
    for command in [
        "init",
        "add",
        "remove",
        "search",
        "lock",
        "update",
        "why",
        "list",
        "generations",
        "rollback",
        "run",
        "enter",
        "x",
        "shim",
        "store",
        "gc",
        "doctor",
        "uninstall",
        "completions",
    ] {
        assert!(
            outcome
                .stdout
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}\n{outcome}"
        );
    }
    sandbox.envd(&["--version"]).ok();
    sandbox.envd(&["frobnicate"]).fails().says(&["frobnicate"]);
}

#[test]
fn gc_says_what_it_would_do_and_then_does_it() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello", "greet"]);
    world.envd(&["run", "--", "true"]).ok();
    let objects = || count(&world.store().join("objects"));
    let full = objects();
    world.envd(&["gc"]).ok();
    assert_eq!(objects(), full, "gc took what a project holds");
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    // The smaller root has a package database of its own.
    let full = objects();
    world.envd(&["gc"]).ok();
    assert_eq!(objects(), full, "gc took what one can go back to");
    let old = ["gc", "--generations", "1"];
    world.envd(&[&old[..], &["--dry-run"]].concat()).ok();
    assert_eq!(objects(), full, "a dry run took something");
    world.envd(&old).ok();
    assert!(objects() < full, "gc took nothing");
    world.envd(&["--offline", "run", "--", "hello"]).ok();
    let roots = world.envd(&["store", "roots"]).ok();
    assert!(
        roots.stdout.contains(world.project().to_str().unwrap()),
        "{roots}"
    );
}

/// A project on an unplugged disk must not lose its environment.
#[test]
fn an_unreachable_project_keeps_its_root() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let (here, away) = (world.project(), world.path("unplugged"));
    std::fs::rename(&here, &away).unwrap();
    std::fs::create_dir(&here).unwrap();
    let full = count(&world.store().join("objects"));
    world.envd(&["gc"]).ok();
    assert_eq!(count(&world.store().join("objects")), full);
    std::fs::remove_dir(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    world.envd(&["--offline", "run", "--", "hello"]).ok();
}

fn count(directory: &std::path::Path) -> usize {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count(&entry.path()),
            _ => 1,
        })
        .sum()
}

/// Progress is for people; a log file is not one.
#[test]
fn nothing_is_drawn_where_no_terminal_is() {
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    let outcome = world.envd(&["run", "--", "hello"]).ok();
    assert!(!outcome.stderr.contains('\u{1b}'), "{outcome:?}");
    assert!(!outcome.stderr.contains('\r'), "{outcome:?}");
}
