//! Messages of one direction of a gRPC call.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_core::decode::grpc::fuzz::fuzz_grpc(data));
