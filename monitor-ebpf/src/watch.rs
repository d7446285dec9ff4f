//! Is this packet's cgroup watched?

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id};
use monitor_common::maps::{CGROUP_CACHE_SLOTS, IGNORED, LossReason, WATCHED, cached_decision};

use crate::emit::lost;
use crate::knobs::KNOB_WATCH_UNKNOWN;
use crate::maps::{CGROUP_CACHE, CGROUPS};

/// Deepest cgroup whose ancestors are looked at. Kubernetes nests about seven deep.
const DEPTH: i32 = 16;
const EEXIST: i32 = -17;

/// The socket's cgroup, if it is watched. One look-up in an array in the steady state.
#[inline(always)]
pub(crate) fn watched(skb: *mut __sk_buff) -> Option<u64> {
    // SAFETY: the context as the kernel gave it.
    let id = unsafe { bpf_skb_cgroup_id(skb) };
    if let Some(slot) = CGROUP_CACHE.get(id as u32 & (CGROUP_CACHE_SLOTS - 1)) {
        if *slot == cached_decision(id, IGNORED) {
            return None;
        }
        if *slot == cached_decision(id, WATCHED) {
            return Some(id);
        }
    }
    (not_cached(skb, id) == WATCHED).then_some(id)
}

/// Whether a cgroup is known not to be watched; `false`: it is, or the cache does not know.
#[inline(always)]
pub(crate) fn ignored(id: u64) -> bool {
    CGROUP_CACHE.get(id as u32 & (CGROUP_CACHE_SLOTS - 1)).is_some_and(|slot| *slot == cached_decision(id, IGNORED))
}

/// From the whole table, and into the cache.
#[inline(never)]
fn not_cached(skb: *mut __sk_buff, id: u64) -> u32 {
    // SAFETY: the map is not preallocated, so elements are freed only after a grace period.
    let verdict = match unsafe { CGROUPS.get(id) } {
        Some(verdict) => *verdict,
        None => inherited(skb, id),
    };
    if let Some(slot) = CGROUP_CACHE.get_ptr_mut(id as u32 & (CGROUP_CACHE_SLOTS - 1)) {
        // SAFETY: array elements live as long as the map; one word is written whole.
        unsafe { slot.write_volatile(cached_decision(id, verdict)) };
    }
    verdict
}

/// A cgroup nobody has decided about: what holds for its nearest ancestor, noted under its own id. The agent
/// overwrites the note when it hears of the cgroup.
#[inline(always)]
fn inherited(skb: *mut __sk_buff, id: u64) -> u32 {
    let mut verdict = 0;
    let mut nested = false;
    let mut level = DEPTH;
    while level >= 1 {
        // Level 0 is the root, which is never watched. Levels below the socket's own give 0.
        // SAFETY: the context as the kernel gave it.
        let ancestor = unsafe { bpf_skb_ancestor_cgroup_id(skb, level) };
        if ancestor != 0 {
            nested = true;
            // SAFETY: as in `not_cached`.
            if let Some(found) = unsafe { CGROUPS.get(ancestor) } {
                verdict = *found;
                break;
            }
        }
        level -= 1;
    }
    if verdict == 0 {
        verdict = if nested && KNOB_WATCH_UNKNOWN.load() != 0 { WATCHED } else { IGNORED };
    }
    match CGROUPS.insert(id, verdict, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        // The agent was faster, and knows better.
        Err(EEXIST) => {}
        Err(_) => lost(0, LossReason::CGROUPS_FULL),
    }
    verdict
}
