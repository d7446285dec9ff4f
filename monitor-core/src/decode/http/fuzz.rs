//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Http, Shared};
use crate::decode::fuzzing::feed;
use crate::model::HeaderPolicy;
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_http(data: &[u8]) {
    feed(data, 1 << 20, |mid_stream| Http::new(Salt(1, 2), mid_stream, &Shared::new(HeaderPolicy::default()), None));
}

/// An encoded body, whole and in pieces. The first byte says how it is encoded and where it is cut.
pub fn fuzz_coding(data: &[u8]) {
    super::coding::fuzz(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::no_harm;

    #[test]
    fn no_input_panics() {
        let talk = b"\x01\xf0POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\xf1HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        no_harm(talk, fuzz_http);
    }
}
