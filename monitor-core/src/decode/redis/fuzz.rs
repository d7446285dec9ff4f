//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Redis, Shared};
use crate::decode::fuzzing::feed;
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_redis(data: &[u8]) {
    feed(data, 1 << 20, |mid_stream| Redis::new(Salt(1, 2), mid_stream, &Shared::default()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::no_harm;

    #[test]
    fn no_input_panics() {
        let talk = b"\x01\xf0*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nEXEC\r\n\xf1$1\r\nv\r\n+OK\r\n*1\r\n:1\r\n>2\r\n+a\r\n_\r\n";
        no_harm(talk, fuzz_redis);
    }
}
