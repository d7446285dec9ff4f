//! The probes that are told the secrets of TLS handshakes: an object of its own, loaded only where reading TLS is switched
//! on. Uprobes, at the entry of the function that a TLS library calls for each secret, one program for each way of
//! passing arguments; for rustls at its return as well.
//!
//! Rules of this house, as for the other probes: the first act is to find out whether the cgroup is watched, and if not to
//! return; nothing of the process is changed; `secret.rs` alone reserves ring space and counts what could not be
//! delivered.
//!
//! Each program is there twice. Where the kernel knows programs that may sleep on a uprobe (6.0), what it reads is brought
//! into memory if it is not there yet: a library's text of a label that nobody has touched so far. Elsewhere such a secret
//! is not read, and counted.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod c;
#[cfg(target_arch = "bpf")]
mod go;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod rust;
#[cfg(target_arch = "bpf")]
mod secret;

/// Helpers that read a process' memory want a licence compatible with the GPL.
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
