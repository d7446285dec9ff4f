//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Nats, Shared};
use crate::decode::{Chunk, Decoder, Disturbance, SessionStart, Sink};
use crate::model::claim::Salt;
use crate::model::queue::QueueEvent;
use crate::model::{Claim, Fingerprint, Nanos, Operation, Side, Slot, Sym, TxStatus};

/// Takes everything and checks what must hold.
struct Nobody {
    begun: u64,
    answered: u64,
}

impl Sink for Nobody {
    fn claim(&mut self, _: Slot, _: &str, _: &str) -> Claim {
        Claim::Neutral
    }
    fn setting_binds(&self, _: &str) -> bool {
        false
    }
    fn intern(&mut self, name: &str) -> Sym {
        Sym(u32::try_from(name.len()).unwrap_or(0) + 2)
    }
    fn started(&mut self, _: SessionStart) {}
    fn begun(&mut self, request: u64, _: Nanos, _: Option<Fingerprint>) {
        assert_eq!(request, self.begun + 1, "requests begin in order, each once");
        self.begun = request;
    }
    fn done(&mut self, op: &Operation) {
        assert!(op.request <= self.begun, "ends something that began");
    }
    fn answered(&mut self, request: u64, _: Nanos, _: Option<Fingerprint>) {
        assert!(request <= self.begun, "answers something that began");
        self.answered += 1;
    }
    fn queue(&mut self, event: QueueEvent) {
        if let QueueEvent::Published(m) = event {
            assert!(m.request > 0 && m.request <= self.begun, "was published by somebody");
        }
    }
    fn status(&mut self, _: Nanos, _: TxStatus) {}
    fn disturbed(&mut self, _: Nanos, _: Disturbance) {}
    fn opaque(&mut self, _: Nanos, _: &'static str) {}
    fn decode_error(&mut self, _: &'static str) {}
}

/// Feeds arbitrary bytes to a decoder: the first byte of each step says which side speaks, whether something is missing
/// and how long the piece is.
pub fn fuzz_nats(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let mut decoder = Nats::new(Salt(1, 2), first & 1 == 1, &Shared::default());
    let mut sink = Nobody { begun: 0, answered: 0 };
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
        assert!(decoder.memory() < 1 << 20, "memory is bounded");
    }
    decoder.closed(Nanos(at), &mut sink);
    assert_eq!(sink.begun, sink.answered, "every request is answered");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every prefix and every flipped bit of a small conversation.
    #[test]
    fn no_input_panics() {
        let talk = b"\x00\x39INFO {}\r\n\xf0CONNECT {\"user\":\"a\"}\r\nPUB a _INBOX.1 2\r\nhi\r\nSUB a 1\r\n\xf1PONG\r\nMSG _INBOX.1 1 22\r\n{\"stream\":\"S\",\"seq\":1}\r\n";
        for end in 0..talk.len() {
            fuzz_nats(&talk[..end]);
            for bit in 0..8 {
                let mut bad = talk.to_vec();
                bad[end] ^= 1 << bit;
                fuzz_nats(&bad);
            }
        }
    }
}
