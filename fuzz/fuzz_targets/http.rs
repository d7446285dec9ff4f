//! Both directions of an HTTP connection, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::http::fuzz::fuzz_http(data));
