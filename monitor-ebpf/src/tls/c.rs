//! OpenSSL, BoringSSL, GnuTLS. ABI: `ssl_log_secret(SSL *, const char *label, const uint8_t *secret, size_t length)`
//! (OpenSSL from 1.1.1 on, ssl/ssl_lib.c; BoringSSL with a span in place of the last two, which is passed like them;
//! GnuTLS' `_gnutls_call_keylog_func` with its session); or, where that is built into its callers, OpenSSL's
//! `nss_keylog_int(const char *label, SSL *, const uint8_t *random, size_t, const uint8_t *secret, size_t)`. Which of
//! them it is, is told by which argument is a label.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use core::ffi::c_void;
use monitor_common::secrets::{Outcome, RANDOM_BYTES};

use crate::registers::{c0, c1, c2, c3, c4, c5, here};
use crate::secret::{Place, count, deliver, label_at, note, watched};

#[uprobe]
pub(crate) fn lw_tls_c(ctx: ProbeContext) -> u32 {
    called::<false>(ctx.regs.cast());
    0
}

#[uprobe(sleepable)]
pub(crate) fn lw_tls_c_s(ctx: ProbeContext) -> u32 {
    called::<true>(ctx.regs.cast());
    0
}

#[inline(always)]
fn called<const SLEEPS: bool>(regs: *mut c_void) {
    let Some(cgroup) = watched() else { return };
    let second = label_at::<SLEEPS>(c1(regs));
    if let Ok(Some(label)) = second {
        note(here(regs), true);
        deliver(&Place { cgroup, label, at: c2(regs), len: c3(regs), random: 0 });
        return;
    }
    match label_at::<SLEEPS>(c0(regs)) {
        Ok(Some(label)) => {
            note(here(regs), true);
            let random = if c3(regs) == RANDOM_BYTES as u64 { c2(regs) } else { 0 };
            deliver(&Place { cgroup, label, at: c4(regs), len: c5(regs), random });
        }
        _ => {
            note(here(regs), false);
            count(if second.is_ok() { Outcome::OTHER } else { Outcome::UNREADABLE });
        }
    }
}
