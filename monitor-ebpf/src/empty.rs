//! A program that does nothing: what the others are measured against (`cargo xtask bench`). Never attached by `run`.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

#[cgroup_skb]
pub(crate) fn lw_empty(_ctx: SkBuffContext) -> i32 {
    1
}
