//! `run --probe-log`: why packets are not captured though nothing went wrong. The probes count by reason, and note the
//! cgroup of the last packet of each; here that is read and logged now and then.

use aya::maps::{MapData, PerCpuArray};
use monitor_common::maps::{SkipReason, Skipped};
use monitor_core::model::CgroupId;

use super::convert::Converter;

/// How often it is told, ns.
const EVERY: u64 = 5_000_000_000;

/// What the probes have counted.
pub(super) struct SkippedLog {
    map: PerCpuArray<MapData, Skipped>,
    /// As last told, by reason.
    told: [u64; SkipReason::COUNT],
    last: u64,
}

impl SkippedLog {
    pub(super) fn new(map: PerCpuArray<MapData, Skipped>) -> Self {
        Self { map, told: Default::default(), last: 0 }
    }

    /// Packets by why they were not captured, and the cgroup of the last of each.
    pub(super) fn totals(&self) -> Vec<(&'static str, u64, CgroupId)> {
        let all = SkipReason::ALL.into_iter().filter_map(|(reason, name)| {
            let cpus = self.map.get(&reason.0, 0).ok()?;
            let count = cpus.iter().fold(0u64, |sum, cpu| sum.wrapping_add(cpu.count));
            // Of the CPU that skipped most: which was last of all nobody knows.
            let cgroup = cpus.iter().max_by_key(|cpu| cpu.count).map_or(0, |cpu| cpu.cgroup);
            Some((name, count, CgroupId(cgroup)))
        });
        all.collect()
    }

    /// Logs what has been added since it was last told.
    pub(super) fn tell(&mut self, now: u64, convert: &Converter) {
        if now.saturating_sub(self.last) < EVERY {
            return;
        }
        self.last = now;
        for ((reason, count, cgroup), told) in self.totals().into_iter().zip(&mut self.told) {
            let more = count.wrapping_sub(*told);
            if more > 0 {
                *told = count;
                let path = convert.path_of(cgroup).unwrap_or("unknown");
                tracing::info!(reason, packets = more, example = path, "packets not captured");
            }
        }
    }
}
