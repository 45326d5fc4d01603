//! A full disk is said plainly, leaves the store valid, and does not stop gc from making room.

use envd_tests::{
    deb::{Compression, Deb},
    programs::small_archive,
    requirement,
    sandbox::{Outcome, envd_binary, finish},
    world::World,
};

/// Content that compresses to itself, so that a package is as big as it looks.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

/// Runs a script in a mount namespace of its own, where the store lies on a tmpfs of this size.
fn on_a_small_disk(world: &World, size: &str, script: &str) -> Outcome {
    let store = world.store();
    std::fs::create_dir_all(&store).unwrap();
    let mut command = world.command("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "sh", "-c"])
        .arg(format!(
            "mount -t tmpfs -o size={size} tmpfs \"$ENVD_STORE\" || exit 99\n{script}"
        ))
        .env("ENVD", envd_binary());
    finish(&mut command)
}

fn world_with_big_packages() -> Option<World> {
    let mut archive = small_archive()?;
    archive
        .trixie()
        .add(
            Deb::new("big", "1.0")
                .compression(Compression::Plain)
                .file("usr/share/big", noise(30 << 20, 1)),
        )
        .add(
            Deb::new("middling", "1.0")
                .compression(Compression::Plain)
                .file("usr/share/middling", noise(6 << 20, 2)),
        );
    Some(World::around(archive))
}

#[test]
fn a_full_disk_is_said_and_the_store_stays_valid() {
    if !requirement::user_namespaces() {
        return;
    }
    let Some(world) = world_with_big_packages() else {
        return;
    };
    world.wants(&["big"]);
    let outcome = on_a_small_disk(
        &world,
        "24m",
        "\"$ENVD\" run -- true; echo \"run: $?\"
         \"$ENVD\" store verify >&2; echo \"verify: $?\"
         \"$ENVD\" gc >&2; echo \"gc: $?\"
         echo \"work: $(ls -A \"$ENVD_STORE/tmp\" 2>/dev/null | wc -l)\"",
    )
    .ok();
    assert!(!outcome.stdout.contains("run: 0"), "{outcome}");
    let outcome = outcome.says_one_of(&["no space left", " is full"]);
    for line in ["verify: 0", "gc: 0", "work: 0"] {
        assert!(outcome.stdout.contains(line), "{line}\n{outcome}");
    }
}

/// The moment when gc is needed most is the one when it cannot write a byte.
#[test]
fn gc_makes_room_on_a_disk_with_no_byte_free() {
    if !requirement::user_namespaces() {
        return;
    }
    let Some(world) = world_with_big_packages() else {
        return;
    };
    world.wants(&["hello", "middling"]);
    let only_hello = format!(
        "[env]\nchannels = [\"debian:trixie\"]\npackages = {:?}\n",
        ["hello"]
    );
    world.write("envd.toml.later", &only_hello);
    let outcome = on_a_small_disk(
        &world,
        "40m",
        "\"$ENVD\" run -- true || exit 1
         cp envd.toml.later envd.toml
         \"$ENVD\" run -- true || exit 2
         dd if=/dev/zero of=\"$ENVD_STORE/ballast\" bs=64k 2>/dev/null
         before=$(df --output=avail -k \"$ENVD_STORE\" | tail -1)
         \"$ENVD\" gc >&2 || exit 3
         after=$(df --output=avail -k \"$ENVD_STORE\" | tail -1)
         echo \"freed: $((after - before))\"
         \"$ENVD\" --offline run -- hello || exit 4
         \"$ENVD\" store verify >&2 || exit 5",
    )
    .ok();
    let freed: u64 = outcome
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("freed: "))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or_else(|| panic!("{outcome}"));
    assert!(freed > 5_000, "only {freed} KiB were freed\n{outcome}");
    assert!(outcome.stdout.contains("Hello"), "{outcome}");
}
