//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Kafka, Shared};
use crate::decode::fuzzing::feed;
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_kafka(data: &[u8]) {
    feed(data, 8 << 20, |mid_stream| Kafka::new(Salt(1, 2), mid_stream, &Shared::default()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::no_harm;

    #[test]
    fn no_input_panics() {
        // Versions are asked for and told; a Fetch request of version 4, and a response with a batch of one record.
        let mut talk = b"\0\xb0\0\0\0\x0b\0\x12\0\0\0\0\0\x01\0\x01c\xb1\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0".to_vec();
        talk.extend(
            b"\xf8\0\0\0\x39\0\x01\0\x04\0\0\0\x02\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\0\0\0\x09\x01\0\0\0\x01",
        );
        talk.extend(b"\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x09");
        no_harm(&talk, fuzz_kafka);
    }
}
