//! Both directions of an AMQP connection, with holes.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::amqp::fuzz::fuzz_amqp(data));
