//! What the fuzz targets call, kept here so that `cargo test` runs it too.

use super::hpack::{Fields, Hpack};
use super::{Semantics, lifecycle};
use crate::decode::fuzzing::feed;
use crate::decode::http::Shared;
use crate::model::HeaderPolicy;
use crate::model::claim::Salt;

/// Feeds arbitrary bytes to a decoder.
pub fn fuzz_http2(data: &[u8]) {
    feed(data, 80 << 20, |mid_stream| {
        let shared = Shared::new(HeaderPolicy::default());
        lifecycle(mid_stream, Semantics::new(Salt(1, 2), &shared, None))
    });
}

/// Header blocks, each behind its length in one byte. The first byte says whether the start was seen. What is known of a
/// connection that is joined late is never anything else than what is known of a whole one.
pub fn fuzz_hpack(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let late = usize::from(first);
    let (mut whole, mut joined) = (Hpack::new(true), Hpack::new(false));
    let (mut all, mut known) = (Fields::default(), Fields::default());
    let mut n = 0;
    while let Some((&len, after)) = rest.split_first() {
        let (block, after) = after.split_at_checked(usize::from(len)).unwrap_or((after, &[]));
        rest = after;
        let read = whole.decode(block, &mut all);
        if n >= late {
            assert_eq!(read, joined.decode(block, &mut known), "what is a block is one for both");
            let mut wanted = all.iter();
            let is_known = known.iter().all(|field| wanted.any(|w| w == field));
            // A reference to what the standard has dropped from the table may find it where the table's size is not known.
            assert!(is_known || all.is_partial(), "what is known is what was said");
        }
        if read.is_err() {
            return;
        }
        n += 1;
        assert!(whole.memory() + joined.memory() + all.memory() + known.memory() < 1 << 20, "memory is bounded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::no_harm;

    #[test]
    fn no_input_panics() {
        let talk = b"\x00\x30PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\x30\0\0\x09\x01\x04\0\0\0\x01\x83\x84\x86\x40\x01a\x02bc\0\0\x03\0\x01\0\0\x18\0\x01abc\x41\0\0\0\x04\0\0\0\0\0\0\0\x02\x01\x04\0\0\0\x01\x88\x89";
        no_harm(talk, fuzz_http2);
        no_harm(b"\x01\x08\x82\x84\x40\x01a\x02bc\x3f\x02\xbe\x82\x03\x7e\x01x", fuzz_hpack);
    }
}
