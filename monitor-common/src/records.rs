//! Ring records. Each begins with a kind; a reader takes what it knows by its length and counts the rest.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most payload bytes in one record, by tier: a reservation has the smallest that fits, so that a short segment
/// does not take the room of a long one. The first means "no payload". A segment longer than the last takes several.
pub const TIERS: [u32; 5] = [0, 128, 512, 4096, 16384];

/// Bytes of the end of a segment that are captured when its middle is not: where the end of a reply stands.
pub const TAIL: u32 = 128;

/// Room for a cgroup's path, with the terminating NUL.
pub const PATH_ROOM: usize = 256;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Kind(pub u32);

// Numbers are never used again for something else, so that a mistaken pair of probe and agent is noticed.
impl Kind {
    /// [`SegmentHeader`], then payload.
    pub const SEGMENT: Self = Self(0x11);
    /// [`FlowRecord`].
    pub const FLOW: Self = Self(0x12);
    /// [`CloseRecord`].
    pub const CLOSE: Self = Self(0x13);
    /// [`CgroupRecord`]: a cgroup was made.
    pub const CGROUP_MADE: Self = Self(0x14);
    /// [`CgroupRecord`]: a cgroup was removed.
    pub const CGROUP_REMOVED: Self = Self(0x15);
    /// [`ReaderRecord`].
    pub const READER: Self = Self(0x16);
    /// [`UnixRecord`]: an end of a Unix stream socket.
    pub const UNIX: Self = Self(0x18);
    /// [`crate::secrets::SecretRecord`].
    pub const SECRET: Self = Self(0x17);
}

/// [`SegmentHeader::flags`]: received; otherwise sent.
pub const SEGMENT_RX: u32 = 1;
/// [`SegmentHeader::flags`]: the ACK flag is set, `ack` counts.
pub const SEGMENT_ACK: u32 = 2;
/// [`SegmentHeader::flags`]: came to a listening socket (it completes the handshake): the cookie is the tag of the
/// [`FlowRecord`] with [`FLOW_LISTENER`] that comes before it.
pub const SEGMENT_LISTENER: u32 = 4;

/// Payload of one TCP segment, or of one part of it; the payload follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SegmentHeader {
    /// [`Kind::SEGMENT`].
    pub kind: Kind,
    /// `SEGMENT_*`.
    pub flags: u32,
    /// Payload bytes that this record stands for.
    pub len: u32,
    /// Payload bytes that follow; at most `len`.
    pub captured: u32,
    /// Sequence number of the first of them.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Socket cookie.
    pub cookie: u64,
    /// Monotonic clock, ns.
    pub at: u64,
    /// The running thread of a sent segment; 0: not known. It is the sender's unless the segment had to wait and the
    /// kernel sent it later, on top of whatever ran.
    pub thread: u32,
    /// The process of that thread; 0: not known. When it is not the one that uses the socket, the thread did not send.
    pub process: u32,
}

/// [`FlowRecord::flags`]: this socket connected.
pub const FLOW_CLIENT: u32 = 1;
/// [`FlowRecord::flags`]: this socket was accepted.
pub const FLOW_SERVER: u32 = 2;
/// [`FlowRecord::flags`]: `tx_start` counts.
pub const FLOW_TX_START: u32 = 4;
/// [`FlowRecord::flags`]: `rx_start` counts.
pub const FLOW_RX_START: u32 = 8;
/// [`FlowRecord::flags`]: addresses are IPv6; otherwise IPv4 in the first four bytes.
pub const FLOW_V6: u32 = 16;
/// [`FlowRecord::flags`]: not a connection yet: `cookie` is a tag of the addresses, for the
/// [`SEGMENT_LISTENER`] segment that follows.
pub const FLOW_LISTENER: u32 = 32;
/// [`FlowRecord::flags`]: no close record will come from `sock_ops` for this socket.
pub const FLOW_NO_CLOSE: u32 = 64;

/// A connection at a watched socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowRecord {
    /// [`Kind::FLOW`].
    pub kind: Kind,
    /// `FLOW_*` of this module.
    pub flags: u32,
    /// Socket cookie.
    pub cookie: u64,
    /// Monotonic clock, ns.
    pub at: u64,
    /// The socket's cgroup; 0: not known.
    pub cgroup: u64,
    /// The socket's own address, network order.
    pub local: [u8; 16],
    /// The other end's, network order.
    pub peer: [u8; 16],
    /// The socket's own port, host order.
    pub local_port: u16,
    /// The other end's, host order.
    pub peer_port: u16,
    /// Sequence number of the first byte sent.
    pub tx_start: u32,
    /// Sequence number of the first byte received.
    pub rx_start: u32,
    /// Zero.
    pub reserved: u32,
}

