//! Both directions of a Redis connection, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::redis::fuzz::fuzz_redis(data));
