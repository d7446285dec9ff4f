//! From a captured frame to its TCP segment: link layer, IP, TCP, and what `tunnel` knows between them. Borrows everything, allocates nothing.

use etherparse::{
    Ethernet2HeaderSlice, IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tunnel::{self, Unread};

/// Link layers that can be read. Numbers as assigned on <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    /// A 4-byte address family before the packet, in the byte order of the capturing host (NULL) or the network's
    /// (LOOP). The family's numbers differ between systems, so the IP version decides.
    Loopback,
    /// IP with nothing before it.
    Raw,
    /// Linux "any" device.
    Sll,
    /// Linux "any" device, second version.
    Sll2,
}

impl Link {
    /// The link layer with this number, if it can be read.
    pub(super) fn from_number(n: u32) -> Option<Self> {
        // The upper half of the field in a pcap header tells about the frame check sequence.
        match n & 0xffff {
            0 | 108 => Some(Self::Loopback),
            1 => Some(Self::Ethernet),
            // 12 and 14 are what BSDs wrote for raw IP.
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            113 => Some(Self::Sll),
            276 => Some(Self::Sll2),
            _ => None,
        }
    }
}

/// An address and port; IPv4 in its v4-mapped form, so that one type serves as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Endpoint {
    ip: u128,
    port: u16,
}

impl Endpoint {
    fn v4(ip: [u8; 4], port: u16) -> Self {
        Self { ip: 0xffff_0000_0000 | u128::from(u32::from_be_bytes(ip)), port }
    }

    fn v6(ip: [u8; 16], port: u16) -> Self {
        Self { ip: u128::from_be_bytes(ip), port }
    }

    /// As events carry it.
    pub(super) fn to_addr(self) -> SocketAddr {
        let ip = match u32::try_from(self.ip ^ 0xffff_0000_0000) {
            Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
            Err(_) => IpAddr::V6(Ipv6Addr::from(self.ip)),
        };
        SocketAddr::new(ip, self.port)
    }
}

/// One TCP segment as it was on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpPacket<'a> {
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
    pub(super) seq: u32,
    pub(super) ack_number: u32,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    /// Payload length on the wire, bytes.
    pub(super) len: u32,
    /// The captured part of the payload.
    pub(super) bytes: &'a [u8],
}

/// What a frame held.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parsed<'a> {
    Tcp(TcpPacket<'a>),
    /// Not TCP over IP.
    Other,
    /// It may hold TCP, but cannot be read.
    Unread(Unread),
    /// Part of a fragmented IP packet that holds TCP.
    Fragment,
    /// IP, but the snapshot length cut it before the end of the TCP header's fixed part.
    Short,
    /// A header contradicts itself.
    Malformed,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// More headers than any real packet has; keeps a hostile chain short.
const MAX_NESTED: usize = 16;

/// Reads one frame. `wire_len` is the frame's length before the snapshot length cut it, bytes.
pub(super) fn parse<'a>(link: Link, frame: &'a [u8], wire_len: u32) -> Parsed<'a> {
    let behind = |n: usize| (frame.get(n..).unwrap_or_default(), wire_len.saturating_sub(n as u32));
    let (kind, (rest, wire)) = match link {
        Link::Ethernet => return ethernet(frame, wire_len, MAX_NESTED),
        Link::Sll => (be16(frame, 14), behind(16)),
        Link::Sll2 => (be16(frame, 0), behind(20)),
        Link::Loopback if frame.len() < 4 => return Parsed::Short,
        Link::Loopback => return ip(behind(4).0, behind(4).1, MAX_NESTED),
        Link::Raw => return ip(frame, wire_len, MAX_NESTED),
    };
    kind.map_or(Parsed::Short, |kind| ether(kind, rest, wire, MAX_NESTED))
}

/// An Ethernet frame.
pub(super) fn ethernet(frame: &[u8], wire: u32, depth: usize) -> Parsed<'_> {
    match Ethernet2HeaderSlice::from_slice(frame) {
        Ok(h) => {
            let rest = frame.get(14..).unwrap_or_default();
            ether(h.ether_type().0, rest, wire.saturating_sub(14), depth)
        }
        Err(_) => Parsed::Short,
    }
}

