//! Both directions of a TLS connection, with holes, and secrets that fit or do not.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::tls::fuzz::fuzz_tls(data));
