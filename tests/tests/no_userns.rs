//! Where user namespaces are switched off, the error names the switch.

use envd_tests::{
    requirement,
    sandbox::{Outcome, envd_binary, finish},
    world::World,
};

/// Runs envd where no further user namespace may be made, without any capability.
fn without_user_namespaces(world: &World, arguments: &str) -> Outcome {
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces || exit 99
         exec setpriv --inh-caps=-all --bounding-set=-all --no-new-privs \"$ENVD\" {arguments}"
    );
    finish(
        world
            .command("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", &script])
            .env("ENVD", envd_binary()),
    )
}

#[test]
fn the_error_names_the_switch_and_the_doctor() {
    if !requirement::user_namespaces() || !requirement::program("setpriv") {
        return;
    }
    let Some(world) = World::small() else { return };
    world.wants(&["hello"]);
    world.envd(&["run", "--", "hello"]).ok();
    without_user_namespaces(&world, "run -- hello")
        .fails()
        .says(&["user namespace", "user.max_user_namespaces", "envd doctor"]);
}

#[test]
fn the_doctor_tells_what_is_missing_and_how_to_mend_it() {
    if !requirement::user_namespaces() || !requirement::program("setpriv") {
        return;
    }
    let Some(world) = World::small() else { return };
    let healthy = world.envd(&["doctor"]).ok();
    assert!(healthy.stdout.contains("user-namespaces"), "{healthy}");
    let ill = without_user_namespaces(&world, "doctor");
    assert!(!ill.status.success(), "{ill}");
    let said = format!("{}{}", ill.stdout, ill.stderr);
    assert!(said.contains("user.max_user_namespaces"), "{ill}");
}