/// What an Ethernet type announces. `depth`: so many headers may come yet.
pub(super) fn ether(kind: u16, rest: &[u8], wire: u32, depth: usize) -> Parsed<'_> {
    let Some(depth) = depth.checked_sub(1) else { return Parsed::Malformed };
    match kind {
        IPV4 => ipv4(rest, wire, depth),
        IPV6 => ipv6(rest, wire, depth),
        // A VLAN's tag (IEEE 802.1Q), the provider's first.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 => match (be16(rest, 2), rest.get(4..)) {
            (Some(kind), Some(rest)) => ether(kind, rest, wire.saturating_sub(4), depth),
            _ => Parsed::Short,
        },
        0x8847 | 0x8848 => tunnel::mpls(rest, wire, depth),
        0x8864 => tunnel::pppoe(rest, wire, depth),
        // An Ethernet frame in a tunnel.
        0x6558 => ethernet(rest, wire, depth),
        0x88e5 => Parsed::Unread(Unread::Named("MACsec (encrypted)")),
        0x894f => Parsed::Unread(Unread::Named("a network service header")),
        // A length: what follows is IEEE 802.2, with an Ethernet type behind a SNAP header.
        ..0x600 => match rest.split_first_chunk::<8>() {
            Some((&[0xaa, 0xaa, 3, 0, 0, 0, a, b], rest)) => {
                ether(u16::from_be_bytes([a, b]), rest, wire.saturating_sub(8), depth)
            }
            _ => Parsed::Other,
        },
        // Of the network itself: addresses, neighbours, spanning trees, keys, time.
        0x0806 | 0x8035 | 0x8808 | 0x8809 | 0x8863 | 0x888e | 0x88cc | 0x88f7 | 0x8902 | 0x9000 | 0x890d | 0x893a => {
            Parsed::Other
        }
        _ => Parsed::Unread(Unread::EtherType(kind)),
    }
}

/// An IP packet, by the version it says.
pub(super) fn ip(data: &[u8], wire: u32, depth: usize) -> Parsed<'_> {
    let Some(depth) = depth.checked_sub(1) else { return Parsed::Malformed };
    match data.first().map(|b| b >> 4) {
        Some(4) => ipv4(data, wire, depth),
        Some(6) => ipv6(data, wire, depth),
        Some(_) => Parsed::Other,
        None => Parsed::Short,
    }
}

/// Whether part of a packet may be part of a connection: all but datagrams that are no tunnel's.
fn fragment<'a>(protocol: u8, first: bool, data: &[u8]) -> Parsed<'a> {
    match protocol {
        TCP | 4 | 41 | 47 => Parsed::Fragment,
        UDP if first && be16(data, 2).is_some_and(tunnel::is_tunnel) => Parsed::Fragment,
        _ => Parsed::Other,
    }
}

/// What an IP packet carries: `len` bytes, of which `data` was captured, padding included.
fn carried<'a>(
    protocol: u8,
    data: &'a [u8],
    len: u32,
    depth: usize,
    src: impl FnOnce(u16) -> Endpoint,
    dst: impl FnOnce(u16) -> Endpoint,
) -> Parsed<'a> {
    match protocol {
        TCP => tcp(data, len, src, dst),
        UDP => tunnel::udp(data, len, depth),
        4 | 41 => ip(data, len, depth),
        47 => tunnel::gre(data, len, depth),
        137 => tunnel::mpls(data, len, depth),
        50 => Parsed::Unread(Unread::Named("ESP (encrypted)")),
        108 => Parsed::Unread(Unread::Named("compressed IP")),
        115 => Parsed::Unread(Unread::Named("L2TP")),
        _ => Parsed::Other,
    }
}

fn ipv4(data: &[u8], wire_len: u32, depth: usize) -> Parsed<'_> {
    let header = match Ipv4HeaderSlice::from_slice(data) {
        Ok(h) => h,
        Err(etherparse::err::ipv4::HeaderSliceError::Len(_)) => return Parsed::Short,
        Err(_) => return Parsed::Malformed,
    };
    let header_len = header.slice().len();
    let mut rest = data.get(header_len..).unwrap_or_default();
    let mut next = header.protocol().0;
    if header.is_fragmenting_payload() {
        return fragment(next, header.fragments_offset().value() == 0, rest);
    }
    // Zero: captured before segmentation offload had filled it in, or longer than the field can say.
    let total = match header.total_len() {
        0 => wire_len,
        n => u32::from(n),
    };
    let Some(mut left) = total.checked_sub(header_len as u32) else { return Parsed::Malformed };
    if next == 51 {
        match IpAuthHeaderSlice::from_slice(rest) {
            Ok(h) => {
                let n = h.slice().len();
                (next, rest, left) =
                    (h.next_header().0, rest.get(n..).unwrap_or_default(), left.saturating_sub(n as u32));
            }
            Err(_) => return Parsed::Short,
        }
    }
    let (src, dst) = (header.source(), header.destination());
    carried(next, rest, left, depth, |port| Endpoint::v4(src, port), |port| Endpoint::v4(dst, port))
}

