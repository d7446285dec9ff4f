//! The ABI between the kernel probes and the agent: ring records, map keys and values, knobs.
//!
//! Both sides are built from one source tree and shipped in one binary, so nothing here needs to stay compatible
//! between versions; but both sides must agree to the byte, and the agent reads these bytes as untrusted. Hence:
//! plain integers only, no implicit padding (zerocopy refuses to derive otherwise), sizes and offsets asserted at
//! compile time, kinds and flags as integers that are matched, never transmuted enums.

#![no_std]

pub mod knobs;
pub mod maps;
pub mod records;
pub mod secrets;
