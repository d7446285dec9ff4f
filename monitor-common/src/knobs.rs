//! Names of the globals that the agent sets before it loads the probes. They are constants to the verifier: code
//! behind a knob that is off is removed before it is checked.

/// `u32`: how many rings are in use, a power of two up to [`crate::maps::MAX_SHARDS`].
pub const SHARDS: &str = "KNOB_SHARDS";
/// `u32`: most payload bytes copied from one segment. One of the tiers in [`crate::records::TIERS`].
pub const PAYLOAD_CAP: &str = "KNOB_PAYLOAD_CAP";
/// `u32`: wake the reader when a ring holds more than so many bytes.
pub const WAKE_BYTES: &str = "KNOB_WAKE_BYTES";
/// `u32`: 1 when a cgroup that the agent has not decided about yet, and none of whose ancestors it has, is watched.
pub const WATCH_UNKNOWN: &str = "KNOB_WATCH_UNKNOWN";
/// `u32`: 1 when the sending thread is recorded; needs `bpf_get_current_pid_tgid` in `cgroup_skb`.
pub const THREADS: &str = "KNOB_THREADS";
/// `u32`: 1 when it is counted why packets are not captured (`SKIPPED`).
pub const EXPLAIN: &str = "KNOB_EXPLAIN";
/// `u32`: byte in `struct sock` at which the socket's cookie stands, as the kernel's BTF says.
pub const COOKIE_OFFSET: &str = "KNOB_COOKIE_OFFSET";
/// `u64`: random, keys the hash of addresses, so that nobody can aim at another connection's slot.
pub const SEED: &str = "KNOB_SEED";
