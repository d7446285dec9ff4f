//! Unix stream sockets: who the two ends are, and how they are announced. What passes over one is captured where it is
//! *read* (`unix_read.rs`): only then is it certain how much of it there is, and whoever read it has not acted on it yet,
//! so that cause stands before effect in the ring.
//!
//! Nothing here has a stable ABI. The functions are hooked by name (fentry and fexit, 5.5), fields are read at the offsets
//! that the agent takes from the kernel's BTF, and where anything is missing the agent says so and does without.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_ktime_get_ns, bpf_probe_read_kernel,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use core::ffi::c_void;
use monitor_common::maps::{LossReason, UNIX_WHOLE, WATCHED};
use monitor_common::records::{
    FLOW_CLIENT, FLOW_RX_START, FLOW_SERVER, FLOW_TX_START, Kind, UNIX_NAME_ROOM, UnixRecord,
};

use crate::emit::{Ring, bounded};
use crate::flow;
use crate::knobs::{
    KNOB_SEED, KNOB_UNIX_ADDR, KNOB_UNIX_CGROUP_NODE, KNOB_UNIX_DENTRY, KNOB_UNIX_DEVICE, KNOB_UNIX_INODE,
    KNOB_UNIX_INODE_NUMBER, KNOB_UNIX_NAME, KNOB_UNIX_NAME_LEN, KNOB_UNIX_NODE_ID, KNOB_UNIX_PEER,
    KNOB_UNIX_SOCK_CGROUP, KNOB_UNIX_SOCKET_SK, KNOB_UNIX_SUPER,
};
use crate::maps::{CGROUPS, FLOWS};
use crate::watch;

/// Bytes that an end has read, by its cookie: counted from the connection's beginning where [`UNIX_WHOLE`] is set, else from
/// the first read that was seen. The agent takes connections out of which a read may have been missed.
#[map]
static UNIX_READ: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16384, 0);

/// `sun_family` before `sun_path`.
const FAMILY: u32 = 2;
/// Deepest cgroup whose ancestors are looked at, as for packets.
const DEPTH: i32 = 16;

/// One end of a connection: a `struct unix_sock`, by its address.
#[derive(Clone, Copy)]
pub(crate) struct End(u64);

impl End {
    /// The one behind a `struct socket`.
    #[inline(always)]
    pub(crate) fn of_socket(socket: u64) -> Option<Self> {
        Self::at(read_u64(socket, KNOB_UNIX_SOCKET_SK.load()))
    }

    /// The one that a `struct sock` begins.
    #[inline(always)]
    pub(crate) fn at(sk: u64) -> Option<Self> {
        (sk != 0).then_some(Self(sk))
    }

    /// The other end; `None`: it is closed.
    #[inline(always)]
    pub(crate) fn peer(self) -> Option<Self> {
        Self::at(read_u64(self.0, KNOB_UNIX_PEER.load()))
    }

    /// Names it while it lives. Not the socket's own cookie: a program of this kind may not ask for that before 5.12. The
    /// upper bit sets it apart from those, which count up from 1.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        flow::mix(KNOB_SEED.load(), self.0) | 1 << 63
    }

    /// The address that it is bound to: `struct unix_address`. The server's end has its listener's.
    #[inline(always)]
    fn address(self) -> u64 {
        read_u64(self.0, KNOB_UNIX_ADDR.load())
    }

    /// The cgroup of whoever made it. Of an end that was accepted that is the client's.
    #[inline(always)]
    fn made_in(self) -> u64 {
        let cgroup = read_u64(self.0, KNOB_UNIX_SOCK_CGROUP.load());
        if cgroup == 0 {
            return 0;
        }
        let node = read_u64(cgroup, KNOB_UNIX_CGROUP_NODE.load());
        if node == 0 { 0 } else { read_u64(node, KNOB_UNIX_NODE_ID.load()) }
    }
}

/// An end that is captured.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) end: End,
    /// Of whoever uses it.
    pub(crate) cgroup: u64,
}

/// The running process' cgroup, if it is watched: `end` is one that it uses.
#[inline(always)]
pub(crate) fn used_here(end: End) -> Option<Watched> {
    // SAFETY: the helper has no preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    if watch::ignored(cgroup) {
        return None;
    }
    // SAFETY: the map is not preallocated, so elements are freed only after a grace period.
    let mut decided = unsafe { CGROUPS.get(cgroup) }.copied().unwrap_or(0);
    let mut level = DEPTH;
    while decided == 0 && level >= 1 {
        // SAFETY: the helper has no preconditions. Levels below the process' own give 0.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if ancestor != 0 {
            // SAFETY: as above.
            decided = unsafe { CGROUPS.get(ancestor) }.copied().unwrap_or(0);
        }
        level -= 1;
    }
    (decided == WATCHED).then_some(Watched { end, cgroup })
}

/// The other end of what the running process uses, if it is captured: it was announced before, or whoever connected is
/// watched.
#[inline(always)]
pub(crate) fn used_there(end: End, other: End) -> Option<Watched> {
    // An end that is closed has left its peer.
    if end.peer().is_none_or(|back| back.0 != other.0) {
        return None;
    }
    if let Some(flow) = FLOWS.get_ptr(end.cookie()) {
        // SAFETY: FLOWS is not preallocated: its elements are freed only after a grace period.
        return Some(Watched { end, cgroup: unsafe { (*flow).cgroup } });
    }
    if end.address() != 0 {
        return None;
    }
    let cgroup = end.made_in();
    // SAFETY: the map is not preallocated, so elements are freed only after a grace period.
    (unsafe { CGROUPS.get(cgroup) }.copied() == Some(WATCHED)).then_some(Watched { end, cgroup })
}

