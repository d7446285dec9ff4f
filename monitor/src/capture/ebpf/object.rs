//! The compiled probes, embedded by `build.rs`; empty in a build without the BPF toolchain.

/// The object file.
pub(super) fn bytes() -> &'static [u8] {
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes.o"))
}

/// The object file of the probes of TLS libraries.
pub(super) fn secrets() -> &'static [u8] {
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tls-probes.o"))
}

/// Whether this binary has the probes.
pub fn is_real() -> bool {
    !bytes().is_empty()
}
