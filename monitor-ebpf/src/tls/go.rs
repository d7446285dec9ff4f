//! Go's `crypto/tls`. ABI: `func (c *Config) writeKeyLog(label string, clientRandom, secret []byte) error`
//! (src/crypto/tls/common.go): in registers since Go 1.17 (src/cmd/compile/abi-internal.md), before that on the stack
//! behind the return address. Which of them it is, is told by where a label is. A probe on the entry alone: goroutines
//! move their stacks, and a probe on the return would break them.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use core::ffi::c_void;
use monitor_common::secrets::Outcome;

use crate::registers::{go1, go2, go3, go6, go7, here, stack};
use crate::secret::{Place, count, deliver, label_of, note, watched};

/// Words of the stack behind the return address: receiver, label, random, secret.
const WORDS: usize = 9;

#[uprobe]
pub(crate) fn lw_tls_go(ctx: ProbeContext) -> u32 {
    called::<false>(ctx.regs.cast());
    0
}

#[uprobe(sleepable)]
pub(crate) fn lw_tls_go_s(ctx: ProbeContext) -> u32 {
    called::<true>(ctx.regs.cast());
    0
}

#[inline(always)]
fn called<const SLEEPS: bool>(regs: *mut c_void) {
    let Some(cgroup) = watched() else { return };
    let in_registers = label_of::<SLEEPS>(go1(regs), go2(regs));
    if let Ok(Some(label)) = in_registers {
        note(here(regs), true);
        deliver(&Place { cgroup, label, at: go6(regs), len: go7(regs), random: go3(regs) });
        return;
    }
    let mut words = [0u64; WORDS];
    // SAFETY: the helper checks the address and writes the bytes of `words`.
    let failed = unsafe {
        let at = stack(regs).wrapping_add(8) as *const c_void;
        bpf_probe_read_user(words.as_mut_ptr().cast(), size_of::<[u64; WORDS]>() as u32, at)
    };
    if failed == 0
        && let Ok(Some(label)) = label_of::<SLEEPS>(words[1], words[2])
    {
        note(here(regs), true);
        deliver(&Place { cgroup, label, at: words[6], len: words[7], random: words[3] });
        return;
    }
    note(here(regs), false);
    count(if in_registers.is_ok() { Outcome::OTHER } else { Outcome::UNREADABLE });
}
