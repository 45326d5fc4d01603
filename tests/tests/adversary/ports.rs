//! Ports that are published: a way in, which is to be none to anything else.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use envd_tests::agent::Agent;
use serde_json::json;

use crate::ground::{everyone, held, on};

fn publish(agent: &mut Agent, environment: &str, port: u16) -> SocketAddr {
    let published = agent.ok("port_publish", on(environment, json!({"port": port})));
    published["address"].as_str().unwrap().parse().unwrap()
}

/// What is answered at an address, if anything is.
fn answer(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Gain: a server of the machine, or of another environment, reached by way of a port that is published; or the port itself, from another
/// machine or from another environment.
/// Must happen: it leads to the loopback of its own environment and nowhere else, also where nobody listens there and somebody does at the
/// same number outside; it listens on 127.0.0.1 alone, which no environment sees; the way out of an environment is not published.
/// Guard: `Way::connect_to` and `listen` (`envd/src/agents/ports.rs`), `Resident::ask_for_socket` (`shims/src/sockets.rs`).
/// Seen to fail: with a socket of the machine's own network in the place of the environment's; with `listen` on all addresses.
#[test]
fn published_ports_lead_into_their_own_environment_alone() {
    for ground in everyone() {
        let machine = TcpListener::bind("127.0.0.1:0").unwrap();
        machine.set_nonblocking(true).unwrap();
        let port = machine.local_addr().unwrap().port();
        let user = ground.user;
        let mut agent = Agent::start(&ground, &["--publish", "--allow-host", "a.example.org"]);
        let other = agent.create(json!({"network": "none"}));
        for network in [json!("none"), json!({"allow": ["a.example.org"]})] {
            let environment = agent.create(json!({"network": network}));
            let address = publish(&mut agent, &environment, port);
            // One in which somebody listens at that number, too.
            let serve = json!({"command": ["attacker", &format!("upstream={port}")]});
            let started = agent.ok("command_start", on(&other, serve.clone()));
            let poll = json!({"command": started["command"], "wait_seconds": 60});
            agent.ok("command_poll", poll);
            assert_eq!(answer(address), None, "as {user}");
            assert!(
                machine.accept().is_err(),
                "as {user}: the machine's server was reached"
            );
            let reached = publish(&mut agent, &other, port);
            assert!(
                answer(reached).is_some_and(|text| text.contains("upstream")),
                "as {user}"
            );
            agent.ok("port_withdraw", on(&other, json!({"port": port})));
            agent.ok(
                "command_signal",
                json!({"command": started["command"], "signal": "KILL"}),
            );

            // The machine's other addresses are not listened on. Nothing is sent: it only chooses where from.
            let own = UdpSocket::bind("0.0.0.0:0").unwrap();
            if own.connect("192.0.2.1:9").is_ok() {
                let elsewhere = SocketAddr::new(own.local_addr().unwrap().ip(), address.port());
                if !elsewhere.ip().is_loopback() {
                    assert!(
                        TcpStream::connect(elsewhere).is_err(),
                        "as {user}: {elsewhere}"
                    );
                }
            }
            let attack = format!("tcp=127.0.0.1,{}", address.port());
            for inside in [&environment, &other] {
                held(&mut agent, inside, user, &[(&attack, &["ECONNREFUSED"])]);
            }
            if network != json!("none") {
                let told = agent.fails("port_publish", on(&environment, json!({"port": 3128})));
                assert!(told.contains("way out"), "as {user}: {told}");
            }
            agent.ok("environment_destroy", on(&environment, json!({})));
        }
        agent.leave();
    }
}
