//! What egress and ingress share: a segment of a watched socket, on its way to the ring.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_sk_fullsock, bpf_skb_cgroup_id,
};
use monitor_common::maps::{BUDGET_FULL, BUDGET_SILENT, FLOW_UNTRACKED, FlowState, SkipReason, TELL_READS};
use monitor_common::records::{
    FLOW_CLIENT, FLOW_LISTENER, FLOW_NO_CLOSE, FLOW_TX_START, Kind, SEGMENT_ACK, SEGMENT_LISTENER, SEGMENT_RX,
    SegmentHeader, TAIL,
};

use crate::emit::{InPacket, Ring};
use crate::flow::{self, Announcement, Tuple};
use crate::knobs::{KNOB_PAYLOAD_CAP, KNOB_THREADS};
use crate::maps::FLOWS;
use crate::packet::{ACK, FIN, RST, SYN, Segment, parse};
use crate::skip::{explained, skipped};
use crate::watch::watched;

/// Most records of one segment, its last bytes apart: 128 KiB. 64 KiB is what a card is given at most unless it says more
/// (BIG TCP); between sockets of one host 95 KB were seen.
const MAX_PIECES: u32 = 8;

/// `BPF_TCP_LISTEN`.
const LISTEN: u32 = 10;
/// `SOCK_STREAM`.
const STREAM: u32 = 1;

/// Both hooks. `RX`: the socket receives.
#[inline(always)]
pub(crate) fn run<const RX: bool>(skb: *mut __sk_buff) {
    let Some(cgroup) = watched(skb) else {
        if explained() {
            // SAFETY: the context as the kernel gave it.
            skipped(SkipReason::NOT_WATCHED, unsafe { bpf_skb_cgroup_id(skb) });
        }
        return;
    };
    let Some(segment) = parse(skb) else {
        skipped(SkipReason::NOT_TCP, cgroup);
        return;
    };
    if segment.len == 0 {
        skipped(SkipReason::NO_PAYLOAD, cgroup);
        // Bare acknowledgements say nothing that the next segment does not say too.
        if segment.flags & (SYN | FIN | RST) != 0 {
            control::<RX>(skb, cgroup, &segment);
        }
        return;
    }
    if segment.flags & SYN != 0 {
        // Fast open: payload in the SYN.
        control::<RX>(skb, cgroup, &segment);
    }
    if RX && listens(skb) {
        handshake_payload(skb, cgroup, &segment);
        return;
    }
    // SAFETY: the context as the kernel gave it.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let budget = match flow::cached(cookie) {
        Some(budgets) => {
            let budget = if RX { (budgets >> 32) as u32 } else { budgets as u32 & !TELL_READS };
            if explained() && budget == BUDGET_SILENT {
                skipped(SkipReason::NOT_WANTED, cgroup);
            }
            budget
        }
        None => not_cached::<RX>(skb, cgroup, cookie, &segment),
    };
    if budget != BUDGET_SILENT {
        // SAFETY: the time has no preconditions.
        let at = unsafe { bpf_ktime_get_ns() };
        deliver::<RX>(skb, cookie, at, budget, &segment);
    }
    if segment.flags & (FIN | RST) != 0 {
        // After the payload: this may end an older connection.
        control::<RX>(skb, cgroup, &segment);
    }
}

/// Budget of a connection that is not in the cache, or not even known yet.
#[inline(never)]
fn not_cached<const RX: bool>(skb: *mut __sk_buff, cgroup: u64, cookie: u64, segment: &Segment) -> u32 {
    let flow = match FLOWS.get_ptr_mut(cookie) {
        Some(flow) => flow,
        None => {
            return if first_seen::<RX>(skb, cgroup, cookie, segment) { BUDGET_FULL } else { BUDGET_SILENT };
        }
    };
    // SAFETY: FLOWS is not preallocated: its elements are freed only after a grace period. Another CPU may write the
    // same fields; any of the values will do.
    unsafe {
        if (*flow).flags & FLOW_UNTRACKED != 0 {
            (*flow).last = bpf_ktime_get_ns();
        } else {
            flow::cache(cookie, &*flow);
        }
        let [tx, rx] = (*flow).budget;
        let budget = if RX { rx } else { tx & !TELL_READS };
        if explained() && budget == BUDGET_SILENT {
            skipped(SkipReason::NOT_WANTED, cgroup);
        }
        budget
    }
}

