//! What may lie between the link layer and the IP packet that holds TCP: tags, labels, sessions and tunnels, nested in
//! any order. And what lies there and cannot be read.

use super::link::{Parsed, be16, ether, ethernet, ip};

/// A kind of packets that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unread {
    /// Of a link layer with this number.
    Link(u32),
    /// A block of a pcapng file with this type.
    Block(u32),
    /// An Ethernet type.
    EtherType(u16),
    /// A protocol inside PPP.
    Ppp(u16),
    /// Something with a name.
    Named(&'static str),
    /// More kinds than are told apart.
    Others,
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Link(n) => write!(f, "link type {n} is not supported"),
            Self::Block(n) => write!(f, "block type {n:#x} is not known"),
            Self::EtherType(n) => write!(f, "Ethernet type {n:#06x} cannot be read"),
            Self::Ppp(n) => write!(f, "PPP protocol {n:#06x} cannot be read"),
            Self::Named(name) => write!(f, "{name} cannot be read"),
            Self::Others => write!(f, "more kinds that cannot be read"),
        }
    }
}

/// MPLS (RFC 3032): labels, then an IP packet, or an Ethernet frame behind a control word (RFC 4448).
pub(super) fn mpls(mut data: &[u8], mut wire: u32, depth: usize) -> Parsed<'_> {
    loop {
        let Some((&[_, _, bottom, _], rest)) = data.split_first_chunk::<4>() else { return Parsed::Short };
        (data, wire) = (rest, wire.saturating_sub(4));
        if bottom & 1 != 0 {
            break;
        }
    }
    match data.first().map(|b| b >> 4) {
        Some(4 | 6) => ip(data, wire, depth),
        Some(0) => match data.get(4..) {
            Some(frame) => ethernet(frame, wire.saturating_sub(4), depth),
            None => Parsed::Short,
        },
        Some(_) => ethernet(data, wire, depth),
        None => Parsed::Short,
    }
}

/// A PPPoE session (RFC 2516).
pub(super) fn pppoe(data: &[u8], wire: u32, depth: usize) -> Parsed<'_> {
    match data.split_first_chunk::<6>() {
        Some((&[0x11, 0, _, _, a, b], rest)) => {
            ppp(rest, wire.saturating_sub(6).min(u32::from(u16::from_be_bytes([a, b]))), depth)
        }
        Some(_) => Parsed::Malformed,
        None => Parsed::Short,
    }
}

/// PPP (RFC 1661), its protocol field in one byte or two.
fn ppp(mut data: &[u8], mut wire: u32, depth: usize) -> Parsed<'_> {
    if let Some(rest) = data.strip_prefix(&[0xff, 3]) {
        (data, wire) = (rest, wire.saturating_sub(2));
    }
    let (protocol, n) = match data {
        [a, ..] if a & 1 != 0 => (u16::from(*a), 1),
        [a, b, ..] => (u16::from_be_bytes([*a, *b]), 2),
        _ => return Parsed::Short,
    };
    let rest = data.get(n as usize..).unwrap_or_default();
    match protocol {
        0x21 | 0x57 => ip(rest, wire.saturating_sub(n), depth),
        0x281 | 0x283 => mpls(rest, wire.saturating_sub(n), depth),
        // Its own control, and that of the protocols on top.
        0x8000.. => Parsed::Other,
        _ => Parsed::Unread(Unread::Ppp(protocol)),
    }
}

/// GRE (RFC 2784, 2890), and PPTP's (RFC 2637).
pub(super) fn gre(data: &[u8], wire: u32, depth: usize) -> Parsed<'_> {
    let (Some(flags), Some(protocol)) = (be16(data, 0), be16(data, 2)) else { return Parsed::Short };
    let field = |bit: u16| if flags & bit != 0 { 4 } else { 0 };
    let len = match flags & 7 {
        0 if flags & 0x4000 != 0 => return Parsed::Unread(Unread::Named("GRE with routing")),
        0 => 4 + field(0x8000) + field(0x2000) + field(0x1000),
        1 => 8 + field(0x1000) + field(0x0080),
        _ => return Parsed::Unread(Unread::Named("GRE of a later version")),
    };
    let Some(rest) = data.get(len..) else { return Parsed::Short };
    let wire = wire.saturating_sub(len as u32);
    match protocol {
        // A sign of life.
        0 => Parsed::Other,
        0x880b if rest.is_empty() => Parsed::Other,
        0x880b => ppp(rest, wire, depth),
        // ERSPAN: a mirrored frame, of the second version behind a header.
        0x88be if flags & 0x1000 == 0 => ethernet(rest, wire, depth),
        0x88be => match rest.get(8..) {
            Some(frame) => ethernet(frame, wire.saturating_sub(8), depth),
            None => Parsed::Short,
        },
        _ => ether(protocol, rest, wire, depth),
    }
}

/// Whether a datagram to this port may be a tunnel's.
pub(super) fn is_tunnel(port: u16) -> bool {
    matches!(port, 4789 | 8472 | 4790 | 6081 | 6635 | 4500 | 51820 | 1701)
}

/// A UDP datagram: VXLAN (RFC 7348), VXLAN-GPE, GENEVE (RFC 8926), MPLS (RFC 7510), by their ports.
pub(super) fn udp(data: &[u8], wire: u32, depth: usize) -> Parsed<'_> {
    let Some(port) = be16(data, 2).filter(|port| is_tunnel(*port)) else {
        return if data.len() < 4 { Parsed::Short } else { Parsed::Other };
    };
    let Some(body) = data.get(8..) else { return Parsed::Short };
    let wire = wire.saturating_sub(8);
    let inner = |n: usize| body.get(n..).map(|rest| (rest, wire.saturating_sub(n as u32)));
    match (port, body) {
        (6635, _) => mpls(body, wire, depth),
        (4500, [0, 0, 0, 0, ..] | [] | [_]) => Parsed::Other,
        (4500, _) => Parsed::Unread(Unread::Named("ESP (encrypted)")),
        (51820, [4, 0, 0, 0, ..]) => Parsed::Unread(Unread::Named("WireGuard (encrypted)")),
        // Its control messages have the highest bit.
        (1701, [first, ..]) if first & 0x80 == 0 => Parsed::Unread(Unread::Named("L2TP")),
        (51820 | 1701, _) => Parsed::Other,
        (6081, [head, _, a, b, ..]) if head >> 6 == 0 => match inner(8 + 4 * usize::from(head & 0x3f)) {
            Some((rest, wire)) => ether(u16::from_be_bytes([*a, *b]), rest, wire, depth),
            None => Parsed::Short,
        },
        (4789 | 8472, [flags, ..]) if flags & 8 != 0 => match inner(8) {
            Some((frame, wire)) => ethernet(frame, wire, depth),
            None => Parsed::Short,
        },
        (4790, [flags, _, _, next, ..]) if flags & 8 != 0 => match (inner(8), next) {
            (Some((rest, wire)), 1 | 2) => ip(rest, wire, depth),
            (Some((rest, wire)), 3) => ethernet(rest, wire, depth),
            (Some((rest, wire)), 5) => mpls(rest, wire, depth),
            (Some(_), _) => Parsed::Unread(Unread::Named("VXLAN-GPE of another protocol")),
            (None, _) => Parsed::Short,
        },
        // Some other protocol's port.
        _ => Parsed::Other,
    }
}
