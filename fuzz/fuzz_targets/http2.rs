//! Both directions of an HTTP/2 connection, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::http::v2::fuzz::fuzz_http2(data));