#[inline(always)]
fn deliver<const RX: bool>(skb: *mut __sk_buff, cookie: u64, at: u64, budget: u32, segment: &Segment) {
    let ring = Ring::of(cookie);
    let cap = KNOB_PAYLOAD_CAP.load();
    let mut n = segment.len;
    if n > budget - 1 {
        n = budget - 1;
    }
    // A SYN takes the sequence number before the first byte.
    let seq = segment.seq.wrapping_add((segment.flags & SYN != 0) as u32);
    let sender = running::<RX>();
    let header = SegmentHeader {
        kind: Kind::SEGMENT,
        flags: if RX { SEGMENT_RX } else { 0 } | if segment.flags & ACK != 0 { SEGMENT_ACK } else { 0 },
        len: segment.len,
        captured: 0,
        seq,
        ack: segment.ack,
        cookie,
        at,
        thread: sender as u32,
        process: (sender >> 32) as u32,
    };
    if n > cap {
        if budget == BUDGET_FULL {
            in_pieces(skb, segment.payload, &header);
            return;
        }
        n = cap;
    }
    ring.segment(InPacket(skb, segment.payload), n, &header);
}

/// A segment that is longer than a record may be, as local ones and those put together by the card or the kernel are:
/// several records, each of a part of it, as if it had come in that many segments. What is longer still (jumbo
/// segments, a small ring) lacks a part, but not its last bytes: that is where the end of a reply stands.
#[inline(never)]
fn in_pieces(skb: *mut __sk_buff, payload: u32, whole: &SegmentHeader) -> u32 {
    let ring = Ring::of(whole.cookie);
    let cap = KNOB_PAYLOAD_CAP.load();
    let tail = whole.len > MAX_PIECES * cap && cap > TAIL;
    let end = if tail { whole.len - TAIL } else { whole.len };
    let mut at = 0;
    // All but the last are full: their length is known to the verifier, which then looks at one tier only.
    for _ in 1..MAX_PIECES {
        if end - at <= cap {
            break;
        }
        let piece = SegmentHeader { len: cap, seq: whole.seq.wrapping_add(at), ..*whole };
        ring.segment(InPacket(skb, payload + at), cap, &piece);
        at += cap;
    }
    let left = end - at;
    let last = SegmentHeader { len: left, seq: whole.seq.wrapping_add(at), ..*whole };
    ring.segment(InPacket(skb, payload + at), if left > cap { cap } else { left }, &last);
    if tail {
        let last = SegmentHeader { len: TAIL, seq: whole.seq.wrapping_add(end), ..*whole };
        ring.segment(InPacket(skb, payload + end), TAIL, &last);
    }
    0
}

/// The sender: its process and its thread. On ingress it would be whoever runs the softirq; so it is on egress when the
/// segment had to wait for one, which the agent sorts out by the process.
#[inline(always)]
fn running<const RX: bool>() -> u64 {
    if RX || KNOB_THREADS.load() == 0 {
        return 0;
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_pid_tgid() }
}

/// Whether the packet came to a listening socket: the one that completes a handshake does when the client's
/// acknowledgement carries payload (deferred accept, fast open, a lost bare acknowledgement).
#[inline(always)]
fn listens(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field of the context; the verifier wants the pointer compared with null before it is used.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        !sk.is_null() && (*sk).state == LISTEN
    }
}

