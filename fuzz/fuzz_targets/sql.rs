//! SQL text through the pre-scan and the parsers.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::postgres::fuzz_sql(data));
