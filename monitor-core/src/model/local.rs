//! Addresses of what has none: ends of Unix sockets, so that a connection is one thing to the engine, whatever carries it.
//!
//! They lie in `100::/64`, the block of addresses that are discarded (RFC 6666): no packet has one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The first half of such an address.
const PREFIX: u64 = 0x0100 << 48;

/// The address of an end with this number: of a server's, a hash of what it is bound to; of a client's, its cookie.
pub fn address(number: u64) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(u128::from(PREFIX) << 64 | u128::from(number))), 0)
}

/// Whether an address is one of these.
pub fn is_local(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.to_bits() >> 64 == u128::from(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_and_are_nobody_elses() {
        assert_eq!(address(7).to_string(), "[100::7]:0");
        assert!(is_local(address(u64::MAX)) && address(1) != address(2));
        assert!(!is_local("[101::7]:0".parse().unwrap()) && !is_local("127.0.0.1:5432".parse().unwrap()));
    }
}
