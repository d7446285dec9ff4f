//! From a captured frame to its TCP segment: link layer, IP, TCP. Borrows everything, allocates nothing.

use etherparse::{
    Ethernet2HeaderSlice, IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    /// Part of a fragmented IP packet that holds TCP.
    Fragment,
    /// IP, but the snapshot length cut it before the end of the TCP header's fixed part.
    Short,
    /// A header contradicts itself.
    Malformed,
}

const TCP: u8 = 6;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// More headers than any real packet has; keeps a hostile chain short.
const MAX_NESTED: usize = 16;

/// Reads one frame. `wire_len` is the frame's length before the snapshot length cut it, bytes.
pub(super) fn parse<'a>(link: Link, frame: &'a [u8], wire_len: u32) -> Parsed<'a> {
    let (ether_type, header_len) = match link {
        Link::Ethernet => match Ethernet2HeaderSlice::from_slice(frame) {
            Ok(h) => (h.ether_type().0, 14),
            Err(_) => return Parsed::Short,
        },
        Link::Sll => match be16(frame, 14) {
            Some(t) => (t, 16),
            None => return Parsed::Short,
        },
        Link::Sll2 => match be16(frame, 0) {
            Some(t) => (t, 20),
            None => return Parsed::Short,
        },
        Link::Loopback => return ip_by_version(frame, 4, wire_len),
        Link::Raw => return ip_by_version(frame, 0, wire_len),
    };
    ether(ether_type, frame, header_len, wire_len)
}

fn ether<'a>(mut ether_type: u16, frame: &'a [u8], mut at: usize, wire_len: u32) -> Parsed<'a> {
    for _ in 0..MAX_NESTED {
        let Some(rest) = frame.get(at..) else { return Parsed::Short };
        let wire = wire_len.saturating_sub(at as u32);
        match ether_type {
            IPV4 => return ipv4(rest, wire),
            IPV6 => return ipv6(rest, wire),
            0x8100 | 0x88a8 | 0x9100 => match SingleVlanHeaderSlice::from_slice(rest) {
                Ok(h) => {
                    ether_type = h.ether_type().0;
                    at += 4;
                }
                Err(_) => return Parsed::Short,
            },
            _ => return Parsed::Other,
        }
    }
    Parsed::Malformed
}

fn ip_by_version<'a>(frame: &'a [u8], at: usize, wire_len: u32) -> Parsed<'a> {
    let Some(rest) = frame.get(at..) else { return Parsed::Short };
    let wire = wire_len.saturating_sub(at as u32);
    match rest.first().map(|b| b >> 4) {
        Some(4) => ipv4(rest, wire),
        Some(6) => ipv6(rest, wire),
        Some(_) => Parsed::Other,
        None => Parsed::Short,
    }
}

fn ipv4<'a>(data: &'a [u8], wire_len: u32) -> Parsed<'a> {
    let header = match Ipv4HeaderSlice::from_slice(data) {
        Ok(h) => h,
        Err(etherparse::err::ipv4::HeaderSliceError::Len(_)) => return Parsed::Short,
        Err(_) => return Parsed::Malformed,
    };
    if header.protocol().0 != TCP {
        return Parsed::Other;
    }
    if header.is_fragmenting_payload() {
        return Parsed::Fragment;
    }
    let header_len = header.slice().len();
    // Zero: captured before segmentation offload had filled it in, or longer than the field can say.
    let total = match header.total_len() {
        0 => wire_len,
        n => u32::from(n),
    };
    let Some(payload_len) = total.checked_sub(header_len as u32) else { return Parsed::Malformed };
    let rest = data.get(header_len..).unwrap_or_default();
    tcp(rest, payload_len, |port| Endpoint::v4(header.source(), port), |port| Endpoint::v4(header.destination(), port))
}

fn ipv6<'a>(data: &'a [u8], wire_len: u32) -> Parsed<'a> {
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
            TCP => {
                return tcp(
                    rest,
                    left,
                    |port| Endpoint::v6(header.source(), port),
                    |port| Endpoint::v6(header.destination(), port),
                );
            }
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6: one layout (RFC 8200 section 4, 6564).
            0 | 43 | 60 | 135 | 139 | 140 => match Ipv6RawExtHeaderSlice::from_slice(rest) {
                Ok(h) => (h.slice().len(), h.next_header().0),
                Err(_) => return Parsed::Short,
            },
            44 => match Ipv6FragmentHeaderSlice::from_slice(rest) {
                Ok(h) if h.is_fragmenting_payload() => {
                    return if h.next_header().0 == TCP { Parsed::Fragment } else { Parsed::Other };
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
            _ => return Parsed::Other,
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

fn be16(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}
