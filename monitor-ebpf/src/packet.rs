//! From a socket buffer to a TCP segment: IPv4, IPv6 with extension headers, the TCP header.
//!
//! The common shapes are read in place; anything else goes through `bpf_skb_load_bytes`, which also reads what is not
//! in the linear part. In both `cgroup_skb` hooks the buffer begins with the IP header.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use monitor_common::maps::LossReason;

use crate::emit::lost;

pub(crate) const FIN: u32 = 0x01;
pub(crate) const SYN: u32 = 0x02;
pub(crate) const RST: u32 = 0x04;
pub(crate) const ACK: u32 = 0x10;

const TCP: u8 = 6;
const TCP_HEADER: u32 = 20;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
/// More-fragments flag and fragment offset.
const IPV4_FRAGMENT: u16 = 0x3fff;
/// Extension headers looked at before the packet is given up.
const MAX_EXTENSIONS: u32 = 8;

/// A TCP segment. Words only: LLVM may keep padding in a register that holds a pointer, and the verifier refuses to
/// store that.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// 4 or 6.
    pub(crate) version: u32,
    /// Where the TCP header begins.
    pub(crate) tcp: u32,
    /// Where the payload begins.
    pub(crate) payload: u32,
    /// Payload bytes.
    pub(crate) len: u32,
    /// Sequence number of the header (a SYN takes the first number).
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u32,
}

/// The segment in this packet; `None` if it is not TCP, a fragment, or unreadable (counted).
#[inline(always)]
pub(crate) fn parse(skb: *mut __sk_buff) -> Option<Segment> {
    let (data, end) = linear(skb);
    // Most packets: IPv4 without options.
    if data + (IPV4_HEADER + TCP_HEADER) as usize <= end {
        let at = data as *const u8;
        // SAFETY: within the linear part, as just compared. Network headers are aligned to 4 as far as the
        // architecture needs it.
        unsafe {
            if *at == 0x45 {
                if *at.add(9) != TCP || u16::from_be(*at.add(6).cast::<u16>()) & IPV4_FRAGMENT != 0 {
                    return None;
                }
                return segment(skb, 4, IPV4_HEADER, at.add(IPV4_HEADER as usize));
            }
            if data + (IPV6_HEADER + TCP_HEADER) as usize <= end && *at >> 4 == 6 && *at.add(6) == TCP {
                return segment(skb, 6, IPV6_HEADER, at.add(IPV6_HEADER as usize));
            }
        }
    }
    let mut out = Segment { version: 0, tcp: 0, payload: 0, len: 0, seq: 0, ack: 0, flags: 0 };
    if uncommon(skb, &mut out) == 0 { Some(out) } else { None }
}

/// Where the linear part begins and ends. The fields are declared with 32 bits but the verifier makes them pointers:
/// loaded by hand, or LLVM would spill half of one to the stack.
#[inline(always)]
fn linear(skb: *mut __sk_buff) -> (usize, usize) {
    let (data, end): (usize, usize);
    // SAFETY: two loads from the context.
    unsafe {
        core::arch::asm!(
            "{data} = *(u32 *)({skb} + {data_offset})",
            "{end} = *(u32 *)({skb} + {end_offset})",
            skb = in(reg) skb,
            data = out(reg) data,
            end = lateout(reg) end,
            data_offset = const core::mem::offset_of!(__sk_buff, data),
            end_offset = const core::mem::offset_of!(__sk_buff, data_end),
        );
    }
    (data, end)
}

/// # Safety
///
/// `tcp` points to [`TCP_HEADER`] readable bytes.
#[inline(always)]
unsafe fn segment(skb: *mut __sk_buff, version: u32, offset: u32, tcp: *const u8) -> Option<Segment> {
    // SAFETY: within the 20 bytes that the caller promises.
    let (seq, ack, data_offset, flags) = unsafe {
        (
            u32::from_be(*tcp.add(4).cast::<u32>()),
            u32::from_be(*tcp.add(8).cast::<u32>()),
            u32::from(*tcp.add(12) >> 4) * 4,
            u32::from(*tcp.add(13)),
        )
    };
    // SAFETY: a field of the context.
    let total = unsafe { (*skb).len };
    // Not the IP header's length: that is 0 for packets above 64 KiB (BIG TCP), and link padding is trimmed already.
    let payload = offset + data_offset;
    if data_offset < TCP_HEADER || payload > total {
        lost(0, LossReason::HEADER);
        return None;
    }
    Some(Segment { version, tcp: offset, payload, len: total - payload, seq, ack, flags })
}

/// IPv4 options, IPv6 extension headers, headers outside the linear part. Not 0: not ours, or unreadable (counted).
#[inline(never)]
fn uncommon(skb: *mut __sk_buff, out: &mut Segment) -> u32 {
    let mut first = 0u8;
    if !load(skb, 0, &mut first) {
        return unreadable();
    }
    let version = u32::from(first >> 4);
    let offset = if version == 4 {
        let mut protocol = 0u8;
        let mut fragment = 0u16;
        if !load(skb, 9, &mut protocol) || !load(skb, 6, &mut fragment) {
            return unreadable();
        }
        if protocol != TCP || u16::from_be(fragment) & IPV4_FRAGMENT != 0 {
            return 1;
        }
        u32::from(first & 0xf) * 4
    } else if version == 6 {
        match behind_extensions(skb) {
            0 => return 1,
            offset => offset,
        }
    } else {
        return 1;
    };
    let mut tcp = [0u32; 5];
    if !load(skb, offset, &mut tcp) {
        return unreadable();
    }
    // SAFETY: `tcp` is 20 bytes.
    match unsafe { segment(skb, version, offset, tcp.as_ptr().cast()) } {
        Some(found) => {
            *out = found;
            0
        }
        None => 1,
    }
}

/// Where the TCP header begins behind IPv6 extension headers (RFC 8200, section 4); 0: no TCP, a fragment, too many.
#[inline(always)]
fn behind_extensions(skb: *mut __sk_buff) -> u32 {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;

    let mut next = 0u8;
    if !load(skb, 6, &mut next) {
        unreadable();
        return 0;
    }
    let mut offset = IPV6_HEADER;
    let mut seen = 0;
    while seen < MAX_EXTENSIONS {
        if next == TCP {
            return offset;
        }
        let mut header = [0u8; 4];
        if !load(skb, offset, &mut header) {
            unreadable();
            return 0;
        }
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => (u32::from(header[1]) + 1) * 8,
            AUTHENTICATION => (u32::from(header[1]) + 2) * 4,
            // Whole datagrams with a fragment header exist (atomic fragments); parts of one are not ours.
            FRAGMENT if u16::from_be_bytes([header[2], header[3]]) & 0xfff9 == 0 => 8,
            _ => return 0,
        };
        next = header[0];
        offset += length;
        seen += 1;
    }
    // A tower of extension headers carries no connection of ours.
    0
}

fn unreadable() -> u32 {
    lost(0, LossReason::HEADER);
    2
}

/// Reads a `T` of plain integers; `false` if the packet is too short.
#[inline(always)]
pub(crate) fn load<T>(skb: *mut __sk_buff, offset: u32, to: &mut T) -> bool {
    // SAFETY: `to` has room for its own size.
    unsafe { bpf_skb_load_bytes(skb.cast(), offset, core::ptr::from_mut(to).cast(), size_of::<T>() as u32) == 0 }
}
