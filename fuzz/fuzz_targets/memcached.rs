//! Both directions of a connection of memcached, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::memcached::fuzz_memcached(data));
