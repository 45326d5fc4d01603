//! Sockets outside: of the session, of daemons, of envd itself.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    path::PathBuf,
};

use envd_tests::agent::Agent;
use serde_json::json;

use crate::ground::{Ground, all, everyone, held};

/// Whether somebody connected.
fn met(listener: &UnixListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_ok()
}

/// What the attacker's program comes to outside, as the same user.
fn outside(ground: &Ground, attack: &str) -> String {
    let output = ground
        .command(ground.attacker())
        .arg(attack)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Gain: the session's keys (ssh-agent), its bus (D-Bus), the machine (docker.sock), envd's own daemon; also where they lie in the
/// project, which is lent.
/// Must happen: no path leads to one; one in the project is there and nobody answers behind it.
/// Guard: the mount namespace; overlayfs, whose sockets are not those below (`Layered::mount`).
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn sockets_with_a_path() {
    for ground in everyone() {
        let names = [
            "run/bus",
            "run/docker.sock",
            "run/envd.sock",
            "tmp/agent.1",
            "home/gpg-agent",
            "project/docker.sock",
        ];
        let listeners: Vec<(PathBuf, UnixListener)> = names
            .iter()
            .map(|name| {
                let path = ground.path(name);
                let listener = UnixListener::bind(&path).unwrap();
                (path, listener)
            })
            .collect();
        ground.hand_over();
        let (mut agent, environment) = ground.agent();
        for (path, listener) in &listeners {
            let attack = format!("unix_path={}", path.display());
            assert_eq!(
                outside(&ground, &attack),
                format!("{attack}: SUCCEEDED"),
                "as {}",
                ground.user
            );
            assert!(met(listener));
            let attacks = all(
                std::slice::from_ref(&attack.as_str()),
                &["ENOENT", "ECONNREFUSED", "EACCES"],
            )
            .to_vec();
            held(&mut agent, &environment, ground.user, &attacks);
            assert!(!met(listener), "{} as {}", path.display(), ground.user);
        }
        for well_known in [
            "/run/docker.sock",
            "/var/run/docker.sock",
            "/run/dbus/system_bus_socket",
            "/run/containerd/containerd.sock",
            "/run/systemd/private",
            "/run/systemd/journal/socket",
            "/dev/log",
            "/tmp/.X11-unix/X0",
        ] {
            let attack = format!("unix_path={well_known}");
            held(
                &mut agent,
                &environment,
                ground.user,
                &[(&attack, &["ENOENT", "ENOTDIR"])],
            );
        }
        agent.leave();
    }
}

/// Gain: the daemon of this very project, which starts what it is told to, outside the agent's walls.
/// Must happen: it is not there.
/// Guard: the mount namespace; `/run` is the environment's own.
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn our_own_daemon() {
    for ground in everyone() {
        ground.envd(&["daemon", "start"]).ok();
        let mut sockets = Vec::new();
        let mut waiting = vec![ground.path("run")];
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                use std::os::unix::fs::FileTypeExt as _;
                let kind = entry.file_type().unwrap();
                match kind.is_dir() {
                    true => waiting.push(entry.path()),
                    false if kind.is_socket() => sockets.push(entry.path()),
                    false => {}
                }
            }
        }
        let (mut agent, environment) = ground.agent();
        assert!(!sockets.is_empty(), "the daemon listens");
        for socket in &sockets {
            let attack = format!("unix_path={}", socket.display());
            held(
                &mut agent,
                &environment,
                ground.user,
                &[(&attack, &["ENOENT"])],
            );
        }
        let runtime = agent.run(&environment, "ls -AR $XDG_RUNTIME_DIR; find /run -type s");
        assert!(!runtime.contains("envd"), "{runtime}");
        agent.leave();
        ground.envd(&["daemon", "stop"]).ok();
    }
}

/// Gain: X11, D-Bus and containerd by their abstract names, which no mount namespace hides (CVE-2020-15257).
/// Must happen: refused without a network, with a list, and with the machine's network.
/// Guard: the network namespace; with the machine's network Landlock's scope (`scope_abstract_sockets` in `Policy::strict`).
/// Seen to fail: with `Operation::LandlockEnter` left out, with the machine's network.
#[test]
fn abstract_sockets() {
    for ground in everyone() {
        let name = format!("envd-test-{}-{}", std::process::id(), ground.user.len());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let attack = format!("unix_abstract={name}");
        assert_eq!(outside(&ground, &attack), format!("{attack}: SUCCEEDED"));
        assert!(met(&listener));
        let options = ["--allow-host-network", "--allow-host", "a.example.org"];
        let mut agent = Agent::start(&ground, &options);
        for network in [
            json!("none"),
            json!({"allow": ["a.example.org"]}),
            json!("host"),
        ] {
            let environment = agent.create(json!({"network": network}));
            held(
                &mut agent,
                &environment,
                ground.user,
                &[(&attack, &["ECONNREFUSED", "EPERM"])],
            );
            assert!(!met(&listener), "{network} as {}", ground.user);
        }
        agent.leave();
    }
}

/// Gain: shared memory, queues and semaphores of processes outside (System V IPC and POSIX queues).
/// Must happen: there are none.
/// Guard: `Namespaces::ipc` in `Policy::strict`.
/// Seen to fail: with `ipc: false` there.
#[test]
fn shared_memory_outside() {
    for ground in everyone() {
        let made = ground
            .command("ipcmk")
            .args(["--shmem", "4096"])
            .output()
            .unwrap();
        let made = String::from_utf8_lossy(&made.stdout).into_owned();
        let id = made.trim().rsplit(' ').next().unwrap().to_owned();
        let (mut agent, environment) = ground.agent();
        let seen = agent.run(&environment, "tail -n +2 /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | grep -v '^==>' | grep .; ls -A /dev/shm; true");
        let removed = ground
            .command("ipcrm")
            .args(["--shmem-id", &id])
            .output()
            .unwrap();
        assert!(removed.status.success(), "{made}");
        assert_eq!(seen, "", "as {}", ground.user);
        agent.leave();
    }
}
