//! Both directions of a PostgreSQL connection, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::postgres::fuzz_postgres(data));
