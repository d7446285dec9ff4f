//! Why a packet was not captured though nothing went wrong, for `run --probe-log`. Behind a knob: when that is off, the
//! verifier takes all of it out before the program runs.

use monitor_common::maps::SkipReason;

use crate::emit::add_one;
use crate::knobs::KNOB_EXPLAIN;
use crate::maps::SKIPPED;

/// Whether somebody wants to know.
#[inline(always)]
pub(crate) fn explained() -> bool {
    KNOB_EXPLAIN.load() != 0
}

/// A packet of a socket in this cgroup is not captured.
#[inline(always)]
pub(crate) fn skipped(reason: SkipReason, cgroup: u64) {
    if !explained() {
        return;
    }
    if let Some(slot) = SKIPPED.get_ptr_mut(reason.0) {
        // SAFETY: array elements live as long as the map. Which packet of several was last is all the same.
        unsafe {
            add_one(&raw mut (*slot).count);
            (&raw mut (*slot).cgroup).write_volatile(cgroup);
        }
    }
}
