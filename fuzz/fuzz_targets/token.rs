//! Documents of keys and tokens.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::token::fuzz::fuzz_token(data));
