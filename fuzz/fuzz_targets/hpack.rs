//! Header blocks of one direction, seen from their start and joined late.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::http::v2::fuzz::fuzz_hpack(data));
