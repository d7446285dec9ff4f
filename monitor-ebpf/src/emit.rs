//! The only place that reserves ring space. What cannot be delivered is counted, by reason and shard.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{
    bpf_probe_read_user, bpf_ringbuf_discard, bpf_ringbuf_query, bpf_ringbuf_reserve, bpf_ringbuf_submit,
    bpf_skb_load_bytes,
};
use aya_ebpf::maps::RingBuf;
use monitor_common::maps::LossReason;
use monitor_common::records::{Kind, SegmentHeader, TIERS};

use crate::knobs::{KNOB_SHARDS, KNOB_WAKE_BYTES};
use crate::maps::{CONTROL, LOST, RING_0, RING_1, RING_2, RING_3};

/// Where a segment's payload is copied from.
pub(crate) trait Payload: Copy {
    /// Copies `n` bytes to `to`; not 0: it failed.
    ///
    /// # Safety
    ///
    /// `to` has room for `n` bytes.
    unsafe fn copy(self, to: *mut c_void, n: u32) -> i64;
}

/// In a packet, at so many bytes.
#[derive(Clone, Copy)]
pub(crate) struct InPacket(pub(crate) *mut __sk_buff, pub(crate) u32);

impl Payload for InPacket {
    #[inline(always)]
    unsafe fn copy(self, to: *mut c_void, n: u32) -> i64 {
        // SAFETY: the context as the kernel gave it; the rest as the caller promises.
        unsafe { bpf_skb_load_bytes(self.0.cast(), self.1, to, n) }
    }
}

/// In the memory of the running process.
#[derive(Clone, Copy)]
pub(crate) struct InProcess(pub(crate) u64);

impl Payload for InProcess {
    #[inline(always)]
    unsafe fn copy(self, to: *mut c_void, n: u32) -> i64 {
        // SAFETY: the helper checks the address; the rest as the caller promises.
        unsafe { bpf_probe_read_user(to, n, self.0 as *const c_void) }
    }
}

/// One of the rings.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    map: *mut c_void,
    shard: u32,
}

impl Ring {
    /// The ring of a connection: always the same, so that its records stay in order.
    #[inline(always)]
    pub(crate) fn of(cookie: u64) -> Self {
        let shard = cookie as u32 & (KNOB_SHARDS.load() - 1);
        // Branches, not a table: the verifier must know which map each call gets.
        if shard == 0 {
            Self::new(&RING_0, 0)
        } else if shard == 1 {
            Self::new(&RING_1, 1)
        } else if shard == 2 {
            Self::new(&RING_2, 2)
        } else {
            Self::new(&RING_3, 3)
        }
    }

    #[inline(always)]
    fn new(map: &'static RingBuf, shard: u32) -> Self {
        Self { map: core::ptr::from_ref(map).cast_mut().cast(), shard }
    }

    /// Counts an event that could not be delivered.
    #[inline(always)]
    pub(crate) fn lost(self, reason: LossReason) {
        lost(self.shard, reason);
    }

    /// Reserves room for a record that has no payload. `None`: counted as lost for this reason.
    #[inline(always)]
    pub(crate) fn reserve<T>(self, reason: LossReason) -> Option<Room<T>> {
        const { assert!(align_of::<T>() <= 8 && size_of::<T>().is_multiple_of(8)) };
        // SAFETY: `map` is one of our ring buffers and the size is a constant.
        let room = unsafe { bpf_ringbuf_reserve(self.map, size_of::<T>() as u64, 0) }.cast::<T>();
        if room.is_null() {
            self.lost(reason);
            return None;
        }
        Some(Room { ring: self, record: room })
    }

    /// Delivers a segment with `n` payload bytes. `n` is at most the largest tier.
    #[inline(always)]
    pub(crate) fn segment(self, payload: impl Payload, n: u32, header: &SegmentHeader) {
        if n == 0 {
            self.tier::<0>(payload, n, header);
        } else if n <= TIERS[1] {
            self.tier::<128>(payload, n, header);
        } else if n <= TIERS[2] {
            self.tier::<512>(payload, n, header);
        } else if n <= TIERS[3] {
            self.tier::<4096>(payload, n, header);
        } else {
            self.tier::<16384>(payload, n, header);
        }
    }

