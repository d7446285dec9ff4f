//! Connections: announced once, remembered in `FLOWS`, forgotten when closed.

use aya_ebpf::bindings::{__sk_buff, BPF_ANY};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use monitor_common::maps::{
    BUDGET_FULL, CachedFlow, FLOW_CACHE_SLOTS, FLOW_FIN_RX, FLOW_FIN_TX, FLOW_UNTRACKED, FlowState, HANDSHAKE_SLOTS,
    Handshake, LossReason,
};
use monitor_common::records::{CloseRecord, FLOW_V6, FlowRecord, Kind};

use crate::emit::Ring;
use crate::knobs::KNOB_SEED;
use crate::maps::{FLOW_CACHE, FLOWS, HANDSHAKES};
use crate::packet::{self, FIN, RST, Segment};

/// The two ends of a connection, seen from the socket. IPv4 in the first word. Words only, as in `Segment`.
#[derive(Clone, Copy)]
pub(crate) struct Tuple {
    /// 1 or 0.
    pub(crate) v6: u32,
    /// Network order.
    pub(crate) local: [u32; 4],
    /// Network order.
    pub(crate) peer: [u32; 4],
    /// Host order.
    pub(crate) local_port: u32,
    /// Host order.
    pub(crate) peer_port: u32,
}

impl Tuple {
    pub(crate) const EMPTY: Self = Self { v6: 0, local: [0; 4], peer: [0; 4], local_port: 0, peer_port: 0 };

    /// The addresses of a packet; `received`: the socket is its destination.
    #[inline(always)]
    pub(crate) fn read(&mut self, skb: *mut __sk_buff, segment: &Segment, received: bool) -> bool {
        self.v6 = u32::from(segment.version == 6);
        let mut ports = [0u16; 2];
        let mut from = [0u32; 4];
        let mut to = [0u32; 4];
        let read = if segment.version == 6 {
            packet::load(skb, 8, &mut from) && packet::load(skb, 24, &mut to)
        } else {
            packet::load(skb, 12, &mut from[0]) && packet::load(skb, 16, &mut to[0])
        };
        if !read || !packet::load(skb, segment.tcp, &mut ports) {
            return false;
        }
        let (from_port, to_port) = (u32::from(u16::from_be(ports[0])), u32::from(u16::from_be(ports[1])));
        if received {
            (self.local, self.peer, self.local_port, self.peer_port) = (to, from, to_port, from_port);
        } else {
            (self.local, self.peer, self.local_port, self.peer_port) = (from, to, from_port, to_port);
        }
        true
    }

    /// A keyed hash.
    #[inline(always)]
    pub(crate) fn tag(&self) -> u64 {
        let mut h = KNOB_SEED.load();
        h = mix(h, u64::from(self.local[0]) << 32 | u64::from(self.peer[0]));
        h = mix(h, u64::from(self.local_port) << 32 | u64::from(self.peer_port) << 1 | u64::from(self.v6));
        if self.v6 != 0 {
            h = mix(h, u64::from(self.local[1]) << 32 | u64::from(self.peer[1]));
            h = mix(h, u64::from(self.local[2]) << 32 | u64::from(self.peer[2]));
            h = mix(h, u64::from(self.local[3]) << 32 | u64::from(self.peer[3]));
        }
        h
    }
}

