//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Kafka, Shared};
use crate::decode::{Chunk, Decoder, Disturbance, SessionStart, Sink};
use crate::model::claim::Salt;
use crate::model::{Claim, Fingerprint, Nanos, Operation, Side, Slot, Sym, TxStatus};

/// Takes everything and checks what must hold.
struct Nobody {
    begun: u64,
}

impl Sink for Nobody {
    fn claim(&mut self, _: Slot, _: &str, _: &str) -> Claim {
        Claim::Neutral
    }
    fn setting_binds(&self, _: &str) -> bool {
        false
    }
    fn wants_values(&self, _: Side) -> bool {
        true
    }
    fn intern(&mut self, name: &str) -> Sym {
        Sym(u32::try_from(name.len()).unwrap_or(0) + 2)
    }
    fn started(&mut self, _: SessionStart) {}
    fn begun(&mut self, request: u64, _: Nanos, _: Option<Fingerprint>) {
        assert!(request > self.begun, "requests begin in order, each once");
        self.begun = request;
    }
    fn done(&mut self, _: &Operation) {}
    fn answered(&mut self, request: u64, _: Nanos, _: Option<Fingerprint>) {
        assert!(request <= self.begun, "answers something that began");
    }
    fn status(&mut self, _: Nanos, _: TxStatus) {}
    fn disturbed(&mut self, _: Nanos, _: Disturbance) {}
    fn opaque(&mut self, _: Nanos, _: &'static str) {}
    fn decode_error(&mut self, _: &'static str) {}
}

/// Feeds arbitrary bytes to a decoder: the first byte of each step says which side speaks, whether something is missing
/// and how long the piece is.
pub fn fuzz_kafka(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let mut decoder = Kafka::new(Salt(1, 2), first & 1 == 1, &Shared::default());
    let mut sink = Nobody { begun: 0 };
    let mut at = 0;
    while let Some((&head, after)) = rest.split_first() {
        at += 1;
        let from = if head & 1 == 0 { Side::Client } else { Side::Server };
        let n = usize::from(head >> 3) * 4 + 1;
        if head & 6 == 6 {
            decoder.missing(from, Nanos(at), n as u64, &mut sink);
            rest = after;
            continue;
        }
        let (bytes, after) = after.split_at_checked(n).unwrap_or((after, &[]));
        rest = after;
        decoder.bytes(from, Chunk { at: Nanos(at), bytes, ends_segment: head & 2 == 0 }, &mut sink);
        assert!(decoder.memory() < 8 << 20, "memory is bounded");
    }
    decoder.closed(Nanos(at), &mut sink);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cut and every corruption of a small conversation.
    #[test]
    fn no_input_panics() {
        // Versions are asked for and told; a Fetch request of version 4, and a response with a batch of one record.
        let mut talk = b"\0\xb0\0\0\0\x0b\0\x12\0\0\0\0\0\x01\0\x01c\xb1\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0".to_vec();
        talk.extend(
            b"\xf8\0\0\0\x39\0\x01\0\x04\0\0\0\x02\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\0\0\0\x09\x01\0\0\0\x01",
        );
        talk.extend(b"\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x09");
        for end in 0..talk.len() {
            fuzz_kafka(&talk[..end]);
            for bit in 0..8 {
                let mut bad = talk.clone();
                bad[end] ^= 1 << bit;
                fuzz_kafka(&bad);
            }
        }
    }
}
