//! Every map. Sizes are the least that works: the agent sets the real ones before it loads the object. Hashes are
//! not preallocated, so that an idle agent costs little memory; probes on tracepoints that kernels before 6.1 have must
//! therefore not touch them (those kernels refuse that).

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use monitor_common::maps::{
    CGROUP_CACHE_SLOTS, CachedFlow, CachedReader, Control, FLOW_CACHE_SLOTS, FlowState, HANDSHAKE_SLOTS, Handshake,
    LostCounters, MAX_SHARDS, READER_SLOTS, SkipReason, Skipped,
};

#[map]
pub(crate) static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static FLOWS: HashMap<u64, FlowState> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static CGROUP_CACHE: Array<u64> = Array::with_max_entries(CGROUP_CACHE_SLOTS, 0);
#[map]
pub(crate) static FLOW_CACHE: Array<CachedFlow> = Array::with_max_entries(FLOW_CACHE_SLOTS, 0);
#[map]
pub(crate) static HANDSHAKES: Array<Handshake> = Array::with_max_entries(HANDSHAKE_SLOTS, 0);
#[map]
pub(crate) static READERS: Array<CachedReader> = Array::with_max_entries(READER_SLOTS, 0);
#[map]
pub(crate) static CONTROL: Array<Control> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static LOST: PerCpuArray<LostCounters> = PerCpuArray::with_max_entries(MAX_SHARDS, 0);
#[map]
pub(crate) static SKIPPED: PerCpuArray<Skipped> = PerCpuArray::with_max_entries(SkipReason::COUNT as u32, 0);
#[map]
pub(crate) static RING_0: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
pub(crate) static RING_1: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
pub(crate) static RING_2: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
pub(crate) static RING_3: RingBuf = RingBuf::with_byte_size(4096, 0);
