//! Globals set by the agent before load; the names are in `monitor_common::knobs`.

use aya_ebpf::Global;

#[unsafe(no_mangle)]
pub(crate) static KNOB_SHARDS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub(crate) static KNOB_PAYLOAD_CAP: Global<u32> = Global::new(16384);
#[unsafe(no_mangle)]
pub(crate) static KNOB_WAKE_BYTES: Global<u32> = Global::new(65536);
#[unsafe(no_mangle)]
pub(crate) static KNOB_WATCH_UNKNOWN: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KNOB_THREADS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KNOB_COOKIE_OFFSET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KNOB_SEED: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KNOB_EXPLAIN: Global<u32> = Global::new(0);

/// Where fields of kernel structures are that the probes of Unix sockets read.
macro_rules! unix {
    ($($knob:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            pub(crate) static $knob: Global<u32> = Global::new(0);
        )*
    };
}

unix! {
    KNOB_UNIX_SOCKET_SK
    KNOB_UNIX_PEER
    KNOB_UNIX_ADDR
    KNOB_UNIX_DENTRY
    KNOB_UNIX_NAME_LEN
    KNOB_UNIX_NAME
    KNOB_UNIX_INODE
    KNOB_UNIX_INODE_NUMBER
    KNOB_UNIX_SUPER
    KNOB_UNIX_DEVICE
    KNOB_UNIX_ITER
    KNOB_UNIX_ITER_TYPE
    KNOB_UNIX_ITER_OFFSET
    KNOB_UNIX_ITER_IOV
    KNOB_UNIX_TYPE_IOVEC
    KNOB_UNIX_TYPE_UBUF
    KNOB_UNIX_SOCK_CGROUP
    KNOB_UNIX_CGROUP_NODE
    KNOB_UNIX_NODE_ID
}
