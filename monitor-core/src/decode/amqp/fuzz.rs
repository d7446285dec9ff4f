//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Amqp, Shared};
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
pub fn fuzz_amqp(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let mut decoder = Amqp::new(Salt(1, 2), first & 1 == 1, &Shared::default());
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
        assert!(decoder.memory() < 2 << 20, "memory is bounded");
    }
    decoder.closed(Nanos(at), &mut sink);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cut and every corruption of a small conversation.
    #[test]
    fn no_input_panics() {
        let mut talk = vec![1];
        let pieces: [(u8, &[u8]); 6] = [
            (0, b"\x01\0\x01\0\0\0\x05\0\x55\0\x0a\0\xce"),
            (0, b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x28\0\0\0\x04jobs\0\xce\x02\0\x01\0\0\0\x12\0\x3c\0\0\0\0\0\0\0\0\0\x02\x80\0\x03a/b\xce\x03\0\x01\0\0\0\x02hi\xce"),
            (1, b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x01\0\xce"),
            (1, b"\x01\0\x01\0\0\0\x15\0\x3c\0\x3c\x01c\0\0\0\0\0\0\0\x01\0\0\x04jobs\xce"),
            (1, b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\x02\0\0\xce\x03\0\x01\0\0\0\x02hi\xce"),
            (0, b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\0\x01\xce"),
        ];
        for (side, bytes) in pieces {
            for byte in bytes {
                talk.extend([side, *byte]);
            }
        }
        for end in 0..talk.len() {
            fuzz_amqp(&talk[..end]);
            for bit in 0..8 {
                let mut bad = talk.clone();
                bad[end] ^= 1 << bit;
                fuzz_amqp(&bad);
            }
        }
    }
}
