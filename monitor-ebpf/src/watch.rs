//! Is this packet's cgroup watched?

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id};
use monitor_common::maps::{IGNORED, LossReason, WATCHED};

use crate::emit::lost;
use crate::knobs::KNOB_WATCH_UNKNOWN;
use crate::maps::CGROUPS;

/// Deepest cgroup whose ancestors are looked at. Kubernetes nests about seven deep.
const DEPTH: i32 = 16;
const EEXIST: i32 = -17;

/// The socket's cgroup, if it is watched. One look-up in the steady state.
#[inline(always)]
pub(crate) fn watched(skb: *mut __sk_buff) -> Option<u64> {
    // SAFETY: the context as the kernel gave it.
    let id = unsafe { bpf_skb_cgroup_id(skb) };
    // SAFETY: the map is not preallocated, so elements are freed only after a grace period.
    let verdict = match unsafe { CGROUPS.get(&id) } {
        Some(verdict) => *verdict,
        None => inherited(skb, id),
    };
    (verdict == WATCHED).then_some(id)
}

/// A cgroup nobody has decided about: what holds for its nearest ancestor, noted under its own id. The agent
/// overwrites the note when it hears of the cgroup.
#[inline(never)]
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
            // SAFETY: as in `watched`.
            if let Some(found) = unsafe { CGROUPS.get(&ancestor) } {
                verdict = *found;
                break;
            }
        }
        level -= 1;
    }
    if verdict == 0 {
        verdict = if nested && KNOB_WATCH_UNKNOWN.load() != 0 { WATCHED } else { IGNORED };
    }
    match CGROUPS.insert(&id, &verdict, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        // The agent was faster, and knows better.
        Err(EEXIST) => {}
        Err(_) => lost(0, LossReason::CGROUPS_FULL),
    }
    verdict
}