fn ipv6(data: &[u8], wire_len: u32, depth: usize) -> Parsed<'_> {
    let header = match Ipv6HeaderSlice::from_slice(data) {
        Ok(h) => h,
        Err(etherparse::err::ipv6::HeaderSliceError::Len(_)) => return Parsed::Short,
        Err(_) => return Parsed::Malformed,
    };
    let fixed = header.slice().len();
    let mut rest = data.get(fixed..).unwrap_or_default();
    // Zero: a jumbogram, or a segmentation offload beyond 64 KiB.
    let mut left = match header.payload_length() {
        0 => wire_len.saturating_sub(fixed as u32),
        n => u32::from(n),
    };
    let mut next = header.next_header().0;
    for _ in 0..MAX_NESTED {
        let (len, following) = match next {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6: one layout (RFC 8200 section 4, 6564).
            0 | 43 | 60 | 135 | 139 | 140 => match Ipv6RawExtHeaderSlice::from_slice(rest) {
                Ok(h) => (h.slice().len(), h.next_header().0),
                Err(_) => return Parsed::Short,
            },
            44 => match Ipv6FragmentHeaderSlice::from_slice(rest) {
                Ok(h) if h.is_fragmenting_payload() => {
                    let first = h.fragment_offset().value() == 0;
                    return fragment(h.next_header().0, first, rest.get(8..).unwrap_or_default());
                }
                // RFC 6946: a fragment header on an unfragmented packet.
                Ok(h) => (h.slice().len(), h.next_header().0),
                Err(_) => return Parsed::Short,
            },
            51 => match IpAuthHeaderSlice::from_slice(rest) {
                Ok(h) => (h.slice().len(), h.next_header().0),
                Err(etherparse::err::ip_auth::HeaderSliceError::Len(_)) => return Parsed::Short,
                Err(_) => return Parsed::Malformed,
            },
            _ => {
                let (src, dst) = (header.source(), header.destination());
                return carried(
                    next,
                    rest,
                    left,
                    depth,
                    |port| Endpoint::v6(src, port),
                    |port| Endpoint::v6(dst, port),
                );
            }
        };
        let Some(n) = left.checked_sub(len as u32) else { return Parsed::Malformed };
        left = n;
        next = following;
        rest = rest.get(len..).unwrap_or_default();
    }
    Parsed::Malformed
}

/// `ip_payload_len` is what the IP header says, bytes; `data` is what was captured of it, padding included.
fn tcp<'a>(
    data: &'a [u8],
    ip_payload_len: u32,
    src: impl FnOnce(u16) -> Endpoint,
    dst: impl FnOnce(u16) -> Endpoint,
) -> Parsed<'a> {
    // By hand, as a capture may be cut inside the options, which nobody needs.
    let Some(&[s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, _, _, _, _, _, _]) =
        data.first_chunk::<20>()
    else {
        return Parsed::Short;
    };
    let header_len = u32::from(offset >> 4) * 4;
    let Some(len) = ip_payload_len.checked_sub(header_len) else { return Parsed::Malformed };
    if header_len < 20 {
        return Parsed::Malformed;
    }
    let captured = data.get(header_len as usize..).unwrap_or_default();
    Parsed::Tcp(TcpPacket {
        src: src(u16::from_be_bytes([s0, s1])),
        dst: dst(u16::from_be_bytes([d0, d1])),
        seq: u32::from_be_bytes([q0, q1, q2, q3]),
        ack_number: u32::from_be_bytes([a0, a1, a2, a3]),
        syn: flags & 0x02 != 0,
        ack: flags & 0x10 != 0,
        fin: flags & 0x01 != 0,
        rst: flags & 0x04 != 0,
        len,
        bytes: captured.get(..len as usize).unwrap_or(captured),
    })
}

/// The 16-bit number at `at`, most significant byte first.
pub(super) fn be16(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}
