//! `cgroup_skb/egress`: what watched sockets send.
//!
//! ABI: `int prog(struct __sk_buff *)`, called by `BPF_CGROUP_RUN_PROG_INET_EGRESS` in `ip_finish_output` and
//! `ip6_finish_output`, before GSO splits the packet; `skb->data` is the IP header; 1 lets the packet pass.
//! Attached by link: 5.7. Helpers: `bpf_skb_cgroup_id` and `bpf_skb_ancestor_cgroup_id` here since 5.0,
//! `bpf_get_socket_cookie` 4.12, `bpf_skb_load_bytes` 4.10, direct access to headers 5.0, ring buffer 5.8;
//! `bpf_get_current_pid_tgid` 6.10, behind a knob.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::capture;

#[cgroup_skb(egress)]
pub(crate) fn lw_egress(ctx: SkBuffContext) -> i32 {
    capture::run::<false>(ctx.skb.skb);
    1
}