/// Whether the packet's socket is one that TCP runs: a raw socket sends segments of connections that are none.
/// `bpf_sk_fullsock`: 5.1.
#[inline(always)]
fn is_tcp(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field of the context; the verifier wants each pointer compared with null before it is used.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return false;
        }
        let full = bpf_sk_fullsock(sk);
        !full.is_null() && (*full).type_ == STREAM
    }
}

/// SYN, FIN and RST.
#[inline(never)]
fn control<const RX: bool>(skb: *mut __sk_buff, cgroup: u64, segment: &Segment) -> u32 {
    if segment.flags & SYN != 0 {
        if segment.flags & ACK != 0 {
            return 0;
        }
        if RX {
            let mut tuple = Tuple::EMPTY;
            if tuple.read(skb, segment, true) {
                flow::handshake_begins(tuple.tag(), cgroup, segment.seq.wrapping_add(1));
            }
        } else {
            // SAFETY: the context as the kernel gave it.
            flow::handshake_begins(unsafe { bpf_get_socket_cookie(skb.cast()) }, cgroup, 0);
        }
        return 0;
    }
    // SAFETY: the context as the kernel gave it.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    if let Some(flow) = FLOWS.get_ptr_mut(cookie) {
        flow::ends(cookie, flow, segment.flags, RX);
    }
    0
}

/// First segment of a socket that `sock_ops` has not announced: older than the agent, or its handshake was lost.
#[inline(always)]
fn first_seen<const RX: bool>(skb: *mut __sk_buff, cgroup: u64, cookie: u64, segment: &Segment) -> bool {
    let mut tuple = Tuple::EMPTY;
    if !is_tcp(skb) {
        skipped(SkipReason::NO_SOCKET, cgroup);
        return false;
    }
    if !tuple.read(skb, segment, RX) {
        return false;
    }
    let syn = !RX && segment.flags & SYN != 0;
    let what = Announcement {
        cookie,
        cgroup,
        flags: FLOW_NO_CLOSE | if syn { FLOW_CLIENT | FLOW_TX_START } else { 0 },
        tx_start: segment.seq.wrapping_add(1),
        rx_start: 0,
    };
    let state: FlowState = flow::state(cgroup, FLOW_UNTRACKED);
    flow::announce(&tuple, &what, Some(state))
}

/// Payload that reaches the listener before the connection has a socket: its addresses, then the payload, under a tag
/// instead of a cookie. The agent joins it with the connection when that is announced. Only what continues a SYN that
/// was seen: anybody who may send raw packets can send the rest.
#[inline(never)]
fn handshake_payload(skb: *mut __sk_buff, cgroup: u64, segment: &Segment) -> u32 {
    let mut tuple = Tuple::EMPTY;
    if !tuple.read(skb, segment, true) {
        return 0;
    }
    let tag = tuple.tag();
    let seq = segment.seq.wrapping_add((segment.flags & SYN != 0) as u32);
    if !flow::completes_handshake(tag, seq) {
        skipped(SkipReason::NO_HANDSHAKE, cgroup);
        return 0;
    }
    let what = Announcement { cookie: tag, cgroup, flags: FLOW_LISTENER, tx_start: 0, rx_start: 0 };
    if !flow::announce(&tuple, &what, None) {
        return 0;
    }
    let cap = KNOB_PAYLOAD_CAP.load();
    let header = SegmentHeader {
        kind: Kind::SEGMENT,
        flags: SEGMENT_RX | SEGMENT_LISTENER | if segment.flags & ACK != 0 { SEGMENT_ACK } else { 0 },
        len: segment.len,
        captured: 0,
        seq,
        ack: segment.ack,
        cookie: tag,
        // SAFETY: the time has no preconditions.
        at: unsafe { bpf_ktime_get_ns() },
        thread: 0,
        process: 0,
    };
    Ring::of(tag).segment(InPacket(skb, segment.payload), if segment.len > cap { cap } else { segment.len }, &header);
    0
}
