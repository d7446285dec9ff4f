//! `unix_release_sock`, at its entry: an end of a Unix socket is closed.
//!
//! `void unix_release_sock(struct sock *sk, int embrion)`, net/unix/af_unix.c: when the last descriptor is closed, and for
//! connections that nobody has accepted.

use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;

use crate::unix::{self, End};

#[fentry(function = "unix_release_sock")]
pub(crate) fn lw_unix_close(ctx: FEntryContext) -> i32 {
    if let Some(end) = End::at(unix::argument(&ctx, 0)) {
        unix::ends(end);
    }
    0
}
