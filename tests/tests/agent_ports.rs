//! Ports of environments that are published: a server inside answers at the machine's loopback, for as long as its environment is
//! there, and where the policy says so.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use envd_tests::{
    agent::Agent,
    deb::Deb,
    leftovers::Watch,
    programs,
    sandbox::{PATIENCE, Sandbox},
    user::Account,
    world::World,
};
use serde_json::{Value, json};

/// An archive that has a server, too.
fn world() -> Option<World> {
    let mut world = World::small()?;
    let echo = Deb::new("echo", "1.0").program("usr/bin/echoing", programs::echoing());
    world.archive.trixie().add(echo);
    world.publish();
    Some(world)
}

/// Whoever runs the tests, and an ordinary user where that is another, with the server among the project's tools.
fn everyone(world: &World) -> Vec<Sandbox> {
    let ordinary = Account::ordinary().map(|account| world.another_of(Some(account)));
    let all: Vec<_> = std::iter::once(world.another()).chain(ordinary).collect();
    all.iter().for_each(|sandbox| sandbox.wants(&["echo"]));
    all
}

/// Starts the server inside, and waits until it listens.
fn serve(agent: &mut Agent, environment: &str, address: &str, port: u16) {
    let command = ["echoing", address, &port.to_string()];
    let started = agent.ok(
        "command_start",
        json!({"environment": environment, "command": command}),
    );
    let poll = json!({"command": started["command"], "wait_seconds": 60});
    let polled = agent.ok("command_poll", poll);
    assert_eq!(polled["stdout"]["text"], "listening\n", "{polled}");
}

fn publish(agent: &mut Agent, environment: &str, port: u16) -> SocketAddr {
    let arguments = json!({"environment": environment, "port": port});
    let published = agent.ok("port_publish", arguments);
    assert_eq!(published["port"], port);
    published["address"].as_str().unwrap().parse().unwrap()
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What comes back to what is sent, each side ending by itself.
fn echoed(address: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(address)?;
    let mut writer = stream.try_clone()?;
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(bytes);
            let _ = writer.shutdown(Shutdown::Write);
        });
        stream.read_to_end(&mut answer)
    })?;
    Ok(answer)
}

/// Whether what is at an address can be reached no more: it is refused, or ends without a word.
fn is_deaf(address: SocketAddr) -> bool {
    !echoed(address, b"hello").is_ok_and(|answer| !answer.is_empty())
}

#[test]
fn a_server_inside_is_reached_from_the_machine_until_its_environment_ends() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        sandbox.envd(&["run", "--", "true"]).ok();
        let watch = Watch::start(&sandbox);
        let mut agent = Agent::start(&sandbox, &["--publish", "--allow-host", "a.example.org"]);
        for network in [json!("none"), json!({"allow": ["a.example.org"]})] {
            let environment = agent.create(json!({"network": network}));
            let address = publish(&mut agent, &environment, 8080);
            assert!(address.ip().is_loopback() && address.is_ipv4() && address.port() != 0);
            assert!(is_deaf(address), "nobody listens inside yet");
            serve(&mut agent, &environment, "127.0.0.1", 8080);
            // Servers that listen on the newer protocol's loopback alone are found, too.
            serve(&mut agent, &environment, "::1", 8081);
            let six = publish(&mut agent, &environment, 8081);
            assert_eq!(echoed(address, b"hello").unwrap(), b"hello");
            assert_eq!(echoed(six, b"hello").unwrap(), b"hello");
            let long: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
            assert!(echoed(address, &long).unwrap() == long);
            assert_eq!(
                publish(&mut agent, &environment, 8080),
                address,
                "the same again"
            );

            let listed = agent.ok("environment_list", json!({}));
            let ports = &listed["environments"][0]["ports"];
            let expected = json!([
                {"port": 8080, "address": address.to_string()},
                {"port": 8081, "address": six.to_string()},
            ]);
            assert_eq!(*ports, expected);
            let forks = agent.ok("environment_fork", json!({"environment": environment}));
            let fork = &forks["environments"][0];
            assert_eq!(fork.get("ports"), None, "{fork}");
            agent.ok(
                "environment_destroy",
                json!({"environment": fork["environment"]}),
            );

            // What is withdrawn ends, what is left goes on.
            let mut open = connect(six).unwrap();
            open.write_all(b"x").unwrap();
            open.read_exact(&mut [0]).unwrap();
            agent.ok(
                "port_withdraw",
                json!({"environment": environment, "port": 8081}),
            );
            assert!(!matches!(open.read(&mut [0]), Ok(1..)), "it was cut");
            assert!(TcpStream::connect(six).is_err());
            agent.fails(
                "port_withdraw",
                json!({"environment": environment, "port": 8081}),
            );
            assert_eq!(echoed(address, b"still").unwrap(), b"still");

            // The processes go where files are put back, the port stays for those that come after them.
            let snapshot = agent.ok("environment_snapshot", json!({"environment": environment}));
            assert_eq!(echoed(address, b"still").unwrap(), b"still");
            agent.ok(
                "environment_restore",
                json!({"snapshot": snapshot["snapshot"]}),
            );
            assert!(is_deaf(address));
            serve(&mut agent, &environment, "0.0.0.0", 8080);
            assert_eq!(echoed(address, b"again").unwrap(), b"again");

            let mut open = connect(address).unwrap();
            open.write_all(b"x").unwrap();
            open.read_exact(&mut [0]).unwrap();
            agent.ok("environment_destroy", json!({"environment": environment}));
            assert!(
                TcpStream::connect(address).is_err(),
                "nobody listens any more"
            );
            assert!(!matches!(open.read(&mut [0]), Ok(1..)), "it was cut");
        }
        // The client's end is theirs, too.
        let environment = agent.create(json!({}));
        let address = publish(&mut agent, &environment, 8080);
        serve(&mut agent, &environment, "127.0.0.1", 8080);
        let _open = connect(address).unwrap();
        agent.leave();
        assert!(TcpStream::connect(address).is_err());
        watch.assert_nothing_left();
    }
}

