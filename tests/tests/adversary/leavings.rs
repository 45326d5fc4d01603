//! What sessions leave for each other.

use serde_json::json;

use crate::ground::{all, everyone, held, on, shell};

/// Gain: what another session, perhaps of another project, left in its directories; or a way to leave something there for it.
/// Must happen: directories that are used again are like new, and those that are not are not used again.
/// Guard: `clean` in `envd/src/agents/pairs.rs`.
/// Seen to fail: with each of its parts taken out; see `CASES.md`.
#[test]
fn directories_that_are_used_again() {
    for ground in everyone() {
        let (mut agent, first) = ground.agent();
        let project = ground.project();
        let home = agent.run(&first, "printf %s ~");
        let places = [&*home, "/tmp", project.to_str().unwrap()];
        let each = |names: &[&str]| -> Vec<String> {
            let of = |place: &&str| -> Vec<String> {
                names.iter().map(|name| format!("{name}={place}")).collect()
            };
            places.iter().flat_map(of).collect()
        };
        let (found, left) = (each(&["xattr_found", "flag_found"]), each(&["xattr_left"]));
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        let left: Vec<&str> = left.iter().map(String::as_str).collect();
        let look = "stat -c '%a %u %s' ~ /tmp . && ls -A ~ /tmp && ls -A . | grep -v envd";
        let fresh = shell(&mut agent, &first, look);
        let lived = [
            // Nothing but what a directory has beside its names.
            "attacker $LEFT",
            "attacker $FLAGS",
            "chmod 777 ~ /tmp .",
            // Names, and names that are gone again.
            "echo x > ~/left; echo x > /tmp/left; echo x > left",
            "for d in ~ /tmp .; do i=0; while [ $i -lt 1000 ]; do : > $d/a-rather-long-name-$i; i=$((i+1)); done; \
             rm $d/a-rather-long-name-*; done",
        ];
        agent.ok("environment_destroy", on(&first, json!({})));
        for line in lived.iter().cycle().take(3 * lived.len()) {
            let environment = agent.create(json!({}));
            assert_eq!(shell(&mut agent, &environment, look), fresh, "after others");
            let nothing = all(&found, &["ENODATA", "EOPNOTSUPP", "ENOTTY"]);
            held(&mut agent, &environment, ground.user, &nothing);
            if line.contains("LEFT") {
                held(
                    &mut agent,
                    &environment,
                    ground.user,
                    &all(&left, &["SUCCEEDED"]),
                );
            } else if line.contains("FLAGS") {
                // Where the file system has such a thing.
                for place in places {
                    shell(
                        &mut agent,
                        &environment,
                        &format!("attacker flag_left={place}"),
                    );
                }
            } else {
                agent.run(&environment, line);
            }
            agent.ok("environment_destroy", on(&environment, json!({})));
        }
        agent.leave();
    }
}
