//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::Mqtt;
use crate::decode::fuzzing::feed;
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_mqtt(data: &[u8]) {
    feed(data, 2 << 20, |mid_stream| Mqtt::new(Salt(1, 2), mid_stream));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::{byte_by_byte, no_harm};

    #[test]
    fn no_input_panics() {
        let pieces: [(u8, &[u8]); 6] = [
            (0, b"\x10\x15\0\x04MQTT\x05\x02\0\x3c\0\0\x01c\0\x01u\0\x02pw"),
            (1, b"\x20\x03\0\0\0"),
            (0, b"\x32\x12\0\x03a/b\0\x01\x07\x26\0\x01k\0\x01v\x7bxy"),
            (1, b"\x40\x02\0\x01\x34\x0b\0\x03a/b\0\x02\x03\x23\0\x01x"),
            (0, b"\x50\x02\0\x02\x70\x02\0\x02\x82\x09\0\x03\0\0\x03a/#\x01\xc0\0"),
            (1, b"\x90\x04\0\x03\0\x01\xd0\0\x30\x07\0\0\x03\x23\0\x01z"),
        ];
        no_harm(&byte_by_byte(0, &pieces), fuzz_mqtt);
    }
}