/// Off unless somebody says otherwise; and a port outside is taken only where it was named, for it may be the one at which a
/// server of the user's is expected.
#[test]
fn only_what_the_policy_says_is_published() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let on = |environment: &str, more: Value| {
            let mut all = json!({"environment": environment, "port": 8080});
            all.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            all
        };
        let mut agent = Agent::start(&sandbox, &[]);
        let environment = agent.create(json!({}));
        let denied = agent.fails("port_publish", on(&environment, json!({})));
        assert!(
            denied.contains("publish = false") && denied.contains("--publish"),
            "{denied}"
        );
        agent.leave();

        let mut agent = Agent::start(&sandbox, &["--publish"]);
        let environment = agent.create(json!({}));
        let denied = agent.fails("port_publish", on(&environment, json!({"outside": port})));
        assert!(denied.contains(&format!("--publish={port}")), "{denied}");
        agent.ok("port_publish", on(&environment, json!({})));
        for wrong in [
            json!({"port": 0}),
            json!({"outside": 0}),
            json!({"port": 65536}),
        ] {
            let (told, failed) = agent.call("port_publish", on(&environment, wrong));
            assert!(failed, "{told}");
        }
        agent.leave();

        let mut agent = Agent::start(&sandbox, &[&*format!("--publish={port}")]);
        let environment = agent.create(json!({}));
        let taken = agent.fails("port_publish", on(&environment, json!({"outside": port})));
        assert!(taken.contains("something else listens"), "{taken}");
        drop(free);
        let published = agent.ok("port_publish", on(&environment, json!({"outside": port})));
        assert_eq!(published["address"], format!("127.0.0.1:{port}"));
        // Another client cannot have it meanwhile, nor this one's port by a handle that is not theirs.
        let mut other = Agent::start(&sandbox, &["--publish"]);
        other.fails("port_publish", on(&environment, json!({})));
        other.fails("port_withdraw", on(&environment, json!({})));
        other.leave();
        agent.leave();

        // A project can only tighten.
        sandbox.write(
            "envd.toml",
            "[env]\npackages = [\"echo\"]\n[agent]\npublish = false\n",
        );
        let mut agent = Agent::start(&sandbox, &["--publish"]);
        let environment = agent.create(json!({}));
        let denied = agent.fails("port_publish", on(&environment, json!({})));
        assert!(denied.contains("envd.toml:4"), "{denied}");
        agent.leave();
        sandbox.write(
            "envd.toml",
            "[env]\npackages = []\n[agent]\npublish = [3000]\n",
        );
        let refused = sandbox.envd(&["agent", "explain"]).fails();
        assert!(refused.stderr.contains("publish = [3000]"), "{refused}");
        sandbox.envd(&["agent", "explain", "--publish"]).fails();
        let explained = sandbox.envd(&["agent", "explain", "--publish=3000"]).ok();
        assert!(
            explained.stdout.contains("at free ports and [3000]"),
            "{explained}"
        );

        let audit = sandbox.envd(&["agent", "audit", "--json"]).ok();
        for word in [
            "port_publish",
            "port_withdraw",
            "denied",
            &format!("{port}:8080"),
        ] {
            assert!(audit.stdout.contains(word), "{word}: {audit}");
        }
    }
}

