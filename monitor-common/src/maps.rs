//! Keys and values of the maps that both sides use.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most rings. Each has one reader and is shared by all CPUs that serve its connections.
pub const MAX_SHARDS: u32 = 4;

/// Names of the maps, as the object file has them.
pub mod names {
    /// Cgroup id to [`super::WATCHED`] or [`super::IGNORED`].
    pub const CGROUPS: &str = "CGROUPS";
    /// Socket cookie to [`super::FlowState`].
    pub const FLOWS: &str = "FLOWS";
    /// Decisions about cgroups, direct-mapped: [`super::cached_decision`].
    pub const CGROUP_CACHE: &str = "CGROUP_CACHE";
    /// Budgets of connections, direct-mapped: [`super::CachedFlow`].
    pub const FLOW_CACHE: &str = "FLOW_CACHE";
    /// Handshakes on their way, direct-mapped.
    pub const HANDSHAKES: &str = "HANDSHAKES";
    /// Who reads from connections, direct-mapped: [`super::CachedReader`].
    pub const READERS: &str = "READERS";
    /// Bytes read at an end of a Unix socket, with [`super::UNIX_WHOLE`].
    pub const UNIX_READ: &str = "UNIX_READ";
    /// One [`super::Control`].
    pub const CONTROL: &str = "CONTROL";
    /// One [`super::LostCounters`] per shard and CPU.
    pub const LOST: &str = "LOST";
    /// One [`super::Skipped`] per [`super::SkipReason`] and CPU.
    pub const SKIPPED: &str = "SKIPPED";
    /// The rings, by shard.
    pub const RINGS: [&str; super::MAX_SHARDS as usize] = ["RING_0", "RING_1", "RING_2", "RING_3"];
}

/// In `UNIX_READ`: what is counted is all that was ever read.
pub const UNIX_WHOLE: u64 = 1 << 63;

/// Value in `CGROUPS`: sockets of this cgroup are captured.
pub const WATCHED: u32 = 1;
/// Value in `CGROUPS`: sockets of this cgroup are not.
pub const IGNORED: u32 = 2;

/// Slots in `CGROUP_CACHE`; a power of two.
pub const CGROUP_CACHE_SLOTS: u32 = 1024;
/// Slots in `FLOW_CACHE`; a power of two.
pub const FLOW_CACHE_SLOTS: u32 = 16384;

/// What `CGROUP_CACHE` holds in the slot `id % CGROUP_CACHE_SLOTS` for a decision: one word, so that it is never half
/// written. Array look-ups cost the probes a few instructions, hash look-ups several calls. Ids that use the two upper
/// bits are not cached (0); the kernel counts them up from 1.
pub const fn cached_decision(id: u64, decision: u32) -> u64 {
    if id >> 62 != 0 { 0 } else { id | (decision as u64) << 62 }
}

/// Budgets of a connection whose close `sock_ops` tells, in the slot `cookie % FLOW_CACHE_SLOTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CachedFlow {
    /// Cookie XOR `budgets`: when two CPUs write the same slot at once, the mixture matches neither cookie.
    pub mixed: u64,
    /// Both of [`FlowState::budget`]: the sent one in the lower half.
    pub budgets: u64,
}

impl CachedFlow {
    /// The entry for a connection.
    pub const fn new(cookie: u64, budget: [u32; 2]) -> Self {
        let [tx, rx] = budget;
        let budgets = tx as u64 | (rx as u64) << 32;
        Self { mixed: cookie ^ budgets, budgets }
    }

    /// An entry that matches no connection: cookies are not 0.
    pub const EMPTY: Self = Self { mixed: 0, budgets: 0 };
}

/// Slots in `READERS`; a power of two. A collision only tells a reader once more than needed.
pub const READER_SLOTS: u32 = 16384;

/// Who read last from a connection, in the slot `cookie % READER_SLOTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CachedReader {
    /// Cookie XOR `thread`, as in [`CachedFlow`].
    pub mixed: u64,
    /// The thread's id.
    pub thread: u64,
}

