//! What the fuzz targets call, kept here so that `cargo test` runs it too.

use super::sql::Shapes;
use super::{Postgres, Shared};
use crate::decode::{Chunk, Decoder, Disturbance, Mark, SessionStart, Sink};
use crate::model::claim::{OpaqueId, Salt};
use crate::model::{Claim, Fingerprint, MarkerPlace, Nanos, Operation, Side, Slot, Sym, TxStatus};

/// Feeds arbitrary bytes to a decoder: the first byte of each step says which side speaks, whether something is
/// missing and how long the piece is. For the fuzz target, and run over the recorded connections in the tests.
pub fn fuzz_postgres(data: &[u8]) {
    struct Nobody(u64);
    impl Sink for Nobody {
        fn claim(&mut self, _: Slot, name: &str, value: &str) -> Claim {
            self.0 += (name.len() + value.len()) as u64;
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
            assert!(request <= self.0, "a mark is of a request that has begun");
        }
        fn intern(&mut self, name: &str) -> Sym {
            Sym(u32::try_from(name.len()).unwrap_or(0) + 2)
        }
        fn started(&mut self, _: SessionStart) {}
        fn begun(&mut self, request: u64, _: Nanos, _: Option<Fingerprint>) {
            self.0 = self.0.max(request);
        }
        fn done(&mut self, _: &Operation) {}
        fn answered(&mut self, request: u64, _: Nanos, _: Option<Fingerprint>) {
            assert!(request <= self.0.max(request), "answers something that began");
        }
        fn status(&mut self, _: Nanos, _: TxStatus) {}
        fn disturbed(&mut self, _: Nanos, _: Disturbance) {}
        fn opaque(&mut self, _: Nanos, _: &'static str) {}
        fn decode_error(&mut self, _: &'static str) {}
    }
    let Some((&first, mut rest)) = data.split_first() else { return };
    let salt = Salt(1, 2);
    let mut decoder = Postgres::new(salt, first & 1 == 1, &Shared::new(salt));
    let mut sink = Nobody(0);
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
        assert!(decoder.memory() < 64 << 20, "memory is bounded");
    }
    decoder.closed(Nanos(at), &mut sink);
}

/// Feeds arbitrary text to the SQL reader. For the fuzz target.
pub fn fuzz_sql(data: &[u8]) {
    let mut shapes = Shapes::new(Salt(1, 2));
    for backslash in [false, true] {
        let mut n = 0;
        shapes.read(data, backslash, backslash, &mut |_| {}, &mut |_| n += 1);
        assert!(n <= data.len(), "no more statements than bytes");
    }
}