/// Room for what a Unix socket is bound to: `sun_path` of `struct sockaddr_un` (108 bytes, unix(7)), rounded up to a power of
/// two, by which the probes bound the length.
pub const UNIX_NAME_ROOM: usize = 128;

/// One end of a connection over a Unix stream socket. What it is bound to names the service; the other end has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixRecord {
    /// [`Kind::UNIX`].
    pub kind: Kind,
    /// [`FLOW_CLIENT`] or [`FLOW_SERVER`], neither for a pair of sockets that a process has made; [`FLOW_TX_START`] and
    /// [`FLOW_RX_START`]: bytes are counted from the connection's beginning, whose sequence number is
    /// [`UNIX_START`] in both directions.
    pub flags: u32,
    /// Names this end.
    pub cookie: u64,
    /// Monotonic clock, ns.
    pub at: u64,
    /// The cgroup of whoever uses this end; 0: not known.
    pub cgroup: u64,
    /// Names the other end.
    pub peer: u64,
    /// Inode number of the file that the server's end is bound to; 0: none (an abstract name, or no name).
    pub inode: u64,
    /// Device number of that file's filesystem, as the kernel has it.
    pub device: u32,
    /// Bytes of `name`; an abstract one begins with 0 and may hold any.
    pub name_len: u32,
    /// What the server's end is bound to.
    pub name: [u8; UNIX_NAME_ROOM],
}

/// Sequence number of the first byte of either direction of a Unix socket.
pub const UNIX_START: u32 = 1;

/// A socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CloseRecord {
    /// [`Kind::CLOSE`].
    pub kind: Kind,
    /// Zero.
    pub reserved: u32,
    /// Socket cookie.
    pub cookie: u64,
    /// Monotonic clock, ns.
    pub at: u64,
}

/// Another thread than before reads from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReaderRecord {
    /// [`Kind::READER`].
    pub kind: Kind,
    /// The thread.
    pub thread: u32,
    /// Socket cookie.
    pub cookie: u64,
    /// Monotonic clock, ns.
    pub at: u64,
}

/// A cgroup came or went, in any hierarchy of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CgroupRecord {
    /// [`Kind::CGROUP_MADE`] or [`Kind::CGROUP_REMOVED`].
    pub kind: Kind,
    /// Bytes of the path with its NUL; [`PATH_ROOM`]: it may be cut. 0: it could not be read.
    pub path_len: u32,
    /// Monotonic clock, ns.
    pub at: u64,
    /// Path below the root of its hierarchy; only the first `path_len` bytes count.
    pub path: [u8; PATH_ROOM],
}

const _: () = {
    assert!(size_of::<SegmentHeader>() == 48 && align_of::<SegmentHeader>() == 8);
    assert!(core::mem::offset_of!(SegmentHeader, cookie) == 24);
    assert!(core::mem::offset_of!(SegmentHeader, at) == 32);
    assert!(size_of::<FlowRecord>() == 80);
    assert!(core::mem::offset_of!(FlowRecord, at) == 16);
    assert!(core::mem::offset_of!(FlowRecord, local) == 32);
    assert!(core::mem::offset_of!(FlowRecord, local_port) == 64);
    assert!(size_of::<UnixRecord>() == 56 + UNIX_NAME_ROOM);
    assert!(core::mem::offset_of!(UnixRecord, at) == 16);
    assert!(size_of::<CloseRecord>() == 24);
    assert!(core::mem::offset_of!(CloseRecord, at) == 16);
    assert!(size_of::<ReaderRecord>() == 24);
    assert!(core::mem::offset_of!(ReaderRecord, at) == 16);
    assert!(size_of::<CgroupRecord>() == 16 + PATH_ROOM);
    assert!(core::mem::offset_of!(CgroupRecord, at) == 8);
    // Payload tiers but the empty one are powers of two: the probes bound the length by a mask.
    let mut tiers: &[u32] = &TIERS;
    while let [tier, rest @ ..] = tiers {
        assert!(*tier == 0 || tier.is_power_of_two());
        tiers = rest;
    }
};
