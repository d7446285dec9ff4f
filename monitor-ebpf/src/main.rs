//! The probes of leasewarden, one file per hook. Built for the BPF target only (`cargo xtask build`); for any other
//! target this is an empty program, so that tools which walk the whole workspace need no BPF toolchain.
//!
//! Rules of this house: a probe never drops or changes a packet; its first act is to find out whether the cgroup is
//! watched, and if not it returns; [`emit`] alone reserves ring space and counts what could not be delivered.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod capture;
#[cfg(target_arch = "bpf")]
mod cgroup_dirs;
#[cfg(target_arch = "bpf")]
mod egress;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod empty;
#[cfg(target_arch = "bpf")]
mod flow;
#[cfg(target_arch = "bpf")]
mod ingress;
#[cfg(target_arch = "bpf")]
mod knobs;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod skip;
#[cfg(target_arch = "bpf")]
mod sock_calls;
#[cfg(target_arch = "bpf")]
mod sock_ops;
#[cfg(target_arch = "bpf")]
mod unix;
#[cfg(target_arch = "bpf")]
mod unix_close;
#[cfg(target_arch = "bpf")]
mod unix_connect;
#[cfg(target_arch = "bpf")]
mod unix_read;
#[cfg(target_arch = "bpf")]
mod watch;

/// Helpers such as `bpf_probe_read_kernel_str` want a licence compatible with the GPL.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

// Nothing here can panic; if a change makes it possible, the verifier refuses the endless loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
