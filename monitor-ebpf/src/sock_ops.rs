//! `sock_ops`: connections of watched cgroups open and close.
//!
//! ABI: `int prog(struct bpf_sock_ops *)`; `BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB` (4) from `tcp_finish_connect`,
//! `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB` (5) from `tcp_rcv_state_process` before the payload of the same packet is
//! queued, `BPF_SOCK_OPS_STATE_CB` (10) with the old and the new state in `args[0..2]`. `snd_nxt` and `rcv_nxt`: 4.16.
//! The cgroup id cannot be asked for here: `cgroup_skb` has noted it when it saw the SYN.

use aya_ebpf::bindings::bpf_sock_ops;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use monitor_common::records::{FLOW_CLIENT, FLOW_NO_CLOSE, FLOW_RX_START, FLOW_SERVER, FLOW_TX_START};

use crate::flow::{self, Announcement, Tuple};
use crate::maps::FLOWS;

const ACTIVE_ESTABLISHED: u32 = 4;
const PASSIVE_ESTABLISHED: u32 = 5;
const STATE: u32 = 10;
/// `BPF_SOCK_OPS_STATE_CB_FLAG`.
const STATE_FLAG: u32 = 4;
/// `BPF_TCP_CLOSE`.
const CLOSE: u32 = 7;
const AF_INET6: u32 = 10;
/// Third word of an IPv4 address in IPv6 clothes (RFC 4291, 2.5.5.2).
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

#[sock_ops]
pub(crate) fn lw_sock_ops(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    if op == ACTIVE_ESTABLISHED {
        established(ctx.ops, true);
    } else if op == PASSIVE_ESTABLISHED {
        established(ctx.ops, false);
    } else if op == STATE && ctx.arg(1) == CLOSE {
        // SAFETY: the context as the kernel gave it.
        flow::closed(unsafe { bpf_get_socket_cookie(ctx.ops.cast()) });
    }
    1
}

#[inline(always)]
fn established(ops: *mut bpf_sock_ops, active: bool) {
    // SAFETY: the context as the kernel gave it.
    let cookie = unsafe { bpf_get_socket_cookie(ops.cast()) };
    let mut tuple = Tuple::EMPTY;
    read(&mut tuple, ops);
    let tag = if active { cookie } else { tuple.tag() };
    let Some(cgroup) = flow::handshake_of(tag) else { return };
    // SAFETY: fields of the context.
    let (tx_start, rx_start, callbacks) = unsafe { ((*ops).snd_nxt, (*ops).rcv_nxt, (*ops).bpf_sock_ops_cb_flags) };
    // SAFETY: the context as the kernel gave it.
    let no_close = unsafe { bpf_sock_ops_cb_flags_set(ops, (callbacks | STATE_FLAG) as i32) } != 0;
    // Fast open has sent payload with the SYN: it is announced already, with its true start.
    let announced = FLOWS.get_ptr(cookie).is_some();
    let what = Announcement {
        cookie,
        cgroup,
        flags: if active { FLOW_CLIENT } else { FLOW_SERVER }
            | FLOW_RX_START
            | if announced { 0 } else { FLOW_TX_START }
            | if no_close { FLOW_NO_CLOSE } else { 0 },
        tx_start,
        rx_start,
    };
    let state = flow::state(cgroup, if no_close { monitor_common::maps::FLOW_UNTRACKED } else { 0 });
    flow::announce(&tuple, &what, Some(state));
}

#[inline(always)]
fn read(tuple: &mut Tuple, ops: *mut bpf_sock_ops) {
    // SAFETY: fields of the context, each read on its own as the verifier wants it (hence volatile: LLVM would join
    // them). `remote_port` is in network order in the upper half on little-endian machines.
    unsafe {
        tuple.local_port = (&raw const (*ops).local_port).read_volatile();
        tuple.peer_port = u32::from_be((&raw const (*ops).remote_port).read_volatile());
        let v6 = (&raw const (*ops).family).read_volatile() == AF_INET6;
        if v6 {
            let local = [
                (&raw const (*ops).local_ip6[0]).read_volatile(),
                (&raw const (*ops).local_ip6[1]).read_volatile(),
                (&raw const (*ops).local_ip6[2]).read_volatile(),
                (&raw const (*ops).local_ip6[3]).read_volatile(),
            ];
            let peer = [
                (&raw const (*ops).remote_ip6[0]).read_volatile(),
                (&raw const (*ops).remote_ip6[1]).read_volatile(),
                (&raw const (*ops).remote_ip6[2]).read_volatile(),
                (&raw const (*ops).remote_ip6[3]).read_volatile(),
            ];
            if peer[0] == 0 && peer[1] == 0 && peer[2] == MAPPED {
                // The packets are IPv4: the tag must be that of their addresses.
                tuple.local[0] = local[3];
                tuple.peer[0] = peer[3];
            } else {
                tuple.v6 = 1;
                tuple.local = local;
                tuple.peer = peer;
            }
        } else {
            tuple.local[0] = (&raw const (*ops).local_ip4).read_volatile();
            tuple.peer[0] = (&raw const (*ops).remote_ip4).read_volatile();
        }
    }
}
