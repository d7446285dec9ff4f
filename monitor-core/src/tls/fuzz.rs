//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::{Plain, Sealed, Spent, Tls};
use crate::model::{Nanos, Secret, SecretLabel, Side};

/// Counts what comes out.
#[derive(Debug, Default)]
struct Checks {
    n_plain: u64,
    n_spent: u64,
}

impl Plain for Checks {
    fn bytes(&mut self, _: Side, _: Nanos, bytes: &[u8], _: bool) {
        assert!(!bytes.is_empty() && bytes.len() <= 1 << 15, "what is in a record");
        self.n_plain += bytes.len() as u64;
    }
    fn missing(&mut self, _: Side, _: Nanos, n: Option<u64>) {
        assert!(n.is_none_or(|n| n <= 1 << 15), "what is in a record");
    }
    fn spent(&mut self, _: Spent, n: u64) {
        self.n_spent += n;
    }
}

/// Feeds arbitrary bytes, holes and secrets to the layer. The first byte of each step says which: bit 0 who speaks, bits 1
/// and 2 whether it is a hole (2), a secret (3) or bytes, the other five which label or how long.
///
/// # Panics
/// When something does not hold that holds of every input.
pub fn fuzz_tls(data: &[u8]) {
    let (mut tls, mut out) = (Tls::new(Side::Client), Checks::default());
    let (mut scratch, mut secrets, mut came, mut at) = (Vec::new(), Vec::new(), 0, Nanos(0));
    let mut rest = data;
    while let Some((&head, after)) = rest.split_first() {
        at = at + Nanos(1);
        let from = if head & 1 == 0 { Side::Client } else { Side::Server };
        let what = usize::from(head >> 3);
        match head >> 1 & 3 {
            2 => {
                tls.missing(from, at, 1 << (what / 2), &mut scratch, &mut out);
                rest = after;
            }
            3 => {
                let Some(label) = SecretLabel::ALL.get(what % 8) else { return };
                let (bytes, after) = after.split_at_checked(if what < 8 { 32 } else { 48 }).unwrap_or((after, &[]));
                rest = after;
                secrets.extend(Secret::new(bytes).filter(|_| secrets.len() < 8).map(|secret| (*label, secret)));
            }
            _ => {
                let (bytes, after) = after.split_at_checked(what * what + 1).unwrap_or((after, &[]));
                rest = after;
                came += bytes.len() as u64;
                let sealed = Sealed { at, bytes, ends_segment: head & 2 == 0 };
                tls.bytes(from, sealed, &mut scratch, &mut out);
            }
        }
        while let Some(label) = SecretLabel::ALL.into_iter().find(|label| tls.wants(*label)) {
            let mut of_label = secrets.iter().filter(|(l, _)| *l == label);
            if of_label.any(|(_, secret)| tls.offer(label, secret, false)) {
                tls.advance(at, &mut scratch, &mut out);
            } else {
                tls.none_fits(label);
            }
        }
        assert!(tls.memory() < 600 << 10, "memory is bounded");
        assert_eq!(out.n_plain + out.n_spent + tls.unresolved(), came, "every byte becomes one thing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::talk::{Pair, Say, Step};

    /// A conversation as the target reads it.
    fn input(steps: &[Step]) -> Vec<u8> {
        let mut out = Vec::new();
        for step in steps {
            match step {
                Step::Bytes(from, bytes, _) => {
                    let side = u8::from(*from == Side::Server);
                    // 30² + 1 bytes at most; what is left in pieces of one.
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let n = (0..=30_usize).rev().find(|n| n * n < rest.len()).unwrap_or(0);
                        let (piece, after) = rest.split_at((n * n + 1).min(rest.len()));
                        out.push(u8::try_from(n).unwrap() << 3 | side);
                        out.extend_from_slice(piece);
                        rest = after;
                    }
                }
                Step::Told(secret) => {
                    let long = if secret.secret.bytes().len() == 48 { 8 } else { 0 };
                    out.push((secret.label as u8 | long) << 3 | 6);
                    out.extend_from_slice(secret.secret.bytes());
                }
                Step::Hole(..) => {}
            }
        }
        out
    }

    #[test]
    fn no_input_panics() {
        for suite in [
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256,
            rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ] {
            let script = [Say::Bytes(Side::Client, vec![b'a'; 40]), Say::Bytes(Side::Server, vec![b'b'; 40])];
            let data = input(&Pair::new(suite).talk(b"", &script));
            for end in 0..data.len() {
                fuzz_tls(&data[..end]);
                for bad in [data[end] ^ 1, data[end] ^ 6, data[end] ^ 0x80, 0x16, 0x17, 0xff] {
                    let mut data = data.clone();
                    data[end] = bad;
                    fuzz_tls(&data);
                }
            }
        }
    }
}
