//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::Amqp;
use crate::decode::fuzzing::feed;
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_amqp(data: &[u8]) {
    feed(data, 2 << 20, |mid_stream| Amqp::new(Salt(1, 2), mid_stream));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::{byte_by_byte, no_harm};

    #[test]
    fn no_input_panics() {
        let pieces: [(u8, &[u8]); 6] = [
            (0, b"\x01\0\x01\0\0\0\x05\0\x55\0\x0a\0\xce"),
            (0, b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x28\0\0\0\x04jobs\0\xce\x02\0\x01\0\0\0\x12\0\x3c\0\0\0\0\0\0\0\0\0\x02\x80\0\x03a/b\xce\x03\0\x01\0\0\0\x02hi\xce"),
            (1, b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x01\0\xce"),
            (1, b"\x01\0\x01\0\0\0\x15\0\x3c\0\x3c\x01c\0\0\0\0\0\0\0\x01\0\0\x04jobs\xce"),
            (1, b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\x02\0\0\xce\x03\0\x01\0\0\0\x02hi\xce"),
            (0, b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\0\x01\xce"),
        ];
        no_harm(&byte_by_byte(1, &pieces), fuzz_amqp);
    }
}
