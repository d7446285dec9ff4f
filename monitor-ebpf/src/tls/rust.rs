//! rustls' `KeySchedule::derive_logged_secret(&self, kind, hs_hash, key_log, client_random) -> OkmBlock`
//! (src/tls13/key_schedule.rs of 0.22 and 0.23). What is returned is a buffer of 64 bytes and its length, where the caller
//! says; which secret it is, is told at the entry. The two are joined by the thread. Rust keeps ordinary stacks, so that a
//! probe on the return is safe.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_ebpf::macros::{map, uprobe, uretprobe};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use core::ffi::c_void;
use monitor_common::secrets::{Outcome, RUST_KINDS, SECRET_ROOM};

use crate::registers::{here, kinds, result};
use crate::secret::{Place, count, deliver, note, watched};

/// Which kind of secret each thread is deriving, and where to.
#[derive(Clone, Copy)]
#[repr(C)]
struct Deriving {
    kind: u64,
    to: u64,
    /// Where the function begins.
    here: u64,
}

#[map]
static TLS_DERIVING: LruHashMap<u64, Deriving> = LruHashMap::with_max_entries(1024, 0);

#[uprobe]
pub(crate) fn lw_tls_rust(ctx: ProbeContext) -> u32 {
    if watched().is_none() {
        return 0;
    }
    let regs: *mut c_void = ctx.regs.cast();
    // Behind `self`, which is one word or two: what comes before it or after it is an address, and no small number.
    let (first, second) = kinds(regs);
    let kind = if is_kind(first) { first } else { second };
    if !is_kind(kind) {
        note(here(regs), false);
        count(Outcome::OTHER);
        return 0;
    }
    // SAFETY: the helper has no preconditions.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    let _ = TLS_DERIVING.insert(thread, Deriving { kind, to: result(regs), here: here(regs) }, 0);
    0
}

#[uretprobe]
pub(crate) fn lw_tls_rust_ret(_ctx: RetProbeContext) -> u32 {
    let Some(cgroup) = watched() else { return 0 };
    // SAFETY: the helper has no preconditions.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    // SAFETY: a map that is preallocated: the element is another's at worst, and then no connection's.
    let Some(deriving) = (unsafe { TLS_DERIVING.get(thread) }).copied() else { return 0 };
    let _ = TLS_DERIVING.remove(thread);
    let Some(label) = label_of_kind(deriving.kind) else {
        count(Outcome::OTHER);
        return 0;
    };
    let at = deriving.to;
    let mut len = 0u64;
    // SAFETY: the helper checks the address and writes the bytes of `len`.
    let failed = unsafe {
        let from = at.wrapping_add(SECRET_ROOM as u64) as *const c_void;
        bpf_probe_read_user((&raw mut len).cast(), size_of::<u64>() as u32, from)
    };
    if failed != 0 {
        count(Outcome::UNREADABLE);
        return 0;
    }
    // What it returns is no secret of TLS 1.3's hashes: it is another function.
    note(deriving.here, len == 32 || len == 48);
    deliver(&Place { cgroup, label, at, len, random: 0 });
    0
}

#[inline(always)]
fn is_kind(word: u64) -> bool {
    (1..=6).contains(&word)
}

#[inline(always)]
fn label_of_kind(kind: u64) -> Option<u32> {
    RUST_KINDS.into_iter().find(|(known, _)| u64::from(*known) == kind).map(|(_, label)| label)
}
