//! From a label and a place in memory to a record; the maps, and what is lost.

use aya_ebpf::helpers::generated::{
    bpf_copy_from_user, bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user,
    bpf_probe_read_user_str, bpf_ringbuf_discard, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray, RingBuf};
use core::ffi::c_void;
use monitor_common::secrets::{
    Call, Calls, Counters, LABEL_ROOM, LABEL_WORDS, Outcome, RANDOM_BYTES, SECRET_RANDOM, SECRET_ROOM, SecretRecord,
};

/// Cgroups whose processes are asked. Preallocated: kernels before 6.1 warn where a tracing program has another kind.
#[map]
static TLS_CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(1, 0);
#[map]
static TLS_RING: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
static TLS_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
/// Which calls bring labels: a function that is called, and never with one, is not what it was taken for.
#[map]
static TLS_CALLS: LruHashMap<Call, Calls> = LruHashMap::with_max_entries(1024, 0);

/// The running process' cgroup, if it is asked.
#[inline(always)]
pub(crate) fn watched() -> Option<u64> {
    // SAFETY: the helper has no preconditions.
    let id = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: the map is preallocated: its elements live as long as it; only their being there counts.
    unsafe { TLS_CGROUPS.get(id) }.map(|_| id)
}

/// Counts what came of a call.
#[inline(always)]
pub(crate) fn count(outcome: Outcome) {
    if let Some(counters) = TLS_COUNTERS.get_ptr_mut(0) {
        // SAFETY: the outcome is a constant below COUNT, so the counter is inside the map's value; of this CPU, and a
        // probe that sleeps and moves to another loses one count at worst.
        unsafe {
            let counter = (&raw mut (*counters).by_outcome).cast::<u64>().add(outcome.0 as usize);
            *counter += 1;
        }
    }
}

/// Notes a call of the function at `at`.
#[inline(always)]
pub(crate) fn note(at: u64, with_label: bool) {
    // SAFETY: the helper has no preconditions.
    let process = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    let call = Call { at, process, reserved: 0 };
    if let Some(calls) = TLS_CALLS.get_ptr_mut(call) {
        // SAFETY: the map is preallocated: the element may become another's, whose count is then one off.
        unsafe {
            if with_label {
                (*calls).with_label += 1;
            } else {
                (*calls).other += 1;
            }
        }
        return;
    }
    let calls = Calls { with_label: with_label as u64, other: !with_label as u64 };
    let _ = TLS_CALLS.insert(call, calls, 0);
}

/// Brings the page with this byte into memory.
#[inline(always)]
fn fetch(at: u64) {
    let mut byte = 0u8;
    // SAFETY: the helper checks the address and writes the one byte.
    unsafe { bpf_copy_from_user((&raw mut byte).cast(), 1, at as *const c_void) };
}

/// The label whose text, with a NUL, is at this address. `Err`: nothing can be read there.
#[inline(always)]
pub(crate) fn label_at<const SLEEPS: bool>(at: u64) -> Result<Option<u32>, ()> {
    let mut text = [0u64; LABEL_ROOM / 8];
    // SAFETY: the helper checks the address and writes at most `LABEL_ROOM` bytes to `text`.
    let read = |text: *mut u64| unsafe { bpf_probe_read_user_str(text.cast(), LABEL_ROOM as u32, at as *const c_void) };
    let mut n = read(text.as_mut_ptr());
    if SLEEPS && n < 0 {
        fetch(at);
        fetch(at + LABEL_ROOM as u64 - 1);
        n = read(text.as_mut_ptr());
    }
    if n < 0 { Err(()) } else { Ok(which(&text)) }
}

/// The label with `len` bytes at this address.
#[inline(always)]
pub(crate) fn label_of<const SLEEPS: bool>(at: u64, len: u64) -> Result<Option<u32>, ()> {
    let mut text = [0u64; LABEL_ROOM / 8];
    if len == 0 || len >= LABEL_ROOM as u64 {
        return Ok(None);
    }
    let n = bounded::<{ LABEL_ROOM as u32 }>(len as u32);
    // SAFETY: the helper checks the address; the length is at most that of `text`.
    let read = |text: *mut u64| unsafe { bpf_probe_read_user(text.cast(), n, at as *const c_void) };
    let mut failed = read(text.as_mut_ptr());
    if SLEEPS && failed != 0 {
        fetch(at);
        fetch(at + len - 1);
        failed = read(text.as_mut_ptr());
    }
    if failed != 0 { Err(()) } else { Ok(which(&text)) }
}

#[inline(always)]
fn which(text: &[u64; LABEL_ROOM / 8]) -> Option<u32> {
    for (i, label) in (0u32..).zip(LABEL_WORDS) {
        if text[0] == label[0] && text[1] == label[1] && text[2] == label[2] && text[3] == label[3] {
            return Some(i);
        }
    }
    None
}

/// A secret, where it is in the process' memory.
pub(crate) struct Place {
    pub(crate) cgroup: u64,
    /// Index into `LABELS`.
    pub(crate) label: u32,
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// Where the client's random bytes are; 0: not known.
    pub(crate) random: u64,
}

/// Delivers it.
#[inline(always)]
pub(crate) fn deliver(place: &Place) {
    if place.len == 0 || place.len > SECRET_ROOM as u64 {
        count(Outcome::OTHER);
        return;
    }
    let ring = core::ptr::from_ref(&TLS_RING).cast_mut().cast::<c_void>();
    // SAFETY: the map is a ring buffer and the size is a constant.
    let room = unsafe { bpf_ringbuf_reserve(ring, size_of::<SecretRecord>() as u64, 0) };
    if room.is_null() {
        count(Outcome::LOST);
        return;
    }
    let record = room.cast::<SecretRecord>();
    // SAFETY: these helpers have no preconditions.
    let (now, who) = unsafe { (bpf_ktime_get_ns(), bpf_get_current_pid_tgid()) };
    // SAFETY: `record` is ours until submitted, aligned to 8 and of the record's size; the helpers check the addresses
    // that they read from, and write at most what there is room for. What they do not write is zero.
    unsafe {
        record.write(SecretRecord {
            at: now,
            cgroup: place.cgroup,
            process: (who >> 32) as u32,
            label: place.label,
            len: place.len as u32,
            ..SecretRecord::EMPTY
        });
        let n = bounded::<{ SECRET_ROOM as u32 }>(place.len as u32);
        if bpf_probe_read_user((&raw mut (*record).secret).cast(), n, place.at as *const c_void) != 0 {
            bpf_ringbuf_discard(room, 0);
            count(Outcome::UNREADABLE);
            return;
        }
        if place.random != 0 {
            let random = (&raw mut (*record).random).cast();
            if bpf_probe_read_user(random, RANDOM_BYTES as u32, place.random as *const c_void) == 0 {
                (*record).flags = SECRET_RANDOM;
            }
        }
        // The reader is woken if it has read everything before: a secret should not lie about for long.
        bpf_ringbuf_submit(room, 0);
    }
    count(Outcome::DELIVERED);
}

/// `n` with a bound that the verifier can see: 1..=MOST, a power of two. A no-op for an `n` in that range.
#[inline(always)]
fn bounded<const MOST: u32>(n: u32) -> u32 {
    let mut less = n.wrapping_sub(1);
    // Opaque: LLVM knows that the mask does nothing and would drop it. 64-bit, as the verifier tracks it best.
    // SAFETY: moves a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) less) };
    (less & (MOST - 1)) + 1
}
