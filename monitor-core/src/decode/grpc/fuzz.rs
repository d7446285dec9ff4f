//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::messages::{Encoding, Messages};
use crate::decode::wire::protobuf;

/// A direction of a call: the first byte says how it is compressed and where it is cut.
pub fn fuzz_grpc(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let encoding =
        Encoding::of([None, Some("gzip"), Some("deflate"), Some("x")].get(usize::from(first & 3)).copied().flatten());
    let read = |cut: usize| {
        let mut messages = Messages::default();
        let mut out = Vec::new();
        let (a, b) = rest.split_at_checked(cut).unwrap_or((rest, &[]));
        for part in [a, b] {
            messages.feed(part, 1 << 16, &mut |compressed, message| {
                let plain = if compressed { encoding.unpack(message) } else { Some(message.to_vec()) };
                protobuf::texts(&plain.unwrap_or_default(), &mut |text| out.push(text.to_owned()));
            });
            assert!(messages.memory() <= 1 << 18, "memory is bounded");
        }
        out
    };
    assert_eq!(read(0), read(usize::from(first >> 2)), "however it is cut");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fuzzing::no_harm;

    #[test]
    fn no_input_panics() {
        no_harm(b"\x14\0\0\0\0\x0c\x0a\x04acme\x12\x04\x0a\x02abX\x01\0\0\0\x03abc", fuzz_grpc);
    }
}
