//! The resident launcher: a process of a few pages that makes environments on request, because a copy of a small process costs
//! a tenth of a copy of a large one, and because a process with threads must not be copied at all.
//!
//! It reads requests from one socket and ends with it. Every PID 1 that it made ends with it.

use crate::{
    launch,
    program::{self, Program},
    protocol::{
        AMEND, AMEND_FILE, FAILURE_LENGTH, Failure, LAUNCH, LAUNCH_FILE, LAUNCHED, LONGEST_PACKET,
        Stage,
    },
    serve,
    sys::{self, Descriptor, Disposition, Errno, Packet, Region, Start, constant::*},
};

/// The socket is what it inherits as standard input.
const SOCKET: Descriptor = 0;

/// Serves until the socket's other end closes; gives the exit code.
pub fn run(_: &Start) -> i32 {
    // What its owner happens to ignore is nothing to what runs in environments.
    for signal in 1..=64 {
        let _ = sys::set_disposition(signal, Disposition::Default);
    }
    // Their ends need no one: whoever wants to know has a pidfd.
    if sys::set_disposition(SIGCHLD, Disposition::Ignore).is_err() {
        return 1;
    }
    // PID 1 keeps the standard descriptors, and must not keep this.
    let moved = sys::move_above(SOCKET, 3).and_then(|moved| {
        sys::duplicate_to(1, SOCKET)?;
        Ok(moved)
    });
    let Ok(socket) = moved else {
        return 1;
    };
    let Ok(mut buffer) = Region::new(LONGEST_PACKET) else {
        return 1;
    };
    loop {
        let bytes = buffer.bytes_mut();
        let packet = match sys::receive(socket, bytes, true) {
            Ok(packet) if packet.length > 0 => packet,
            Err(Errno(EINTR)) => continue,
            Ok(_) | Err(_) => return 0,
        };
        let bytes = bytes.get(..packet.length).unwrap_or_default();
        match launch(bytes, &packet) {
            Ok(launched) => {
                let mut answer = [0; 8];
                answer[..4].copy_from_slice(&LAUNCHED.to_ne_bytes());
                answer[4..].copy_from_slice(&launched.pid.to_ne_bytes());
                let _ = sys::send(socket, &answer, &[launched.pidfd]);
                sys::close(launched.pidfd);
            }
            Err(failure) => {
                let answer: [u8; FAILURE_LENGTH] = failure.encode();
                let _ = sys::send(socket, &answer, &[]);
            }
        }
        packet.descriptors[..packet.count]
            .iter()
            .for_each(|descriptor| sys::close(*descriptor));
    }
}

fn launch(bytes: &[u8], packet: &Packet) -> Result<launch::Launched, Failure> {
    let malformed = Failure::at(Stage::Malformed, 0, 0);
    let (tag, body) = bytes.split_at_checked(4).ok_or(malformed)?;
    let owner = match packet.count {
        0 => return Err(malformed),
        _ => packet.descriptors[0],
    };
    let mut given = packet.count;
    let file;
    let tag = u32::from_ne_bytes(tag.try_into().map_err(|_| malformed)?);
    let body = match tag {
        LAUNCH | AMEND => body,
        LAUNCH_FILE | AMEND_FILE if given > 1 => {
            given -= 1;
            let length = body.try_into().map_err(|_| malformed)?;
            let last = packet.descriptors[given];
            file = serve::contents(last, u32::from_ne_bytes(length), program::LONGEST)?;
            file.bytes()
        }
        _ => return Err(malformed),
    };
    let program = Program::parse(body).map_err(|_| malformed)?;
    match (tag, &packet.descriptors[1..given]) {
        (LAUNCH | LAUNCH_FILE, more) => {
            launch::launch(&program, None, owner, None, more.first().copied())
        }
        (_, [users, mounts]) => launch::amend(&program, owner, *users, *mounts),
        _ => Err(malformed),
    }
}
