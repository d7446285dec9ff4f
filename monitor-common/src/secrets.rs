//! What the probes of TLS libraries tell: the secrets of handshakes. Records of a ring of their own.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::records::Kind;

/// Names of the maps, as the object file has them.
pub mod names {
    /// Cgroup id to 1: the processes in it are asked.
    pub const CGROUPS: &str = "TLS_CGROUPS";
    /// The ring.
    pub const RING: &str = "TLS_RING";
    /// One [`super::Counters`] per CPU.
    pub const COUNTERS: &str = "TLS_COUNTERS";
    /// [`super::Call`] to [`super::Calls`].
    pub const CALLS: &str = "TLS_CALLS";
}

/// `u32`: 1 where the probes are loaded on 64-bit ARM.
pub const KNOB_ARM: &str = "KNOB_ARM";

/// Room for a label with its NUL.
pub const LABEL_ROOM: usize = 32;
/// Longest secret, bytes: an output of SHA-512.
pub const SECRET_ROOM: usize = 64;
/// Bytes of the client's random.
pub const RANDOM_BYTES: usize = 32;

/// Labels as the key-log format has them (RFC 9850 §2); [`SecretRecord::label`] is an index.
pub const LABELS: [&[u8]; 5] = [
    b"CLIENT_RANDOM",
    b"CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    b"SERVER_HANDSHAKE_TRAFFIC_SECRET",
    b"CLIENT_TRAFFIC_SECRET_0",
    b"SERVER_TRAFFIC_SECRET_0",
];

/// rustls' kinds of secrets (`SecretKind` of src/tls13/key_schedule.rs) that are of use, as numbers of their enum, with
/// the label of each.
pub const RUST_KINDS: [(u32, u32); 4] = [(2, 1), (3, 2), (4, 3), (5, 4)];

/// [`LABELS`] in words, zeros behind each: so the probes compare them.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
pub const LABEL_WORDS: [[u64; LABEL_ROOM / 8]; LABELS.len()] = {
    let mut all = [[0; LABEL_ROOM / 8]; LABELS.len()];
    let mut i = 0;
    while i < all.len() {
        all[i] = words(LABELS[i]);
        i += 1;
    }
    all
};

#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const fn words(label: &[u8]) -> [u64; LABEL_ROOM / 8] {
    let mut words = [0u64; LABEL_ROOM / 8];
    let mut i = 0;
    while i < label.len() {
        words[i / 8] |= (label[i] as u64) << (8 * (i % 8));
        i += 1;
    }
    words
}

/// [`SecretRecord::flags`]: the client's random bytes are there.
pub const SECRET_RANDOM: u32 = 1;

/// One secret of one handshake.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SecretRecord {
    /// [`Kind::SECRET`].
    pub kind: Kind,
    /// `SECRET_*`.
    pub flags: u32,
    /// Monotonic clock, ns.
    pub at: u64,
    /// The process' cgroup.
    pub cgroup: u64,
    /// The process.
    pub process: u32,
    /// Index into [`LABELS`].
    pub label: u32,
    /// Bytes of the secret; at most [`SECRET_ROOM`].
    pub len: u32,
    /// Zero.
    pub reserved: u32,
    /// The client's random bytes.
    pub random: [u8; RANDOM_BYTES],
    /// The secret, zeros behind it.
    pub secret: [u8; SECRET_ROOM],
}

impl SecretRecord {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        kind: Kind::SECRET,
        flags: 0,
        at: 0,
        cgroup: 0,
        process: 0,
        label: 0,
        len: 0,
        reserved: 0,
        random: [0; RANDOM_BYTES],
        secret: [0; SECRET_ROOM],
    };
}

/// What came of a call of a probed function by a watched process: index into [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Outcome(pub u32);

impl Outcome {
    /// A secret was delivered.
    pub const DELIVERED: Self = Self(0);
    /// It was no secret that is of use.
    pub const OTHER: Self = Self(1);
    /// Its label or the secret could not be read.
    pub const UNREADABLE: Self = Self(2);
    /// The ring was full.
    pub const LOST: Self = Self(3);
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All of them, with the names that the metric shows.
    pub const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::DELIVERED, "delivered"),
        (Self::OTHER, "other"),
        (Self::UNREADABLE, "unreadable"),
        (Self::LOST, "lost"),
    ];
}

/// Which function a process called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Call {
    /// Where it begins, in the process' memory.
    pub at: u64,
    /// The process.
    pub process: u32,
    /// Zero.
    pub reserved: u32,
}

/// Calls of one function by one watched process, about: two at once may count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Calls {
    /// With a label of a secret.
    pub with_label: u64,
    /// With anything else.
    pub other: u64,
}

/// Calls on one CPU, by [`Outcome`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// Counts.
    pub by_outcome: [u64; Outcome::COUNT],
}

#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const _: () = {
    assert!(size_of::<SecretRecord>() == 136 && align_of::<SecretRecord>() == 8);
    assert!(core::mem::offset_of!(SecretRecord, at) == 8);
    assert!(core::mem::offset_of!(SecretRecord, random) == 40);
    assert!(core::mem::offset_of!(SecretRecord, secret) == 72);
    assert!(size_of::<Counters>() == 8 * Outcome::COUNT);
    assert!(SECRET_ROOM.is_power_of_two() && LABEL_ROOM.is_power_of_two());
    let mut i = 0;
    while i < LABELS.len() {
        assert!(LABELS[i].len() < LABEL_ROOM);
        i += 1;
    }
};

#[cfg(feature = "user")]
mod user {
    use super::{Call, Calls, Counters};

    // SAFETY: `IntoBytes` proves that there is no padding and `FromBytes` that every bit pattern is valid; it is
    // `Copy + 'static` and holds no pointer.
    unsafe impl aya::Pod for Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Call {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Calls {}
}
