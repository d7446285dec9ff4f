//! Globals set by the agent before load; the names are in `monitor_common::knobs`.

use aya_ebpf::Global;

#[unsafe(no_mangle)]
pub(crate) static KNOB_SHARDS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub(crate) static KNOB_PAYLOAD_CAP: Global<u32> = Global::new(16384);
#[unsafe(no_mangle)]
pub(crate) static KNOB_WAKE_BYTES: Global<u32> = Global::new(65536);
#[unsafe(no_mangle)]
pub(crate) static KNOB_WATCH_UNKNOWN: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KNOB_THREADS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KNOB_COOKIE_OFFSET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KNOB_SEED: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static KNOB_EXPLAIN: Global<u32> = Global::new(0);
