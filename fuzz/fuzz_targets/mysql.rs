//! Both directions of a connection of MySQL, with holes, and its SQL.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    monitor_core::decode::mysql::fuzz_mysql(data);
    monitor_core::decode::mysql::fuzz_mysql_text(data);
});
