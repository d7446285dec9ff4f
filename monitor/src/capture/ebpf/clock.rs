//! The kernel stamps records with its monotonic clock; events carry Unix time. Translated with one offset, taken at
//! start, so that a step of the wall clock never reorders events.

use monitor_core::model::Nanos;

/// The offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    offset: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        // The closest of a few pairs: the thread may be interrupted in between.
        let offset = (0..5)
            .map(|_| {
                let before = now(libc::CLOCK_MONOTONIC);
                let wall = now(libc::CLOCK_REALTIME);
                let after = now(libc::CLOCK_MONOTONIC);
                (after - before, wall.wrapping_sub(before + (after - before) / 2))
            })
            .min()
            .map_or(0, |(_, offset)| offset);
        Self { offset }
    }

    /// Unix time of a monotonic time.
    pub(super) fn unix(self, monotonic: u64) -> Nanos {
        Nanos(monotonic.wrapping_add(self.offset))
    }

    /// The monotonic clock now, ns.
    pub(super) fn monotonic() -> u64 {
        now(libc::CLOCK_MONOTONIC)
    }
}

fn now(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` lives through the call. These clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}
