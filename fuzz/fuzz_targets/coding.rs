//! An encoded body of HTTP, whole and in pieces.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::http::fuzz::fuzz_coding(data));
