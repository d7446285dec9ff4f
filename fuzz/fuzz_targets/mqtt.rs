//! Both directions of an MQTT connection, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::mqtt::fuzz::fuzz_mqtt(data));