impl CachedReader {
    /// The entry for a connection.
    pub const fn new(cookie: u64, thread: u32) -> Self {
        Self { mixed: cookie ^ thread as u64, thread: thread as u64 }
    }
}

/// Slots in `HANDSHAKES`; a power of two. A collision only loses the early announcement of one connection.
pub const HANDSHAKE_SLOTS: u32 = 4096;

/// [`FlowState::flags`]: no `sock_ops` state callback is set for this socket, so that its end must be told from its
/// FIN and RST segments.
pub const FLOW_UNTRACKED: u32 = 1;
/// [`FlowState::flags`]: an untracked socket has sent FIN.
pub const FLOW_FIN_TX: u32 = 2;
/// [`FlowState::flags`]: an untracked socket has received FIN.
pub const FLOW_FIN_RX: u32 = 4;

/// Budget: no event at all.
pub const BUDGET_SILENT: u32 = 0;
/// Budget: everything the probes can copy.
pub const BUDGET_FULL: u32 = TELL_READS - 1;
/// Added to the budget for sent segments: each read of the socket is told, not only that another thread reads.
pub const TELL_READS: u32 = 1 << 31;

/// What the probes know of a captured socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowState {
    /// Budgets for sent and received segments: [`BUDGET_SILENT`], or one more than the most payload bytes to copy from
    /// a segment ([`BUDGET_FULL`]: all); the first of them with [`TELL_READS`], where that is asked for.
    pub budget: [u32; 2],
    /// The socket's cgroup; 0: not known.
    pub cgroup: u64,
    /// Monotonic clock at the last segment, ns; only kept for [`FLOW_UNTRACKED`] sockets.
    pub last: u64,
    /// `FLOW_*`.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// A handshake on its way at a watched socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Handshake {
    /// Tag of the socket (its cookie, or a hash of its addresses) XOR `cgroup` XOR `start`: when two CPUs write the
    /// same slot at once, the mixture matches neither tag.
    pub mixed: u64,
    /// The cgroup of the socket.
    pub cgroup: u64,
    /// Sequence number of the first byte that the client will send, as its SYN tells; only for listeners.
    pub start: u64,
}

impl Handshake {
    /// A handshake that has begun.
    pub const fn new(tag: u64, cgroup: u64, start: u32) -> Self {
        Self { mixed: tag ^ cgroup ^ start as u64, cgroup, start: start as u64 }
    }

    /// An entry that is nobody's.
    pub const EMPTY: Self = Self { mixed: 0, cgroup: 0, start: 0 };

    /// Whether it is the handshake of this tag.
    pub const fn is_of(&self, tag: u64) -> bool {
        self.cgroup != 0 && self.mixed ^ self.cgroup ^ self.start == tag
    }
}

/// Shared switches that change at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// Not 0: the reader is about to sleep, the next record must wake it. The probe that does so clears it.
    pub want_wakeup: u32,
}

/// Why the probes could not deliver an event: index into [`LostCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct LossReason(pub u32);

impl LossReason {
    /// A segment did not fit into the ring.
    pub const RING_SEGMENT: Self = Self(0);
    /// The announcement of a connection did not fit; the next segment tries again.
    pub const RING_FLOW: Self = Self(1);
    /// The end of a connection did not fit.
    pub const RING_CLOSE: Self = Self(2);
    /// A cgroup that came or went did not fit.
    pub const RING_CGROUP: Self = Self(3);
    /// The table of connections is full: the segment is not captured.
    pub const FLOWS_FULL: Self = Self(4);
    /// The table of cgroups is full: the ancestors are asked again at the next packet. Costs time, loses nothing.
    pub const CGROUPS_FULL: Self = Self(5);
    /// A header could not be read or makes no sense.
    pub const HEADER: Self = Self(6);
    /// Payload could not be copied from the packet.
    pub const COPY: Self = Self(7);
    /// Another reader of a connection did not fit; the next read tries again.
    pub const RING_READER: Self = Self(8);
    /// How many there are.
    pub const COUNT: usize = 9;
    /// All of them, with the names that the metric shows.
    pub const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::RING_SEGMENT, "ring_full_segment"),
        (Self::RING_FLOW, "ring_full_flow"),
        (Self::RING_CLOSE, "ring_full_close"),
        (Self::RING_CGROUP, "ring_full_cgroup"),
        (Self::FLOWS_FULL, "flow_table_full"),
        (Self::CGROUPS_FULL, "cgroup_table_full"),
        (Self::HEADER, "unreadable_header"),
        (Self::COPY, "unreadable_payload"),
        (Self::RING_READER, "ring_full_reader"),
    ];
}

