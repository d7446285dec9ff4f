//! `unix_stream_recvmsg`, at its entry and its return: a process reads from a Unix stream socket.
//!
//! `int unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)`, net/unix/af_unix.c: all of
//! `read`, `recv*` and io_uring pass there; `splice` does not. At its return the iterator over the reader's memory has
//! moved on: where it began is noted at the entry, by the thread.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::{fentry, fexit, map};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{FEntryContext, FExitContext};
use monitor_common::maps::{BUDGET_SILENT, TELL_READS};
use monitor_common::records::{Kind, SEGMENT_RX, SegmentHeader, UNIX_START};

use crate::emit::{InProcess, Ring};
use crate::knobs::{
    KNOB_PAYLOAD_CAP, KNOB_UNIX_ITER, KNOB_UNIX_ITER_IOV, KNOB_UNIX_ITER_OFFSET, KNOB_UNIX_ITER_TYPE,
    KNOB_UNIX_TYPE_IOVEC, KNOB_UNIX_TYPE_UBUF,
};
use crate::sock_calls::reads;
use crate::unix::{self, End, Watched, read_u32, read_u64};

/// `MSG_PEEK`: looks, but leaves the bytes for another.
const PEEK: i32 = 2;
/// Most records of one read; what is longer lacks its end, and says so.
const MAX_PIECES: u32 = 8;

/// A read that has begun.
#[derive(Clone, Copy)]
#[repr(C)]
struct Begun {
    /// The reader's `struct socket`.
    socket: u64,
    /// The reader's memory, or a list of such places (`struct iovec`).
    at: u64,
    /// Bytes of the first place that are used already.
    used: u64,
    /// 1: `at` is the list.
    listed: u64,
}

/// Reads that have begun, by thread. Preallocated, and with room for more threads than read at once on most machines.
#[map]
static UNIX_READS: HashMap<u64, Begun> = HashMap::with_max_entries(8192, 0);

#[fentry(function = "unix_stream_recvmsg")]
pub(crate) fn lw_unix_read(ctx: FEntryContext) -> i32 {
    let socket: u64 = unix::argument(&ctx, 0);
    let message: u64 = unix::argument(&ctx, 1);
    let flags: i32 = ctx.arg(3);
    if flags & PEEK != 0 {
        return 0;
    }
    let Some(end) = End::of_socket(socket) else { return 0 };
    let Some(other) = end.peer() else { return 0 };
    if unix::used_here(end).is_none() && unix::used_there(other, end).is_none() {
        return 0;
    }
    let iter = message + u64::from(KNOB_UNIX_ITER.load());
    // One byte of it is the type.
    let kind = read_u32(iter, KNOB_UNIX_ITER_TYPE.load()) & 0xff;
    let listed = kind == KNOB_UNIX_TYPE_IOVEC.load();
    // A kernel thread reads into its own memory.
    if !listed && kind != KNOB_UNIX_TYPE_UBUF.load() {
        return 0;
    }
    let begun = Begun {
        socket,
        at: read_u64(iter, KNOB_UNIX_ITER_IOV.load()),
        used: read_u64(iter, KNOB_UNIX_ITER_OFFSET.load()),
        listed: u64::from(listed),
    };
    // SAFETY: the helper has no preconditions.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    let _ = UNIX_READS.insert(thread, begun, u64::from(BPF_ANY));
    0
}

#[fexit(function = "unix_stream_recvmsg")]
pub(crate) fn lw_unix_read_end(ctx: FExitContext) -> i32 {
    // SAFETY: the helper has no preconditions.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    // SAFETY: the map is preallocated: its elements live as long as it, and this one is this thread's.
    let Some(begun) = (unsafe { UNIX_READS.get(thread) }).copied() else { return 0 };
    let _ = UNIX_READS.remove(thread);
    // The returned value stands behind the arguments.
    let n: i32 = ctx.arg(4);
    let socket: u64 = unix::argument(&ctx, 0);
    if n <= 0 || socket != begun.socket {
        return 0;
    }
    let Some(end) = End::of_socket(socket) else { return 0 };
    let Some(other) = end.peer() else { return 0 };
    let (here, there) = (unix::used_here(end), unix::used_there(other, end));
    // Announced before it is counted: the first bytes are those from which on it is.
    let [wanted, received] = here.and_then(|w| unix::budgets(&w, other)).unwrap_or([BUDGET_SILENT; 2]);
    let sent = there.and_then(|w| unix::budgets(&w, end)).map_or(BUDGET_SILENT, |[tx, _]| tx & !TELL_READS);
    let before = unix::count(end, n as u32);
    // SAFETY: the time has no preconditions.
    let at = unsafe { bpf_ktime_get_ns() };
    let header = SegmentHeader {
        kind: Kind::SEGMENT,
        flags: 0,
        len: n as u32,
        captured: 0,
        seq: UNIX_START.wrapping_add(before),
        ack: 0,
        cookie: 0,
        at,
        thread: 0,
        process: 0,
    };
    if let Some(Watched { end, .. }) = there
        && sent != BUDGET_SILENT
    {
        deliver(&begun, &SegmentHeader { cookie: end.cookie(), ..header }, sent);
    }
    if here.is_some() && received != BUDGET_SILENT {
        deliver(&begun, &SegmentHeader { cookie: end.cookie(), flags: SEGMENT_RX, ..header }, received);
        reads(end.cookie(), thread as u32, wanted & TELL_READS != 0);
    }
    0
}

/// What was read, as segments of the longest that a record holds. Of what was read into several places (`readv`) only the
/// first is copied.
#[inline(never)]
fn deliver(begun: &Begun, whole: &SegmentHeader, budget: u32) -> u32 {
    let ring = Ring::of(whole.cookie);
    let cap = KNOB_PAYLOAD_CAP.load();
    let mut from = begun.at;
    let mut room = u64::MAX;
    if begun.listed != 0 {
        // `struct iovec`: where, and how long.
        from = read_u64(begun.at, 0);
        room = read_u64(begun.at, 8);
    }
    from += begun.used;
    room = room.saturating_sub(begun.used);
    let mut wanted = if whole.len > budget - 1 { budget - 1 } else { whole.len };
    if u64::from(wanted) > room {
        wanted = room as u32;
    }
    let mut at = 0;
    // All but the last are full: their length is known to the verifier, which then looks at one tier only.
    for _ in 1..MAX_PIECES {
        if wanted - at <= cap {
            break;
        }
        let piece = SegmentHeader { len: cap, seq: whole.seq.wrapping_add(at), ..*whole };
        ring.segment(InProcess(from + u64::from(at)), cap, &piece);
        at += cap;
    }
    let left = wanted - at;
    // What is not copied is told by its length.
    let last = SegmentHeader { len: whole.len - at, seq: whole.seq.wrapping_add(at), ..*whole };
    ring.segment(InProcess(from + u64::from(at)), if left > cap { cap } else { left }, &last);
    0
}
