//! Both directions of an HTTP connection that carries MCP, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::mcp::fuzz::fuzz_mcp(data));
