//! Both directions of a Kafka connection, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::kafka::fuzz::fuzz_kafka(data));
