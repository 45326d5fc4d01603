//! What PID 1 hands to its owner out of the environment, by descriptors: the way into its namespaces, and sockets of its network.

use core::ffi::CStr;

use crate::{
    protocol::{self, Failure, Stage},
    sys::{self, Descriptor, constant::*},
};

/// Namespaces in the order in which they are entered: what one may do in the others depends on the first.
const NAMESPACES: [(u64, &CStr); 7] = [
    (CLONE_NEWUSER, c"/proc/self/ns/user"),
    (CLONE_NEWNS, c"/proc/self/ns/mnt"),
    (CLONE_NEWPID, c"/proc/self/ns/pid"),
    (CLONE_NEWIPC, c"/proc/self/ns/ipc"),
    (CLONE_NEWUTS, c"/proc/self/ns/uts"),
    (CLONE_NEWNET, c"/proc/self/ns/net"),
    (CLONE_NEWCGROUP, c"/proc/self/ns/cgroup"),
];

/// Answers [`protocol::JOIN`]: sends descriptors of those namespaces of this process that are asked for.
pub fn namespaces(connection: Descriptor, request: &[u8]) {
    let flags = request.get(4..12).and_then(|flags| flags.try_into().ok());
    let flags = flags.map_or(0, u64::from_ne_bytes);
    let mut opened = [-1; NAMESPACES.len()];
    let mut count = 0;
    let mut failure = None;
    for (_, path) in NAMESPACES.iter().filter(|(flag, _)| flags & flag != 0) {
        match sys::open_at(AT_FDCWD, path, 0, 0) {
            Ok(namespace) => opened[count] = namespace,
            Err(error) => {
                failure = Some(Failure::at(Stage::Join, count as u32, error.0));
                break;
            }
        }
        count += 1;
    }
    answer(connection, protocol::NAMESPACES, &opened[..count], failure);
}

/// Answers [`protocol::SOCKET`]: sends a socket of TCP that is not connected, in this network namespace.
pub fn socket(connection: Descriptor, request: &[u8]) {
    let version = request
        .get(4..8)
        .and_then(|version| version.try_into().ok());
    let version = version.map_or(0, u32::from_ne_bytes);
    let (opened, failure) = match sys::unconnected(version) {
        Ok(socket) => (Some(socket), None),
        Err(error) => (None, Some(Failure::at(Stage::Socket, version, error.0))),
    };
    answer(
        connection,
        protocol::DESCRIPTORS,
        opened.as_slice(),
        failure,
    );
}

/// Sends them, or what was in the way; whoever asked may be gone, and then nobody needs them.
fn answer(connection: Descriptor, tag: u32, opened: &[Descriptor], failure: Option<Failure>) {
    let _ = match failure {
        None => sys::send(connection, &tag.to_ne_bytes(), opened),
        Some(failure) => sys::send(connection, &failure.encode(), &[]),
    };
    opened.iter().for_each(|descriptor| sys::close(*descriptor));
}
