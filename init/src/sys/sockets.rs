//! Sockets.

use core::ffi::CStr;

use super::{Descriptor, Errno, call, constant::*};

/// Descriptors in one packet at most.
pub const MOST_DESCRIPTORS: usize = 16;

/// Bytes of a control message of that many descriptors, and its header.
const CONTROL: usize = 16 + MOST_DESCRIPTORS * 4;

/// `struct msghdr`.
#[repr(C)]
struct Message {
    name: usize,
    name_length: u32,
    parts: *const Part,
    part_count: usize,
    control: *mut u8,
    control_length: usize,
    flags: i32,
}

/// `struct iovec`.
#[repr(C)]
struct Part {
    start: *mut u8,
    length: usize,
}

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// A pair of connected sockets that keep packets apart, closed at exec.
pub fn packet_pair() -> Result<(Descriptor, Descriptor), Errno> {
    let mut pair: [Descriptor; 2] = [-1; 2];
    let kind = SOCK_SEQPACKET | SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors.
    unsafe { call!(SOCKETPAIR, i32::from(AF_UNIX), kind, 0, pair.as_mut_ptr()) }?;
    Ok((pair[0], pair[1]))
}

/// Sends one packet with descriptors; never a signal when the other end is gone.
pub fn send(socket: Descriptor, packet: &[u8], descriptors: &[Descriptor]) -> Result<(), Errno> {
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(Errno(EINVAL));
    }
    let mut control = Control([0; CONTROL]);
    let length = 16 + descriptors.len() * 4;
    control.0[..8].copy_from_slice(&length.to_ne_bytes());
    control.0[8..12].copy_from_slice(&SOL_SOCKET.to_ne_bytes());
    control.0[12..16].copy_from_slice(&SCM_RIGHTS.to_ne_bytes());
    for (place, descriptor) in control.0[16..].chunks_exact_mut(4).zip(descriptors) {
        place.copy_from_slice(&descriptor.to_ne_bytes());
    }
    let part = Part {
        start: packet.as_ptr().cast_mut(),
        length: packet.len(),
    };
    let message = Message {
        name: 0,
        name_length: 0,
        parts: &part,
        part_count: 1,
        control: control.0.as_mut_ptr(),
        control_length: if descriptors.is_empty() {
            0
        } else {
            length.next_multiple_of(8).min(CONTROL)
        },
        flags: 0,
    };
    loop {
        // SAFETY: the message describes `packet` and `control`, which are only read.
        match unsafe { call!(SENDMSG, socket, &raw const message, MSG_NOSIGNAL) } {
            Err(Errno(EINTR)) => {}
            other => return other.map(drop),
        }
    }
}

/// A packet that was received.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Its bytes; more than the buffer has when it was cut.
    pub length: usize,
    /// Descriptors that came with it, this process's to close; the rest is -1.
    pub descriptors: [Descriptor; MOST_DESCRIPTORS],
    /// How many.
    pub count: usize,
}

/// Receives one packet; an empty one is the connection's end. With `wait`, sleeps until there is one.
pub fn receive(socket: Descriptor, buffer: &mut [u8], wait: bool) -> Result<Packet, Errno> {
    let mut control = Control([0; CONTROL]);
    let part = Part {
        start: buffer.as_mut_ptr(),
        length: buffer.len(),
    };
    let mut message = Message {
        name: 0,
        name_length: 0,
        parts: &part,
        part_count: 1,
        control: control.0.as_mut_ptr(),
        control_length: CONTROL,
        flags: 0,
    };
    let flags = MSG_CMSG_CLOEXEC | MSG_TRUNC | if wait { 0 } else { MSG_DONTWAIT };
    let length = loop {
        // SAFETY: the message describes `buffer` and `control`, into which the kernel writes no more than they hold.
        match unsafe { call!(RECVMSG, socket, &raw mut message, flags) } {
            // The other end has closed without reading all. That is told once, before what it said last.
            Err(Errno(ECONNRESET)) => {}
            received => break received?,
        }
    };
    let mut packet = Packet {
        length,
        descriptors: [-1; MOST_DESCRIPTORS],
        count: 0,
    };
    let number = |at: usize| -> i32 {
        let bytes = control
            .0
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, i32::from_ne_bytes)
    };
    // Nothing but descriptors is asked for, so that theirs is the one control message.
    if message.control_length >= 16 && number(8) == SOL_SOCKET && number(12) == SCM_RIGHTS {
        let count = (number(0) as usize).saturating_sub(16) / 4;
        packet.count = count.min(MOST_DESCRIPTORS);
        for (index, place) in packet.descriptors[..packet.count].iter_mut().enumerate() {
            *place = number(16 + index * 4);
        }
    }
    Ok(packet)
}