#[inline(always)]
pub(crate) fn mix(h: u64, word: u64) -> u64 {
    let mut x = (h ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x = x.wrapping_add(h).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ x >> 29
}

/// Notes that a watched socket has begun a handshake: `tag` is its cookie, or for a listener the tag of the addresses;
/// `start` is where the client's payload will begin.
#[inline(always)]
pub(crate) fn handshake_begins(tag: u64, cgroup: u64, start: u32) {
    if let Some(slot) = HANDSHAKES.get_ptr_mut(tag as u32 & (HANDSHAKE_SLOTS - 1)) {
        // SAFETY: array elements live as long as the map; a torn write is found out by `mixed`.
        unsafe { slot.write(Handshake::new(tag, cgroup, start)) };
    }
}

/// The cgroup of the socket that began this handshake, if a watched one did and nobody took its slot since.
#[inline(always)]
pub(crate) fn handshake_of(tag: u64) -> Option<u64> {
    let slot = HANDSHAKES.get_ptr_mut(tag as u32 & (HANDSHAKE_SLOTS - 1))?;
    // SAFETY: array elements live as long as the map.
    let found = unsafe { slot.read() };
    if !found.is_of(tag) {
        return None;
    }
    // Used up: an old tag must not vouch for a later connection.
    // SAFETY: as above.
    unsafe { slot.write(Handshake::EMPTY) };
    Some(found.cgroup)
}

/// Whether payload that begins at `seq` can complete the handshake of this tag: the SYN came, and nothing since took its
/// slot. Whatever else reaches a listener (a stale segment, a forged one) the kernel answers with a reset.
#[inline(always)]
pub(crate) fn completes_handshake(tag: u64, seq: u32) -> bool {
    let Some(slot) = HANDSHAKES.get_ptr(tag as u32 & (HANDSHAKE_SLOTS - 1)) else { return false };
    // SAFETY: array elements live as long as the map.
    let found = unsafe { slot.read() };
    found.is_of(tag) && found.start == u64::from(seq)
}

/// What an announcement says beyond the addresses.
#[derive(Clone, Copy)]
pub(crate) struct Announcement {
    pub(crate) cookie: u64,
    pub(crate) cgroup: u64,
    /// `FLOW_*` of the record; `FLOW_V6` is added here.
    pub(crate) flags: u32,
    pub(crate) tx_start: u32,
    pub(crate) rx_start: u32,
}

/// Announces a connection, and with `state` remembers it. Order matters: room first, so that a full ring is tried
/// again at the next segment; remembered before submitted, so that no segment of another CPU overtakes.
#[inline(always)]
pub(crate) fn announce(tuple: &Tuple, what: &Announcement, state: Option<FlowState>) -> bool {
    let Some(room) = Ring::of(what.cookie).reserve::<FlowRecord>(LossReason::RING_FLOW) else { return false };
    // SAFETY: the time has no preconditions.
    let at = unsafe { bpf_ktime_get_ns() };
    let flags = what.flags | if tuple.v6 != 0 { FLOW_V6 } else { 0 };
    // SAFETY: `record` is ours until submitted, aligned to 8 and of the record's size.
    unsafe {
        room.record.write(FlowRecord {
            kind: Kind::FLOW,
            flags,
            cookie: what.cookie,
            at,
            cgroup: what.cgroup,
            local: core::mem::transmute::<[u32; 4], [u8; 16]>(tuple.local),
            peer: core::mem::transmute::<[u32; 4], [u8; 16]>(tuple.peer),
            local_port: tuple.local_port as u16,
            peer_port: tuple.peer_port as u16,
            tx_start: what.tx_start,
            rx_start: what.rx_start,
            reserved: 0,
        });
    }
    if let Some(state) = state
        && FLOWS.insert(what.cookie, state, u64::from(BPF_ANY)).is_err()
    {
        room.discard(LossReason::FLOWS_FULL);
        return false;
    }
    if let Some(state) = state {
        cache(what.cookie, &state);
    }
    room.submit();
    true
}

/// Budgets of a connection, if the cache has them.
#[inline(always)]
pub(crate) fn cached(cookie: u64) -> Option<u64> {
    let slot = FLOW_CACHE.get(cookie as u32 & (FLOW_CACHE_SLOTS - 1))?;
    (slot.mixed ^ slot.budgets == cookie).then_some(slot.budgets)
}

/// Puts a connection into the cache, unless the probes must look at its whole state each time.
#[inline(always)]
pub(crate) fn cache(cookie: u64, state: &FlowState) {
    if state.flags & FLOW_UNTRACKED == 0 {
        put(cookie, CachedFlow::new(cookie, state.budget));
    }
}

#[inline(always)]
fn put(cookie: u64, entry: CachedFlow) {
    if let Some(slot) = FLOW_CACHE.get_ptr_mut(cookie as u32 & (FLOW_CACHE_SLOTS - 1)) {
        // SAFETY: array elements live as long as the map; a torn write is found out by `mixed`.
        unsafe { slot.write(entry) };
    }
}

/// State of a connection that begins to be captured, with full budgets.
#[inline(always)]
pub(crate) fn state(cgroup: u64, flags: u32) -> FlowState {
    // SAFETY: the time has no preconditions.
    let last = unsafe { bpf_ktime_get_ns() };
    FlowState { budget: [BUDGET_FULL; 2], cgroup, last, flags, reserved: 0 }
}

/// FIN or RST of a socket whose close `sock_ops` will not tell: both FINs or a reset end it.
#[inline(always)]
pub(crate) fn ends(cookie: u64, flow: *mut FlowState, tcp_flags: u32, received: bool) {
    // SAFETY: `flow` is an element of FLOWS that is not freed before a grace period.
    unsafe {
        if (*flow).flags & FLOW_UNTRACKED == 0 {
            return;
        }
        if tcp_flags & FIN != 0 {
            (*flow).flags |= if received { FLOW_FIN_RX } else { FLOW_FIN_TX };
        }
        if tcp_flags & RST != 0 || (*flow).flags & (FLOW_FIN_RX | FLOW_FIN_TX) == FLOW_FIN_RX | FLOW_FIN_TX {
            closed(cookie);
        }
    }
}

/// Forgets a connection and says so; nothing if it was not known.
#[inline(always)]
pub(crate) fn closed(cookie: u64) {
    if FLOWS.remove(cookie).is_err() {
        return;
    }
    if cached(cookie).is_some() {
        put(cookie, CachedFlow::EMPTY);
    }
    let Some(room) = Ring::of(cookie).reserve::<CloseRecord>(LossReason::RING_CLOSE) else { return };
    // SAFETY: the time has no preconditions.
    let at = unsafe { bpf_ktime_get_ns() };
    // SAFETY: `record` is ours until submitted, aligned to 8 and of the record's size.
    unsafe { room.record.write(CloseRecord { kind: Kind::CLOSE, reserved: 0, cookie, at }) };
    room.submit();
}