/// More connections than an environment may have wait; they take nothing from anybody else.
#[test]
fn ports_and_connections_are_counted() {
    let Some(world) = world() else { return };
    let sandbox = world.another();
    sandbox.wants(&["echo"]);
    let mut agent = Agent::start(&sandbox, &["--publish"]);
    let environment = agent.create(json!({}));
    serve(&mut agent, &environment, "127.0.0.1", 9000);
    let addresses: Vec<_> = (0..16)
        .map(|number| publish(&mut agent, &environment, 9000 + number))
        .collect();
    let more = json!({"environment": environment, "port": 9016});
    let refused = agent.fails("port_publish", more.clone());
    assert!(refused.contains("published ports"), "{refused}");
    agent.ok(
        "port_withdraw",
        json!({"environment": environment, "port": 9015}),
    );
    agent.ok("port_publish", more);

    let mut open: Vec<_> = (0..128)
        .map(|_| {
            let mut stream = connect(addresses[0]).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream
        })
        .collect();
    let mut late = connect(addresses[0]).unwrap();
    late.write_all(b"x").unwrap();
    late.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(late.read(&mut [0]).is_err(), "it has to wait");
    // The agent is answered all the same, and another environment's port, too.
    let other = agent.create(json!({}));
    serve(&mut agent, &other, "127.0.0.1", 9000);
    let address = publish(&mut agent, &other, 9000);
    assert_eq!(echoed(address, b"free").unwrap(), b"free");
    open.truncate(100);
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    late.read_exact(&mut [0]).unwrap();
    let began = Instant::now();
    agent.ok("environment_destroy", json!({"environment": environment}));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "nobody was waited for"
    );
    agent.leave();
}

/// The same by the command line, where a person says what is published.
#[test]
fn ports_are_published_from_the_command_line() {
    let Some(world) = world() else { return };
    for sandbox in everyone(&world) {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let both = format!("{port}:8080");
        let created = sandbox
            .envd(&["agent", "create", "--name", "try", "--publish", &both])
            .ok();
        let address = format!("127.0.0.1:{port}");
        assert!(
            created
                .stderr
                .contains(&format!("port 8080 is at {address}")),
            "{created}"
        );
        sandbox
            .envd(&[
                "agent",
                "run",
                "try",
                "--detach",
                "--",
                "echoing",
                "127.0.0.1",
                "8080",
            ])
            .ok();
        let end = Instant::now() + PATIENCE;
        while echoed(address.parse().unwrap(), b"hello").ok() != Some(b"hello".to_vec()) {
            assert!(Instant::now() < end, "nobody answers");
            std::thread::sleep(Duration::from_millis(20));
        }
        let listed = sandbox.envd(&["agent", "ls"]).ok();
        assert!(
            listed.stdout.contains(&format!("port 8080 at {address}")),
            "{listed}"
        );
        let second = sandbox
            .envd(&["agent", "publish", "try", "8080", "8081"])
            .ok();
        let lines: Vec<_> = second.stdout.lines().collect();
        assert!(lines.len() == 2 && lines[0] == address, "{second}");
        let moved = sandbox.envd(&["agent", "publish", "try", "1:8080"]).fails();
        moved.says(&[&address, "--withdraw"]);
        sandbox
            .envd(&["agent", "publish", "try", "8080", "--withdraw"])
            .ok();
        assert!(is_deaf(address.parse().unwrap()));

        // What cannot be published as it was asked for is not lent without.
        let held = TcpListener::bind(&address).unwrap();
        let taken = sandbox
            .envd(&["agent", "create", "--name", "second", "--publish", &both])
            .fails();
        taken.says(&["something else listens"]);
        let host = [
            "agent",
            "create",
            "--name",
            "second",
            "--network",
            "host",
            "--publish",
            "8080",
        ];
        sandbox.envd(&host).fails().says(&["machine's network"]);
        let way_out = [
            "agent",
            "create",
            "--name",
            "second",
            "--allow-host",
            "a.example.org",
            "--publish",
            "3128",
        ];
        sandbox.envd(&way_out).fails().says(&["way out"]);
        drop(held);
        let listed = sandbox.envd(&["agent", "ls"]).ok();
        assert!(!listed.stdout.contains("second"), "{listed}");
        sandbox.envd(&["agent", "publish", "try", &both]).ok();
        sandbox.envd(&["agent", "rm", "try"]).ok();
        assert!(TcpStream::connect(&address).is_err());
        sandbox.envd(&["daemon", "stop"]).ok();
    }
}
