//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Mqtt, Shared};
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
pub fn fuzz_mqtt(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let mut decoder = Mqtt::new(Salt(1, 2), first & 1 == 1, &Shared::default());
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
        let mut talk = vec![0];
        let pieces: [(u8, &[u8]); 6] = [
            (0, b"\x10\x15\0\x04MQTT\x05\x02\0\x3c\0\0\x01c\0\x01u\0\x02pw"),
            (1, b"\x20\x03\0\0\0"),
            (0, b"\x32\x12\0\x03a/b\0\x01\x07\x26\0\x01k\0\x01v\x7bxy"),
            (1, b"\x40\x02\0\x01\x34\x0b\0\x03a/b\0\x02\x03\x23\0\x01x"),
            (0, b"\x50\x02\0\x02\x70\x02\0\x02\x82\x09\0\x03\0\0\x03a/#\x01\xc0\0"),
            (1, b"\x90\x04\0\x03\0\x01\xd0\0\x30\x07\0\0\x03\x23\0\x01z"),
        ];
        for (side, bytes) in pieces {
            for byte in bytes {
                talk.extend([side, *byte]);
            }
        }
        for end in 0..talk.len() {
            fuzz_mqtt(&talk[..end]);
            for bit in 0..8 {
                let mut bad = talk.clone();
                bad[end] ^= 1 << bit;
                fuzz_mqtt(&bad);
            }
        }
    }
}
