//! Raw tracepoint `sock_recv_length`: which thread reads from a watched socket, and where that is asked for, each time it
//! does.
//!
//! ABI: `TP_PROTO(struct sock *sk, int ret, int flags)` (include/trace/events/sock.h, since 6.3), called by
//! `sock_recvmsg` after it has read, on the thread that asked for it; `ret` bytes were read, or there was an error. All
//! of `read`, `recv*` and io_uring pass there; `splice` and zero-copy receiving do not. The agent compares the prototype
//! with BTF before it loads this, and takes from there where the cookie stands in `struct sock`: the only thing read
//! from it. `bpf_get_current_cgroup_id`: 4.18, `bpf_probe_read_kernel`: 5.5. Maps that are not preallocated, on a
//! tracepoint: 6.1.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel,
};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use monitor_common::maps::{CachedReader, LossReason, READER_SLOTS, TELL_READS};
use monitor_common::records::{Kind, ReaderRecord};

use crate::emit::Ring;
use crate::flow;
use crate::knobs::KNOB_COOKIE_OFFSET;
use crate::maps::{FLOWS, READERS};
use crate::watch;

/// `MSG_PEEK`: looks, but leaves the bytes for another.
const PEEK: i32 = 2;

#[raw_tracepoint(tracepoint = "sock_recv_length")]
pub(crate) fn lw_recv(ctx: RawTracePointContext) -> i32 {
    // The thread's cgroup, not the socket's: they are the same unless a socket was handed over, and a service that
    // hands its sockets out of the watched cgroups is not told about.
    // SAFETY: the helper has no preconditions.
    if watch::ignored(unsafe { bpf_get_current_cgroup_id() }) {
        return 0;
    }
    let read: i32 = ctx.arg(1);
    let flags: i32 = ctx.arg(2);
    if read <= 0 || flags & PEEK != 0 {
        return 0;
    }
    let sk: *const u8 = ctx.arg(0);
    let mut cookie = 0u64;
    // SAFETY: the helper checks the address and writes exactly the 8 bytes of `cookie`.
    let failed = unsafe {
        let from = sk.wrapping_add(KNOB_COOKIE_OFFSET.load() as usize);
        bpf_probe_read_kernel((&raw mut cookie).cast(), size_of::<u64>() as u32, from.cast())
    };
    // 0 until somebody asks for the cookie, as `cgroup_skb` does for watched sockets; not a TCP socket, mostly.
    if failed != 0 || cookie == 0 {
        return 0;
    }
    let Some(sent) = budget_for_sent(cookie) else { return 0 };
    // SAFETY: the helper has no preconditions.
    reads(cookie, unsafe { bpf_get_current_pid_tgid() as u32 }, sent & TELL_READS != 0);
    0
}

/// The budget for what the socket sends, if it is captured.
#[inline(always)]
fn budget_for_sent(cookie: u64) -> Option<u32> {
    if let Some(budgets) = flow::cached(cookie) {
        return Some(budgets as u32);
    }
    let flow = FLOWS.get_ptr(cookie)?;
    // SAFETY: FLOWS is not preallocated: its elements are freed only after a grace period.
    Some(unsafe { (*flow).budget[0] })
}

/// Tells who reads, unless it is the same as before and not `each` read is wanted. Of two threads that read one socket at
/// the same time, which is told last is chance.
#[inline(always)]
pub(crate) fn reads(cookie: u64, thread: u32, each: bool) {
    let Some(slot) = READERS.get_ptr_mut(cookie as u32 & (READER_SLOTS - 1)) else { return };
    let entry = CachedReader::new(cookie, thread);
    // SAFETY: array elements live as long as the map; a torn write is found out by `mixed`.
    if !each && unsafe { slot.read() } == entry {
        return;
    }
    let Some(room) = Ring::of(cookie).reserve::<ReaderRecord>(LossReason::RING_READER) else { return };
    // SAFETY: the time has no preconditions.
    let at = unsafe { bpf_ktime_get_ns() };
    // SAFETY: `record` is ours until submitted, aligned to 8 and of the record's size; the slot as above.
    unsafe {
        room.record.write(ReaderRecord { kind: Kind::READER, thread, cookie, at });
        slot.write(entry);
    }
    room.submit();
}
