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
/// `u32` each: bytes from the beginning of a kernel structure to one of its fields, and two values of an enumeration, as the
/// kernel's BTF says; what the probes of Unix sockets read.
pub mod unix {
    /// `struct socket`: `sk`.
    pub const SOCKET_SK: &str = "KNOB_UNIX_SOCKET_SK";
    /// `struct unix_sock`: `peer`.
    pub const PEER: &str = "KNOB_UNIX_PEER";
    /// `struct unix_sock`: `addr`.
    pub const ADDR: &str = "KNOB_UNIX_ADDR";
    /// `struct unix_sock`: `path`, in it `dentry`.
    pub const DENTRY: &str = "KNOB_UNIX_DENTRY";
    /// `struct unix_address`: `len`.
    pub const NAME_LEN: &str = "KNOB_UNIX_NAME_LEN";
    /// `struct unix_address`: `name`.
    pub const NAME: &str = "KNOB_UNIX_NAME";
    /// `struct dentry`: `d_inode`.
    pub const INODE: &str = "KNOB_UNIX_INODE";
    /// `struct inode`: `i_ino`.
    pub const INODE_NUMBER: &str = "KNOB_UNIX_INODE_NUMBER";
    /// `struct inode`: `i_sb`.
    pub const SUPER: &str = "KNOB_UNIX_SUPER";
    /// `struct super_block`: `s_dev`.
    pub const DEVICE: &str = "KNOB_UNIX_DEVICE";
    /// `struct msghdr`: `msg_iter`.
    pub const ITER: &str = "KNOB_UNIX_ITER";
    /// `struct iov_iter`: `iter_type` (5.14).
    pub const ITER_TYPE: &str = "KNOB_UNIX_ITER_TYPE";
    /// `struct iov_iter`: `iov_offset`.
    pub const ITER_OFFSET: &str = "KNOB_UNIX_ITER_OFFSET";
    /// `struct iov_iter`: `__iov` (`iov` before 6.4), where `ubuf` stands, too.
    pub const ITER_IOV: &str = "KNOB_UNIX_ITER_IOV";
    /// `ITER_IOVEC` of `enum iter_type`.
    pub const TYPE_IOVEC: &str = "KNOB_UNIX_TYPE_IOVEC";
    /// `ITER_UBUF` of `enum iter_type` (6.0); a value that no iterator has where there is none.
    pub const TYPE_UBUF: &str = "KNOB_UNIX_TYPE_UBUF";
    /// `struct sock`: `sk_cgrp_data`, which begins with a pointer to the cgroup.
    pub const SOCK_CGROUP: &str = "KNOB_UNIX_SOCK_CGROUP";
    /// `struct cgroup`: `kn`.
    pub const CGROUP_NODE: &str = "KNOB_UNIX_CGROUP_NODE";
    /// `struct kernfs_node`: `id`.
    pub const NODE_ID: &str = "KNOB_UNIX_NODE_ID";
}

/// `u64`: random, keys the hash of addresses, so that nobody can aim at another connection's slot.
pub const SEED: &str = "KNOB_SEED";