/// A connection begins: its bytes are counted from here.
#[inline(always)]
pub(crate) fn begins(end: End) {
    let _ = UNIX_READ.insert(end.cookie(), UNIX_WHOLE, u64::from(BPF_ANY));
}

/// An end is gone.
#[inline(always)]
pub(crate) fn ends(end: End) {
    let cookie = end.cookie();
    let _ = UNIX_READ.remove(cookie);
    flow::closed(cookie);
}

/// `n` bytes more were read at this end: how many there were before.
#[inline(always)]
pub(crate) fn count(end: End, n: u32) -> u32 {
    if let Some(read) = UNIX_READ.get_ptr_mut(end.cookie()) {
        // SAFETY: an element of a preallocated map; who reads a stream holds its lock, so nobody else counts at once.
        unsafe {
            let before = *read;
            *read = before & UNIX_WHOLE | u64::from((before as u32).wrapping_add(n));
            return before as u32;
        }
    }
    let _ = UNIX_READ.insert(end.cookie(), u64::from(n), u64::from(BPF_ANY));
    0
}

/// Whether what both ends read is counted from the beginning.
#[inline(always)]
fn is_whole(end: End, other: End) -> bool {
    // SAFETY: the map is preallocated: its elements live as long as it.
    let whole = |end: End| unsafe { UNIX_READ.get(end.cookie()) }.is_some_and(|read| *read & UNIX_WHOLE != 0);
    whole(end) && whole(other)
}

/// Budgets of an end, which is announced if it was not before; `None`: there was no room.
#[inline(always)]
pub(crate) fn budgets(watched: &Watched, other: End) -> Option<[u32; 2]> {
    let cookie = watched.end.cookie();
    if FLOWS.get_ptr(cookie).is_none() && announce(watched, other) == 0 {
        return None;
    }
    let flow = FLOWS.get_ptr(cookie)?;
    // SAFETY: FLOWS is not preallocated: its elements are freed only after a grace period.
    Some(unsafe { (*flow).budget })
}

/// Announces an end and remembers it; 0: there was no room. In the order that `flow::announce` keeps.
#[inline(never)]
fn announce(watched: &Watched, other: End) -> u32 {
    let cookie = watched.end.cookie();
    let (own, others) = (watched.end.address(), other.address());
    let role = if own == others {
        0
    } else if own == 0 {
        FLOW_CLIENT
    } else {
        FLOW_SERVER
    };
    let server = if own == 0 { other } else { watched.end };
    let whole = is_whole(watched.end, other);
    let Some(room) = Ring::of(cookie).reserve::<UnixRecord>(LossReason::RING_FLOW) else { return 0 };
    let record = room.record;
    // SAFETY: `record` is ours until submitted, aligned to 8 and of the record's size; the helper checks the addresses that
    // it reads from, and writes at most what there is room for.
    unsafe {
        record.write(UnixRecord {
            kind: Kind::UNIX,
            flags: role | if whole { FLOW_TX_START | FLOW_RX_START } else { 0 },
            cookie,
            at: bpf_ktime_get_ns(),
            cgroup: watched.cgroup,
            peer: other.cookie(),
            inode: 0,
            device: 0,
            name_len: 0,
            name: [0; UNIX_NAME_ROOM],
        });
        let address = server.address();
        if address != 0 {
            let len = read_u32(address, KNOB_UNIX_NAME_LEN.load()).wrapping_sub(FAMILY);
            let from = (address + u64::from(KNOB_UNIX_NAME.load()) + u64::from(FAMILY)) as *const c_void;
            if len.wrapping_sub(1) < UNIX_NAME_ROOM as u32 {
                let len = bounded::<{ UNIX_NAME_ROOM as u32 }>(len);
                if bpf_probe_read_kernel((&raw mut (*record).name).cast(), len, from) == 0 {
                    (*record).name_len = len;
                }
            }
            let dentry = read_u64(server.0, KNOB_UNIX_DENTRY.load());
            let inode = if dentry == 0 { 0 } else { read_u64(dentry, KNOB_UNIX_INODE.load()) };
            if inode != 0 {
                (*record).inode = read_u64(inode, KNOB_UNIX_INODE_NUMBER.load());
                let super_block = read_u64(inode, KNOB_UNIX_SUPER.load());
                (*record).device = read_u32(super_block, KNOB_UNIX_DEVICE.load());
            }
        }
    }
    if FLOWS.insert(cookie, flow::state(watched.cgroup, 0), u64::from(BPF_ANY)).is_err() {
        room.discard(LossReason::FLOWS_FULL);
        return 0;
    }
    room.submit();
    1
}

/// A pointer that the function was called with, as a number: of the pointer itself the verifier allows no arithmetic.
#[inline(always)]
pub(crate) fn argument(ctx: &impl EbpfContext, n: u32) -> u64 {
    read_u64(ctx.as_ptr() as u64, n * size_of::<u64>() as u32)
}

/// A word of the kernel's memory; 0: it cannot be read.
#[inline(always)]
pub(crate) fn read_u64(base: u64, offset: u32) -> u64 {
    let mut word = 0u64;
    let from = (base + u64::from(offset)) as *const c_void;
    // SAFETY: the helper checks the address and writes exactly the 8 bytes of `word`; it fills them with zeros if it fails.
    unsafe { bpf_probe_read_kernel((&raw mut word).cast(), size_of::<u64>() as u32, from) };
    word
}

/// Half a word of the kernel's memory; 0: it cannot be read.
#[inline(always)]
pub(crate) fn read_u32(base: u64, offset: u32) -> u32 {
    let mut word = 0u32;
    let from = (base + u64::from(offset)) as *const c_void;
    // SAFETY: as above, with 4 bytes.
    unsafe { bpf_probe_read_kernel((&raw mut word).cast(), size_of::<u32>() as u32, from) };
    word
}
