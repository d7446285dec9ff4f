//! Recorded Kafka connections through the decoder: what it says, however the bytes are cut, and what it does not say when
//! some are missing.
//!
//! Recorded from real clients and librdkafka's mock cluster; see `golden/kafka/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::{SALT, Segments, Step, Suite};
use monitor_core::decode::infer::{self, Guess};
use monitor_core::decode::kafka::fuzz::fuzz_kafka;
use monitor_core::decode::kafka::{Kafka, Shared};
use monitor_core::model::{Protocol, Side};
use proptest::prelude::*;

mod common;

const SUITE: Suite = Suite {
    name: "kafka",
    make: |mid_stream| Box::new(Kafka::new(SALT, mid_stream, &Shared::default())),
    values: true,
    at_least: 20,
};

#[test]
fn golden() {
    SUITE.golden();
}

#[test]
fn every_split_gives_the_same_calls() {
    SUITE.every_split(200);
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz_kafka(&data);
    }
}
