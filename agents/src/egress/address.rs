//! Which addresses may be connected to: those that belong to one host on the public Internet.
//!
//! A name on the list is no reason to trust where it points: whoever runs its zone could point it into the network of the
//! machine. The ranges are those of the IANA special-purpose registries (RFC 6890 and its successors).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far the proxy reaches.
///
/// A type without any way from text: no configuration file, variable or argument can name its second value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Global unicast addresses only.
    Global,
    /// Loopback, too. For tests, whose servers live there.
    LoopbackForTests {
        /// What is added to ports below 1024, on which an ordinary user's servers cannot listen.
        low_ports_at: u16,
    },
}

/// Why an address is not connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotGlobal {
    /// `0.0.0.0/8`, `::`.
    #[error("an unspecified address")]
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    #[error("a loopback address")]
    Loopback,
    /// RFC 1918, RFC 4193, `fec0::/10`.
    #[error("a private address")]
    Private,
    /// RFC 6598, `100.64.0.0/10`.
    #[error("an address of a carrier's own network")]
    Shared,
    /// `169.254.0.0/16`, `fe80::/10`: also where clouds keep credentials.
    #[error("a link-local address")]
    LinkLocal,
    /// An address at which a cloud answers its own machines.
    #[error("an address of the cloud's own services")]
    CloudService,
    /// A public address that this machine itself has.
    #[error("an address of this very machine")]
    Own,
    /// To many.
    #[error("a multicast address")]
    Multicast,
    /// To all.
    #[error("a broadcast or reserved address")]
    Reserved,
    /// Documentation and benchmarks.
    #[error("an address for documentation or benchmarks")]
    Documentation,
    /// IPv4 inside IPv6 in a way that leads elsewhere: 6to4, Teredo, local NAT64, IPv4-compatible.
    #[error("an address of a transition mechanism")]
    Transition,
}

impl Reach {
    /// The address to connect to: `address`, an IPv4-mapped one as the IPv4 address that it is.
    pub fn check(self, address: IpAddr) -> Result<IpAddr, NotGlobal> {
        let address = address.to_canonical();
        if matches!(self, Self::LoopbackForTests { .. }) && address.is_loopback() {
            return Ok(address);
        }
        match address {
            IpAddr::V4(address) => check_v4(address)?,
            IpAddr::V6(address) => check_v6(address)?,
        }
        Ok(address)
    }

    /// Whether a connection that was made goes to this machine itself: only then do both ends have the same address. What
    /// listens on all of a machine's addresses is often meant for the machine alone.
    pub(super) fn check_ends(self, local: IpAddr, remote: IpAddr) -> Result<(), NotGlobal> {
        if local == remote && self == Self::Global {
            return Err(NotGlobal::Own);
        }
        Ok(())
    }

    /// The port to connect to where `port` was asked for.
    pub(super) fn port(self, port: u16) -> u16 {
        match self {
            Self::LoopbackForTests { low_ports_at } if port < 1024 => low_ports_at + port,
            _ => port,
        }
    }
}

fn check_v4(address: Ipv4Addr) -> Result<(), NotGlobal> {
    Err(match address.octets() {
        [0, ..] => NotGlobal::Unspecified,
        [127, ..] => NotGlobal::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => NotGlobal::Private,
        [100, 64..=127, ..] => NotGlobal::Shared,
        [169, 254, ..] => NotGlobal::LinkLocal,
        // Azure answers its machines here, extensions' settings included.
        [168, 63, 129, 16] => NotGlobal::CloudService,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18..=19, ..] => {
            NotGlobal::Documentation
        }
        // IETF protocol assignments; the relays of 6to4.
        [192, 0, 0, _] => NotGlobal::Reserved,
        [192, 88, 99, _] => NotGlobal::Transition,
        [224..=239, ..] => NotGlobal::Multicast,
        [240..=255, ..] => NotGlobal::Reserved,
        _ => return Ok(()),
    })
}

fn check_v6(address: Ipv6Addr) -> Result<(), NotGlobal> {
    let segments = address.segments();
    // The low 32 bits, in which NAT64 keeps the IPv4 address (RFC 6052, section 2.2, for a prefix of 96 bits).
    let [.., a, b, c, d] = address.octets();
    Err(match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => NotGlobal::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => NotGlobal::Loopback,
        // Where DNS64 is the way to the IPv4 Internet, every name has such addresses.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => return check_v4(Ipv4Addr::new(a, b, c, d)),
        [0..=0xff, ..] => NotGlobal::Transition,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => NotGlobal::Documentation,
        // Teredo, benchmarks, ORCHID and what else RFC 2928 set aside.
        [0x2001, 0..=0x1ff, ..] | [0x2002, ..] => NotGlobal::Transition,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => NotGlobal::Private,
        [0xfe80..=0xfebf, ..] => NotGlobal::LinkLocal,
        [0xff00..=0xffff, ..] => NotGlobal::Multicast,
        [0x2000..=0x3fff, ..] => return Ok(()),
        _ => NotGlobal::Reserved,
    })
}
