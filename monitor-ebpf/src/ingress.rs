//! `cgroup_skb/ingress`: what watched sockets receive.
//!
//! ABI: `int prog(struct __sk_buff *)`, called by `BPF_CGROUP_RUN_PROG_INET_INGRESS` in `sk_filter_trim_cap`, after
//! GRO; `skb->sk` is the receiving socket, or the listener for a packet that completes a handshake; `skb->data` is the
//! IP header; 1 lets the packet pass. Since: as egress; `bpf_sock.state` 5.0.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::capture;

#[cgroup_skb(ingress)]
pub(crate) fn lw_ingress(ctx: SkBuffContext) -> i32 {
    capture::run::<true>(ctx.skb.skb);
    1
}
