//! WebSocket frames of either side, with and without compression.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::mcp::fuzz::fuzz_websocket(data));
