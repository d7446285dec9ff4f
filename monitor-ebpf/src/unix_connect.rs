//! `unix_stream_connect` and `unix_socketpair`, at their return: a connection over a Unix stream socket begins.
//!
//! `int unix_stream_connect(struct socket *sock, struct sockaddr *uaddr, int addr_len, int flags)` and
//! `int unix_socketpair(struct socket *socka, struct socket *sockb)`, net/unix/af_unix.c. Nothing can have been read
//! before they return.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;

use crate::unix::{self, End};

#[fexit(function = "unix_stream_connect")]
pub(crate) fn lw_unix_connect(ctx: FExitContext) -> i32 {
    // The returned value stands behind the arguments.
    let failed: i32 = ctx.arg(4);
    if failed == 0
        && let Some(end) = End::of_socket(unix::argument(&ctx, 0))
        && let Some(other) = end.peer()
    {
        unix::begins(end);
        unix::begins(other);
    }
    0
}

#[fexit(function = "unix_socketpair")]
pub(crate) fn lw_unix_pair(ctx: FExitContext) -> i32 {
    let failed: i32 = ctx.arg(2);
    if failed == 0
        && let Some(one) = End::of_socket(unix::argument(&ctx, 0))
        && let Some(other) = End::of_socket(unix::argument(&ctx, 1))
    {
        unix::begins(one);
        unix::begins(other);
    }
    0
}
