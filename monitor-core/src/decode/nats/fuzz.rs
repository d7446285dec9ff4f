//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::Nats;
use crate::decode::fuzzing::feed;
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_nats(data: &[u8]) {
    let checks = feed(data, 1 << 20, |mid_stream| Nats::new(Salt(1, 2), mid_stream));
    assert_eq!(checks.begun, checks.answered, "every request is answered");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::no_harm;

    #[test]
    fn no_input_panics() {
        let talk = b"\x00\x39INFO {}\r\n\xf0CONNECT {\"user\":\"a\"}\r\nPUB a _INBOX.1 2\r\nhi\r\nSUB a 1\r\n\xf1PONG\r\nMSG _INBOX.1 1 22\r\n{\"stream\":\"S\",\"seq\":1}\r\n";
        no_harm(talk, fuzz_nats);
    }
}
