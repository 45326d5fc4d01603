//! A machine with a network of its own, in which servers with public addresses answer: the real proxy, all the way.

use std::{path::PathBuf, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use envd_tests::{agent::Agent, programs, sandbox::set_mode};
use serde_json::json;

use crate::ground::{Ground, on};

/// What the proxy answers to bytes sent to it from inside.
pub fn ask(agent: &mut Agent, environment: &str, bytes: &[u8]) -> String {
    let write =
        json!({"path": "/tmp/question", "content": STANDARD.encode(bytes), "encoding": "base64"});
    agent.ok("file_write", on(environment, write));
    let ended = agent.ok(
        "command_run",
        on(
            environment,
            json!({"command": "nc 127.0.0.1 3128 < /tmp/question | head -c 4096"}),
        ),
    );
    ended["stdout"]["head"].as_str().unwrap().to_owned()
}

/// A ClientHello that asks for a name.
pub fn client_hello(name: &str) -> Vec<u8> {
    let long = |bytes: Vec<u8>| [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
    let host = [&[0][..], &long(name.as_bytes().to_vec())].concat();
    let extension = [&[0, 0][..], &long(long(host))].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &long(vec![0x13, 0x01]),
        &[1, 0],
        &long(extension),
    ]
    .concat();
    let length = (body.len() as u32).to_be_bytes();
    let handshake = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &long(handshake)].concat()
}

/// See the module. Where a leaf certificate lies in the ground, somebody speaks TLS at port 8443 of sealed.example.org, once.
pub struct Wild {
    pub agent: Agent,
    pub environment: String,
    record: PathBuf,
}

impl Wild {
    pub fn start(ground: &Ground) -> Self {
        let hosts = ground.path("hosts");
        std::fs::write(
            &hosts,
            // With the dot that keeps search domains away.
            "11.0.0.2 good.example.org. other.example.org. sealed.example.org.\n169.254.169.254 meta.example.org.\n\
             127.0.0.1 loop.example.org. localhost\n10.0.0.1 private.example.org.\n11.0.0.1 own.example.org.\n\
             ::ffff:169.254.169.254 mapped.example.org.\n",
        )
        .unwrap();
        set_mode(&hosts, 0o644);
        let resolv = ground.path("hosts.resolv");
        std::fs::write(&resolv, "nameserver 127.0.0.1\n").unwrap();
        set_mode(&resolv, 0o644);
        let names = ground.path("names");
        std::fs::write(&names, programs::name_server()).unwrap();
        set_mode(&names, 0o755);
        // In there nothing can be fetched.
        ground.envd(&["run", "--", "true"]).ok();
        let record = ground.path("tmp").join("record");
        let envd = ground.envd_command(&[]).get_program().to_owned();
        let mut command: Command = ground.command("unshare");
        if !nix::unistd::geteuid().is_root() || ground.user != "root" {
            command.args(["--user", "--map-root-user"]);
        }
        let script = "set -e
            mount --make-rprivate /
            mount --bind \"$1\" /etc/hosts
            mount --bind \"$1.resolv\" /etc/resolv.conf
            ip link set lo up
            ip link add near type veth peer name far
            mkfifo \"$2.go\"
            unshare --net sh -c 'echo $$ > \"$1.pid\"; read line < \"$1.go\"; ip addr add 11.0.0.2/24 dev far
                ip addr add 169.254.169.254/32 dev far; ip link set far up
                if test -e \"$2/leaf.crt\"; then
                    { cat \"$2/said\"; exec setpriv --pdeathsig KILL sleep 1000; } | setpriv --pdeathsig KILL openssl s_server \
                        -quiet -accept 8443 -cert \"$2/leaf.crt\" -key \"$2/leaf.key\" > \"$1.tls\" 2>&1 &
                fi
                exec \"$0\" upstream=443,80,8080,22' \"$3\" \"$2\" \"$5\" > \"$2\" 2>&1 < /dev/null &
            until test -s \"$2.pid\"; do sleep 0.01; done
            ip link set far netns $(cat \"$2.pid\")
            ip addr add 11.0.0.1/24 dev near
            ip link set near up
            ip route add 169.254.169.254/32 dev near
            echo go > \"$2.go\"
            until grep -q listening \"$2\"; do sleep 0.01; done
            \"$3\" upstream=443,80 > \"$2.near\" 2>&1 < /dev/null &
            until grep -q listening \"$2.near\"; do sleep 0.01; done
            \"$4\" 'turns.example.org=11.0.0.2;169.254.169.254' 'back.example.org=169.254.169.254;11.0.0.2' \
                'both.example.org=11.0.0.2,169.254.169.254' > \"$2.names\" 2>&1 < /dev/null &
            until grep -q listening \"$2.names\"; do sleep 0.01; done
            exec \"$0\" agent mcp --allow-host '*.example.org' --allow-host '*.example.org:8080' \
                --allow-host '*.example.org:8443'";
        command
            .args(["--net", "--mount", "sh", "-c", script])
            .arg(envd)
            .arg(&hosts)
            .arg(&record)
            .arg(ground.attacker())
            .arg(&names)
            .arg(ground.directory());
        let mut agent = Agent::by(&mut command);
        let names = [
            "good", "meta", "loop", "private", "own", "mapped", "nowhere", "turns", "back", "both",
        ];
        let mut list: Vec<String> = names
            .iter()
            .map(|name| format!("{name}.example.org"))
            .collect();
        list.extend(["good.example.org:8080", "sealed.example.org:8443"].map(str::to_owned));
        let environment = agent.create(json!({"network": {"allow": list}}));
        Self {
            agent,
            environment,
            record,
        }
    }

    pub fn ask(&mut self, bytes: &[u8]) -> String {
        ask(&mut self.agent, &self.environment, bytes)
    }

    /// What the upstream has been sent, once this is in it: it answers before it writes that down.
    #[track_caller]
    pub fn record_with(&self, last: &str) -> String {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let record = self.record();
            if record.contains(last) {
                return record;
            }
            assert!(
                std::time::Instant::now() < end,
                "{last:?} is not in {record}"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// What the upstream has been sent.
    pub fn record(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.record).unwrap()).into_owned()
    }

    /// What the server that speaks TLS has been sent.
    pub fn sealed(&self) -> String {
        std::fs::read_to_string(self.record.with_extension("tls")).unwrap()
    }

    /// How often the name server was asked for a name.
    pub fn looked_up(&self, name: &str) -> usize {
        let asked = std::fs::read_to_string(self.record.with_extension("names")).unwrap();
        asked.lines().filter(|line| *line == name).count()
    }
}
