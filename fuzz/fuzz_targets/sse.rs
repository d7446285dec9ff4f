//! An event stream, whole and in pieces.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::mcp::fuzz::fuzz_sse(data));
