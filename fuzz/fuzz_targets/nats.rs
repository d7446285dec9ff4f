//! Both directions of a NATS connection, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::nats::fuzz::fuzz_nats(data));
