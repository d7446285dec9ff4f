//! Packet captures and recordings.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor::capture::file::fuzz_capture(data));
