//! Raw tracepoints `cgroup_mkdir` and `cgroup_rmdir`: containers come and go.
//!
//! ABI: `TP_PROTO(struct cgroup *cgrp, const char *path)` (include/trace/events/cgroup.h, since 4.17 with the path).
//! They fire for every hierarchy, version 1 too: the agent looks whether the directory is there. Nothing is read from
//! `struct cgroup`, whose layout is not stable. `bpf_probe_read_kernel_str`: 5.5.

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel_str};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use monitor_common::maps::LossReason;
use monitor_common::records::{CgroupRecord, Kind, PATH_ROOM};

use crate::emit::Ring;

#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub(crate) fn lw_mkdir(ctx: RawTracePointContext) -> i32 {
    report(&ctx, Kind::CGROUP_MADE)
}

#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
pub(crate) fn lw_rmdir(ctx: RawTracePointContext) -> i32 {
    report(&ctx, Kind::CGROUP_REMOVED)
}

#[inline(always)]
fn report(ctx: &RawTracePointContext, kind: Kind) -> i32 {
    let path: *const u8 = ctx.arg(1);
    let Some(room) = Ring::of(0).reserve::<CgroupRecord>(LossReason::RING_CGROUP) else { return 0 };
    // SAFETY: `record` is ours until submitted; the helper writes at most PATH_ROOM bytes to `path`, and what it
    // leaves is not meant to be read (`path_len`).
    unsafe {
        let record = room.record;
        let n = bpf_probe_read_kernel_str((&raw mut (*record).path).cast(), PATH_ROOM as u32, path.cast());
        (*record).kind = kind;
        (*record).path_len = if n > 0 { n as u32 } else { 0 };
        (*record).at = bpf_ktime_get_ns();
    }
    room.submit();
    0
}
