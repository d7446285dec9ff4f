//! A JSON-RPC body, as request and as answer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::mcp::fuzz::fuzz_jsonrpc(data));
