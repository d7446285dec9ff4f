//! What the fuzz targets of all decoders share: arbitrary bytes as steps of a conversation, and a sink that checks what
//! must hold of every decoder.

use smallvec::SmallVec;

use super::{Chunk, DecodeError, Decoder, Disturbance, Mark, SessionStart, Sink};
use crate::model::claim::OpaqueId;
use crate::model::mcp::Exchange;
use crate::model::queue::QueueEvent;
use crate::model::{Claim, Fingerprint, MarkerPlace, Nanos, Operation, Side, Slot, Sym, TenantId, TxStatus};

/// Takes everything and checks what must hold.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The latest request whose head has come.
    arrived: u64,
    /// The latest request that has begun.
    pub(super) begun: u64,
    /// How many were answered.
    pub(super) answered: u64,
    /// Requests that have begun, where they do so in any order.
    concurrent: Option<std::collections::BTreeSet<u64>>,
}

impl Sink for Checks {
    fn claim(&mut self, _: Slot, _: &str, _: &str) -> Claim {
        Claim::Neutral
    }
    fn setting_binds(&self, name: &str) -> bool {
        name.contains("tenant")
    }
    fn marker(&mut self, _: MarkerPlace, name: &str, value: &str) -> Claim {
        assert!(name.len() + value.len() <= 64 << 10, "no longer than a message is kept");
        if name.contains("tenant") { Claim::Opaque(OpaqueId(value.len() as u64)) } else { Claim::Neutral }
    }
    fn wants_values(&self, _: Side) -> bool {
        true
    }
    fn mark(&mut self, request: u64, _: Side, _: Mark) {
        assert!(request <= self.begun.max(self.arrived), "a mark is of a request that is known");
    }
    fn intern(&mut self, name: &str) -> Sym {
        Sym(u32::try_from(name.len()).unwrap_or(0) + 2)
    }
    fn started(&mut self, _: SessionStart) {}
    fn arrived(&mut self, request: u64, _: Nanos) {
        self.arrived = self.arrived.max(request);
    }
    fn begun(&mut self, request: u64, _: Nanos, _: Option<Fingerprint>) {
        match &mut self.concurrent {
            Some(all) => assert!(all.insert(request), "requests begin once"),
            None => assert!(request > self.begun, "requests begin in order, each once"),
        }
        self.begun = self.begun.max(request);
    }
    fn done(&mut self, op: &Operation) {
        assert!(op.request <= self.begun, "ends something that began");
    }
    fn answered(&mut self, request: u64, _: Nanos, _: Option<Fingerprint>) {
        assert!(request <= self.begun, "answers something that began");
        self.answered += 1;
    }
    fn concurrent(&mut self) {
        self.concurrent.get_or_insert_default();
    }
    fn canaries(&mut self, text: &str) -> SmallVec<[TenantId; 1]> {
        if text.contains("canary") { SmallVec::from_elem(TenantId(0), 1) } else { SmallVec::new() }
    }
    fn mcp(&mut self, exchange: &Exchange) {
        assert!(exchange.begun <= exchange.ended);
        assert!(exchange.handles_given.len() <= 64 && exchange.content.tenants.len() <= 64);
    }
    fn queue(&mut self, event: QueueEvent) {
        if let QueueEvent::Published(m) = event {
            assert!(m.request <= self.begun, "was published by a request");
        }
    }
    fn status(&mut self, _: Nanos, _: TxStatus) {}
    fn disturbed(&mut self, _: Nanos, _: Disturbance) {}
    fn opaque(&mut self, _: Nanos, _: &'static str) {}
    fn decode_error(&mut self, _: DecodeError) {}
}

/// Feeds arbitrary bytes to the decoder that `make` gives, told whether it joins mid-stream.
pub(super) fn feed<D: Decoder>(data: &[u8], memory: usize, make: impl FnOnce(bool) -> D) -> Checks {
    let Some((&first, rest)) = data.split_first() else { return Checks::default() };
    steps(rest, memory, &mut make(first & 1 == 1))
}

/// The first byte of each step says which side speaks, whether something is missing and how long the piece is. The
/// decoder may hold `memory` bytes.
pub(super) fn steps(data: &[u8], memory: usize, decoder: &mut dyn Decoder) -> Checks {
    let mut checks = Checks::default();
    let (mut rest, mut at) = (data, 0);
    while let Some((&head, after)) = rest.split_first() {
        at += 1;
        let from = if head & 1 == 0 { Side::Client } else { Side::Server };
        let n = usize::from(head >> 3) * 4 + 1;
        if head & 6 == 6 {
            decoder.missing(from, Nanos(at), n as u64, &mut checks);
            rest = after;
            continue;
        }
        let (bytes, after) = after.split_at_checked(n).unwrap_or((after, &[]));
        rest = after;
        decoder.bytes(from, Chunk { at: Nanos(at), bytes, ends_segment: head & 2 == 0 }, &mut checks);
        assert!(decoder.memory() < memory, "memory is bounded");
    }
    decoder.closed(Nanos(at), &mut checks);
    checks
}

/// Every prefix and every flipped bit of a small conversation.
#[cfg(test)]
pub(super) fn no_harm(talk: &[u8], fuzz: fn(&[u8])) {
    for end in 0..talk.len() {
        fuzz(&talk[..end]);
        for bit in 0..8 {
            let mut bad = talk.to_vec();
            bad[end] ^= 1 << bit;
            fuzz(&bad);
        }
    }
}

/// A conversation byte by byte: each piece with the side that sends it (0: the client).
#[cfg(test)]
pub(super) fn byte_by_byte(first: u8, pieces: &[(u8, &[u8])]) -> Vec<u8> {
    let steps = pieces.iter().flat_map(|(side, bytes)| bytes.iter().flat_map(|byte| [*side, *byte]));
    std::iter::once(first).chain(steps).collect()
}
