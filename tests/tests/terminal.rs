//! `envd enter` on a real terminal, made by script(1).

use std::{io::Write, process::Stdio};

use envd_tests::{
    requirement,
    sandbox::{Outcome, conclude},
    world::World,
};

/// Types lines into a terminal of 33 by 99 that runs an envd command.
fn type_into(world: &World, command: &str, lines: &str) -> Outcome {
    let binary = envd_tests::sandbox::envd_binary().display();
    let mut child = world
        .command("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("stty rows 33 cols 99 -echo; {binary} {command}"))
        .arg("/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    // The terminal stays open until the shell has left by itself.
    let outcome = conclude(child);
    drop(stdin);
    outcome
}

#[test]
fn a_shell_on_a_terminal_with_the_right_size_and_job_control() {
    let Some(world) = World::small() else { return };
    if !requirement::program("script") {
        return;
    }
    world.wants(&["hello"]);
    world.envd(&["run", "--", "true"]).ok();
    let lines = "stty size\ntty\nhello\nsleep 30 &\njobs\nkill %1\nexit 5\n";
    let outcome = type_into(&world, "enter", lines).code(5);
    assert!(outcome.stdout.contains("33 99"), "{outcome}");
    assert!(outcome.stdout.contains("/dev/"), "{outcome}");
    assert!(outcome.stdout.contains("Hello, world! 1.0"), "{outcome}");
    assert!(outcome.stdout.contains("sleep 30"), "{outcome}");
    assert!(
        !outcome.stdout.contains("job control turned off"),
        "{outcome}"
    );
}

#[test]
fn the_controlling_terminal_opens_inside() {
    let Some(world) = World::small() else { return };
    if !requirement::program("script") {
        return;
    }
    world.wants(&[]);
    world.envd(&["run", "--", "true"]).ok();
    let outcome = type_into(&world, "run -- sh -c 'echo direct > /dev/tty'", "").ok();
    assert!(outcome.stdout.contains("direct"), "{outcome}");
}