/// Connects to the socket at `path`, whose packets are kept apart.
pub fn connect_packets(path: &CStr) -> Result<Descriptor, Errno> {
    let mut address = [0u8; 110];
    address[..2].copy_from_slice(&AF_UNIX.to_ne_bytes());
    let bytes = path.to_bytes_with_nul();
    address
        .get_mut(2..2 + bytes.len())
        .ok_or(Errno(EINVAL))?
        .copy_from_slice(bytes);
    let kind = SOCK_SEQPACKET | SOCK_CLOEXEC;
    // SAFETY: touches no memory.
    let socket = unsafe { call!(SOCKET, i32::from(AF_UNIX), kind, 0) }? as Descriptor;
    // SAFETY: the pointer and the length lie within `address`.
    match unsafe { call!(CONNECT, socket, address.as_ptr(), 2 + bytes.len()) } {
        Ok(_) => Ok(socket),
        Err(error) => {
            super::close(socket);
            Err(error)
        }
    }
}

/// The user id of the process at the other end of a Unix socket, as it was when it connected or listened.
pub fn peer_user(socket: Descriptor) -> Result<u32, Errno> {
    let mut credentials: [u32; 3] = [0; 3];
    let mut length: u32 = 12;
    // SAFETY: the option writes three numbers, and the length.
    unsafe {
        call!(
            GETSOCKOPT,
            socket,
            SOL_SOCKET,
            SO_PEERCRED,
            credentials.as_mut_ptr(),
            &raw mut length,
        )
    }?;
    Ok(credentials[1])
}

/// Brings the loopback device of this network namespace up.
pub fn loopback_up() -> Result<(), Errno> {
    let kind = SOCK_DGRAM | SOCK_CLOEXEC;
    // SAFETY: touches no memory.
    let socket = unsafe { call!(SOCKET, i32::from(AF_INET), kind, 0) }? as Descriptor;
    // `struct ifreq`: a name of 16 bytes, then the flags (IFF_UP, IFF_RUNNING).
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&0x41u16.to_ne_bytes());
    // SAFETY: the request reads a structure of this size.
    let done = unsafe { call!(IOCTL, socket, SIOCSIFFLAGS, request.as_ptr()) };
    super::close(socket);
    done.map(drop)
}

/// A TCP socket of this network namespace that is connected to nothing, for version 4 or 6 of IP.
pub fn unconnected(version: u32) -> Result<Descriptor, Errno> {
    let family = match version {
        4 => AF_INET,
        6 => AF_INET6,
        _ => return Err(Errno(EINVAL)),
    };
    // SAFETY: touches no memory.
    let socket = unsafe { call!(SOCKET, i32::from(family), SOCK_STREAM | SOCK_CLOEXEC, 0) }?;
    Ok(socket as Descriptor)
}

/// A socket that listens on a port of the loopback device; 0 for any that is free.
pub fn listen_on_loopback(port: u16) -> Result<Descriptor, Errno> {
    let kind = SOCK_STREAM | SOCK_CLOEXEC;
    // SAFETY: touches no memory.
    let socket = unsafe { call!(SOCKET, i32::from(AF_INET), kind, 0) }? as Descriptor;
    let mut address = [0u8; 16];
    address[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    // SAFETY: the pointer and the length describe `address`.
    let bound = unsafe { call!(BIND, socket, address.as_ptr(), address.len()) };
    // SAFETY: touches no memory.
    let listening = bound.and_then(|_| unsafe { call!(LISTEN, socket, 128) });
    match listening {
        Ok(_) => Ok(socket),
        Err(error) => {
            super::close(socket);
            Err(error)
        }
    }
}
