//! What a process inside cannot do to the machine and the person around it.

use std::{os::unix::process::CommandExt, process::Stdio};

use envd_tests::{
    deb::Deb,
    programs, requirement,
    sandbox::{conclude, envd_binary},
    tape::Entry,
    world::World,
};

fn world_with(name: &str, source: &str, mode: u32) -> Option<World> {
    let mut world = World::small()?;
    let program = Entry::file(format!("usr/bin/{name}"), mode, programs::compile(source));
    world
        .archive
        .trixie()
        .add(Deb::new(name, "1.0").entry(program));
    world.publish();
    world.wants(&[name]);
    Some(world)
}

#[test]
fn no_new_privileges_and_a_filter() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let outcome = world
        .run_shell("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status")
        .ok();
    let words: Vec<_> = outcome.stdout.split_whitespace().collect();
    assert_eq!(words, ["NoNewPrivs:", "1", "Seccomp:", "2"]);
}

/// An ordinary user inside stays one, whatever bits a package's files have.
#[test]
fn a_setuid_program_gains_nothing() {
    let source = "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"%d\\n\", geteuid()); return 0; }\n";
    let Some(world) = world_with("setuid-id", source, 0o4755) else {
        return;
    };
    let own = nix::unistd::geteuid().as_raw();
    let outcome = world.envd(&["run", "--", "setuid-id"]).ok();
    assert_eq!(outcome.stdout.trim(), own.to_string());
}

/// Typing into the caller's terminal would run commands outside (CVE-2017-5226); the filter must also see through the
/// upper half of the request that the kernel ignores (CVE-2019-10063).
#[test]
fn the_callers_terminal_cannot_be_typed_into() {
    if !requirement::program("script") {
        return;
    }
    let source = "#include <errno.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
        int main(void) {\n\
            char c = 'x', select[2] = {2, 0};\n\
            long requests[] = {TIOCSTI, TIOCSTI | 1L << 32, 0x541C, 0x541C | 1L << 32};\n\
            for (int i = 0; i < 4; i++) {\n\
                int done = syscall(SYS_ioctl, 0, requests[i], i < 2 ? &c : select) == 0;\n\
                printf(\"%d: %s\\n\", i, done ? \"done\" : errno == EPERM ? \"refused\" : \"failed\");\n\
            }\n\
            return 0;\n\
        }\n";
    let Some(world) = world_with("inject", source, 0o755) else {
        return;
    };
    world.envd(&["run", "--", "true"]).ok();
    let child = world
        .command("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{} run -- inject", envd_binary().display()))
        .arg("/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let outcome = conclude(child).ok();
    for attempt in 0..4 {
        assert!(
            outcome.stdout.contains(&format!("{attempt}: refused")),
            "{outcome}"
        );
    }
}

/// Keys of the caller's session, such as those of network file systems, are not for what runs inside.
#[test]
fn the_callers_keyring_is_out_of_reach() {
    let source = "#include <stdio.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
        int main(void) { puts(syscall(SYS_keyctl, 0, -3, 0) < 0 ? \"refused\" : \"reached\"); return 0; }\n";
    let Some(world) = world_with("keys", source, 0o755) else {
        return;
    };
    let outcome = world.envd(&["run", "--", "keys"]).ok();
    assert_eq!(outcome.stdout, "refused\n");
}

/// Processes outside can be neither seen nor signalled nor read.
#[test]
fn processes_outside_are_out_of_reach() {
    let Some(world) = World::small() else { return };
    world.wants(&[]);
    let mut victim = world.command("sleep").arg("60").spawn().unwrap();
    let script = format!(
        "ls /proc | grep -c '^[0-9]*$'; kill -0 {0} 2>/dev/null && echo reached; kill -9 -1 2>/dev/null; true",
        victim.id()
    );
    let outcome = world.run_shell(&script);
    let alive = victim.try_wait().unwrap().is_none();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(alive, "a process outside was killed");
    assert!(!outcome.stdout.contains("reached"), "{outcome}");
    let seen: u32 = outcome
        .stdout
        .lines()
        .next()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(seen < 10, "{seen} processes are seen\n{outcome}");
}