    #[inline(always)]
    fn tier<const TIER: u32>(self, from: impl Payload, n: u32, header: &SegmentHeader) {
        // SAFETY: `map` is one of our ring buffers and the size is a constant.
        let room = unsafe { bpf_ringbuf_reserve(self.map, (size_of::<SegmentHeader>() as u32 + TIER) as u64, 0) };
        if room.is_null() {
            self.lost(LossReason::RING_SEGMENT);
            return;
        }
        let record = room.cast::<SegmentHeader>();
        // SAFETY: the reservation is aligned to 8 and at least as long as the header; until it is submitted it is
        // ours alone.
        unsafe { record.write(SegmentHeader { kind: Kind::SEGMENT, captured: n, ..*header }) };
        if TIER > 0 {
            // SAFETY: the reservation has TIER bytes behind the header.
            let payload = unsafe { room.byte_add(size_of::<SegmentHeader>()) };
            // SAFETY: `payload` has room for TIER bytes and the length is in 1..=TIER.
            if unsafe { from.copy(payload, bounded::<TIER>(n)) } != 0 {
                // SAFETY: `room` is a reservation that has not been submitted.
                unsafe { bpf_ringbuf_discard(room, u64::from(BPF_RB_NO_WAKEUP)) };
                self.lost(LossReason::COPY);
                return;
            }
        }
        // Asking how full the ring is costs a call: short records ask now and then, which is often enough because
        // the reader comes by every few milliseconds anyway. In a small ring (tests of loss) all ask.
        let check = TIER > 512 || header.at & 0x3c00 == 0 || KNOB_WAKE_BYTES.load() < 65536;
        // SAFETY: `room` is a reservation that has not been submitted.
        unsafe { bpf_ringbuf_submit(room, self.wakeup(check)) };
    }

    /// Flags for submitting: whether the reader is to be woken now.
    #[inline(always)]
    fn wakeup(self, check: bool) -> u64 {
        if let Some(control) = CONTROL.get_ptr_mut(0) {
            // SAFETY: array elements live as long as the map; a lost race means one wake-up more or less, and the
            // reader looks again before it sleeps.
            unsafe {
                if (*control).want_wakeup != 0 {
                    (*control).want_wakeup = 0;
                    return u64::from(BPF_RB_FORCE_WAKEUP);
                }
            }
        }
        if check {
            // SAFETY: `map` is one of our ring buffers.
            let waiting = unsafe { bpf_ringbuf_query(self.map, u64::from(BPF_RB_AVAIL_DATA)) };
            if waiting > u64::from(KNOB_WAKE_BYTES.load()) {
                return u64::from(BPF_RB_FORCE_WAKEUP);
            }
        }
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// A reservation; submit or discard it (the verifier insists).
#[must_use]
pub(crate) struct Room<T> {
    ring: Ring,
    /// Where to write the record.
    pub(crate) record: *mut T,
}

impl<T> Room<T> {
    /// Delivers it. The record must have been written.
    #[inline(always)]
    pub(crate) fn submit(self) {
        // SAFETY: `record` is a reservation that has not been submitted.
        unsafe { bpf_ringbuf_submit(self.record.cast(), self.ring.wakeup(true)) };
    }

    /// Gives the room back and counts the event as lost.
    #[inline(always)]
    pub(crate) fn discard(self, reason: LossReason) {
        // SAFETY: `record` is a reservation that has not been submitted.
        unsafe { bpf_ringbuf_discard(self.record.cast(), u64::from(BPF_RB_NO_WAKEUP)) };
        self.ring.lost(reason);
    }
}

/// Counts an event that could not be delivered.
#[inline(always)]
pub(crate) fn lost(shard: u32, reason: LossReason) {
    if let Some(counters) = LOST.get_ptr_mut(shard) {
        // SAFETY: the reason is a constant below COUNT, so the counter is inside the map's value.
        unsafe { add_one((&raw mut (*counters).by_reason).cast::<u64>().add(reason.0 as usize)) };
    }
}

/// Adds one to a counter of a map. Atomic because a softirq on this CPU may come in between; by hand because the target has
/// no other way to say an addition whose result nobody wants, which is all that kernels before 5.12 know.
///
/// # Safety
///
/// `counter` lies in a map's value, aligned to 8.
#[inline(always)]
pub(crate) unsafe fn add_one(counter: *mut u64) {
    // SAFETY: as the caller promises.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1_u64) };
}

/// `n` with a bound that the verifier can see: 1..=TIER. A no-op for an `n` in that range.
#[inline(always)]
pub(crate) fn bounded<const TIER: u32>(n: u32) -> u32 {
    let mut less = n.wrapping_sub(1);
    // Opaque: LLVM knows that the mask does nothing and would drop it. 64-bit, as the verifier tracks it best.
    // SAFETY: moves a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) less) };
    (less & (TIER - 1)) + 1
}
