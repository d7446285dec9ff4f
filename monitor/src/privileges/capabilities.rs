//! Capabilities belong to threads: each gives up its own.

use std::fmt;
use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// What loading and attaching needs. `SYS_RESOURCE`: before Linux 5.11 BPF memory counts against a limit that is raised
/// with it. `SYS_NICE`: the priority of the thread that reads. A hook that needs more adds it here.
pub const LOADING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::SYS_NICE);

/// What a running agent needs. Programs are attached at the root of the hierarchy once, and hold for every cgroup that
/// comes: nothing is attached later. `BPF`: reading and writing maps, before Linux 5.19 and where unprivileged BPF is
/// off. `DAC_READ_SEARCH`: the path of a new cgroup by its id; the configuration's files when they are read again.
pub const KEPT: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::DAC_READ_SEARCH);

/// What reading TLS takes beyond that, in the one thread that attaches probes to what workloads run. `SYS_ADMIN`: the kernel
/// makes uprobes for nobody else (`perf_uprobe_event_init` in kernel/events/core.c, which knows no `PERFMON`).
/// `SYS_PTRACE`: looking at what processes of other users have mapped.
pub const TLS: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE);

/// Names for people, as far as they can be held at all.
const NAMES: [(CapabilitySet, &str); 8] = [
    (CapabilitySet::SYS_PTRACE, "SYS_PTRACE"),
    (CapabilitySet::BPF, "BPF"),
    (CapabilitySet::NET_ADMIN, "NET_ADMIN"),
    (CapabilitySet::PERFMON, "PERFMON"),
    (CapabilitySet::DAC_READ_SEARCH, "DAC_READ_SEARCH"),
    (CapabilitySet::SYS_RESOURCE, "SYS_RESOURCE"),
    (CapabilitySet::SYS_NICE, "SYS_NICE"),
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
];

/// Capabilities as text.
pub(super) struct Held(CapabilitySet);

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES.iter().filter(|(set, _)| self.0.contains(*set)).map(|(_, name)| *name).collect();
        if names.is_empty() { f.write_str("none") } else { f.write_str(&names.join(",")) }
    }
}

/// What this thread may use now.
pub(super) fn held() -> Held {
    Held(capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective))
}

/// Of `wanted`, what can be kept of `permitted`. Who was given `SYS_ADMIN` instead of the finer ones keeps that.
fn kept(wanted: CapabilitySet, permitted: CapabilitySet) -> CapabilitySet {
    let coarse = (wanted & (CapabilitySet::BPF | CapabilitySet::PERFMON)) - permitted;
    let instead = if coarse.is_empty() { CapabilitySet::empty() } else { CapabilitySet::SYS_ADMIN };
    (wanted | instead) & permitted
}

/// No program that this thread starts can ever have more than what a running agent keeps. Before anything else: it takes
/// a capability that goes. Where that is not there, there is nothing to gain either.
pub(super) fn bound() {
    let Ok(now) = capabilities(None) else { return };
    let kept = kept(KEPT, now.permitted);
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if !kept.contains(one) {
            let _ = remove_capability_from_bounding_set(one);
        }
    }
}

/// Gives up, in this thread and those that it starts, every capability but `wanted`.
pub(super) fn keep(wanted: CapabilitySet) -> io::Result<()> {
    let now = capabilities(None)?;
    let kept = kept(wanted, now.permitted);
    let inheritable = now.inheritable & kept;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
    Ok(())
}

/// After the user has changed: what loading needs becomes effective again, and what a running agent keeps ambient.
pub(super) fn raise(loading: CapabilitySet) -> io::Result<()> {
    let now = capabilities(None)?;
    let (all, ambient) = (kept(loading, now.permitted), kept(KEPT, now.permitted));
    set_capabilities(None, CapabilitySets { effective: all, permitted: all, inheritable: ambient })?;
    for one in ambient.iter() {
        configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_and_there_is_kept() {
        let all = CapabilitySet::from_bits_retain(u64::MAX);
        assert_eq!(kept(KEPT, all), KEPT);
        assert_eq!(kept(KEPT, CapabilitySet::empty()), CapabilitySet::empty());
        let coarse = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
        assert_eq!(kept(LOADING, coarse), coarse);
        assert_eq!(kept(KEPT, coarse), CapabilitySet::SYS_ADMIN);
        assert!(LOADING.contains(KEPT));
        for only_where_tls_is_read in [CapabilitySet::SYS_ADMIN, CapabilitySet::SYS_PTRACE] {
            assert!(TLS.contains(only_where_tls_is_read) && !LOADING.contains(only_where_tls_is_read));
        }
        assert_eq!(Held(KEPT).to_string(), "BPF,DAC_READ_SEARCH");
        assert_eq!(Held(CapabilitySet::empty()).to_string(), "none");
    }
}