/// Lost events of one shard on one CPU, by [`LossReason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LostCounters {
    /// Counts.
    pub by_reason: [u64; LossReason::COUNT],
}

/// Why a packet was not captured, though nothing went wrong: index into `SKIPPED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct SkipReason(pub u32);

impl SkipReason {
    /// The socket's cgroup is not watched.
    pub const NOT_WATCHED: Self = Self(0);
    /// Not TCP, a part of a datagram, or behind more headers than are looked at.
    pub const NOT_TCP: Self = Self(1);
    /// No payload: an acknowledgement, or the beginning or end of a connection.
    pub const NO_PAYLOAD: Self = Self(2);
    /// The agent wants no more of this connection: nobody can read it, or the other end tells it already.
    pub const NOT_WANTED: Self = Self(3);
    /// It came to a listener and continues no handshake that a watched socket began.
    pub const NO_HANDSHAKE: Self = Self(4);
    /// It is no TCP socket's: a raw one's, or nobody's.
    pub const NO_SOCKET: Self = Self(5);
    /// How many there are.
    pub const COUNT: usize = 6;
    /// All of them, with the words that the log has for them.
    pub const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::NOT_WATCHED, "not_watched"),
        (Self::NOT_TCP, "not_tcp"),
        (Self::NO_PAYLOAD, "no_payload"),
        (Self::NOT_WANTED, "not_wanted"),
        (Self::NO_HANDSHAKE, "no_handshake"),
        (Self::NO_SOCKET, "no_tcp_socket"),
    ];
}

/// Packets that were not captured for one reason, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// The cgroup of the last one's socket.
    pub cgroup: u64,
}

const _: () = {
    assert!(size_of::<Skipped>() == 16);
    assert!(size_of::<FlowState>() == 32 && align_of::<FlowState>() == 8);
    assert!(core::mem::offset_of!(FlowState, cgroup) == 8);
    assert!(core::mem::offset_of!(FlowState, last) == 16);
    assert!(core::mem::offset_of!(FlowState, flags) == 24);
    assert!(size_of::<Handshake>() == 24 && size_of::<CachedFlow>() == 16);
    assert!(size_of::<CachedReader>() == 16 && READER_SLOTS.is_power_of_two());
    assert!(size_of::<Control>() == 4);
    assert!(size_of::<LostCounters>() == 8 * LossReason::COUNT);
    assert!(CGROUP_CACHE_SLOTS.is_power_of_two() && FLOW_CACHE_SLOTS.is_power_of_two());
    assert!(WATCHED > 0 && WATCHED < 4 && IGNORED > 0 && IGNORED < 4);
    assert!(HANDSHAKE_SLOTS.is_power_of_two() && MAX_SHARDS.is_power_of_two());
};

#[cfg(feature = "user")]
mod user {
    use super::{CachedFlow, Control, FlowState, Handshake, LostCounters, Skipped};

    // SAFETY: `IntoBytes` proves that there is no padding and `FromBytes` that every bit pattern is valid; all are
    // `Copy + 'static` and hold no pointer.
    unsafe impl aya::Pod for FlowState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Handshake {}
    // SAFETY: as above.
    unsafe impl aya::Pod for CachedFlow {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for LostCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Skipped {}
}
