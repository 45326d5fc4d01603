//! The proxy where it belongs: its listener made inside an otherwise empty network namespace and handed out. From inside
//! nothing but the proxy leads anywhere; from outside nobody reaches the proxy.

use std::{io::IoSliceMut, mem::MaybeUninit, os::fd::OwnedFd, os::unix::net::UnixListener};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::process::Command;

use super::*;

/// Plays the launcher and then the agent: listens, hands the socket out, waits for the proxy, and tries all ways.
const INSIDE: &str = r#"
import array, errno, fcntl, json, os, socket, struct, sys, urllib.request
control, origin = sys.argv[1], sys.argv[2]
lo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(lo, 0x8914, struct.pack('16sh22x', b'lo', 0x1 | 0x40))
listener = socket.create_server(('127.0.0.1', 0))
port = listener.getsockname()[1]
outside = socket.socket(socket.AF_UNIX)
outside.connect(control)
socket.send_fds(outside, [b'x'], [listener.fileno()])
listener.close()
outside.recv(1)

def attempt(action):
    try:
        action()
        return 'through'
    except OSError as error:
        return errno.errorcode.get(error.errno, 'failed')

def tcp(family, address, protocol=0):
    with socket.socket(family, socket.SOCK_STREAM, protocol) as stream:
        stream.settimeout(5)
        stream.connect(address)

def datagram(family, kind, protocol, address):
    with socket.socket(family, kind, protocol) as sender:
        sender.sendto(b'\x08\0\xf7\xff\0\0\0\0', address)

def get(name):
    proxy = urllib.request.ProxyHandler({'http': f'http://127.0.0.1:{port}'})
    return urllib.request.build_opener(proxy).open(f'http://{name}/', timeout=20).status

print(json.dumps({
    'allowed by proxy': get('allowed.example.org'),
    'denied by proxy': attempt(lambda: get('other.example.org')),
    'the server itself': attempt(lambda: tcp(socket.AF_INET, (origin, 20080))),
    'TCP': attempt(lambda: tcp(socket.AF_INET, ('1.1.1.1', 443))),
    'MPTCP': attempt(lambda: tcp(socket.AF_INET, ('1.1.1.1', 443), 262)),
    'IPv6': attempt(lambda: tcp(socket.AF_INET6, ('2606:4700::1111', 443))),
    'metadata': attempt(lambda: tcp(socket.AF_INET, ('169.254.169.254', 80))),
    'UDP': attempt(lambda: datagram(socket.AF_INET, socket.SOCK_DGRAM, 0, ('8.8.8.8', 53))),
    'ICMP': attempt(lambda: datagram(socket.AF_INET, socket.SOCK_RAW, 1, ('8.8.8.8', 0))),
    'raw': attempt(lambda: datagram(socket.AF_INET, socket.SOCK_RAW, 255, ('8.8.8.8', 0))),
    'names': attempt(lambda: socket.getaddrinfo('allowed.example.org', 80)),
}))
"#;

/// Takes the descriptor that comes with a byte.
fn receive_descriptor(stream: &std::os::unix::net::UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        flags,
    )
    .unwrap();
    let mut received = ancillary.drain();
    let Some(RecvAncillaryMessage::ScmRights(mut descriptors)) = received.next() else {
        panic!("no descriptor came");
    };
    descriptors.next().expect("a descriptor")
}

#[tokio::test]
async fn from_an_empty_namespace_only_the_proxy_leads_out() {
    let unshare = ["--user", "--map-root-user", "--net"];
    let works = || {
        std::process::Command::new("unshare")
            .args(unshare)
            .arg("true")
            .output()
    };
    let namespaces =
        clients::present("unshare") && works().is_ok_and(|output| output.status.success());
    if !clients::met("network namespaces of its own", namespaces) || !clients::present("python3") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("control");
    let handing = UnixListener::bind(&control).unwrap();
    let here = own_address();
    let server = Origin::start(here, 80).await;
    let mut inside = Command::new("unshare")
        .args(unshare)
        .args(["python3", "-c", INSIDE])
        .arg(&control)
        .arg(here.to_string())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let handed = tokio::task::spawn_blocking(move || {
        let (stream, _) = handing.accept().unwrap();
        let descriptor = receive_descriptor(&stream);
        (stream, descriptor)
    });
    let (launcher, listener) = tokio::select! {
        handed = timeout(PATIENCE, handed) => handed.expect("a listener").unwrap(),
        status = inside.wait() => {
            // The accepting thread waits for somebody who will not come.
            drop(std::os::unix::net::UnixStream::connect(&control));
            panic!("inside ended: {status:?}");
        }
    };
    let mut plan = Plan::new(&["allowed.example.org"]);
    plan.ports = Vec::new();
    plan.names
        .push(("allowed.example.org", vec![vec![here.into()]]));
    let mut world = plan.start_on(listener.into()).await;
    io::Write::write_all(&mut &launcher, b"x").unwrap();
    let output = timeout(3 * PATIENCE, inside.wait_with_output())
        .await
        .expect("an end")
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let tried: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap();
    for (way, result) in &tried {
        if way == "allowed by proxy" {
            assert_eq!(result, 200);
        } else {
            assert_ne!(result, "through", "{way}: {tried:?}");
        }
    }
    for way in ["TCP", "IPv6", "metadata", "UDP", "ICMP", "raw"] {
        assert_eq!(tried[way], "ENETUNREACH", "{way}");
    }
    assert_eq!(server.received.lock().unwrap().len(), 1);
    assert!(matches!(world.event().await, Event::Allowed { .. }));
    assert!(matches!(world.event().await, Event::Closed { .. }));
    assert_eq!(world.refusal().await.reason(), "not-listed");
    // The port that the socket has is one inside: here nobody finds it.
    assert!(TcpStream::connect(world.proxy).await.is_err());
}
