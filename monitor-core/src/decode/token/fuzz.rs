//! What the fuzz target calls, kept here so that `cargo test` runs it too.

use super::Verifier;
use crate::model::claim::Salt;
use crate::model::token::TokenPolicy;
use crate::model::{Claim, Nanos};

/// Reads the first line as a document of keys, every other one as a token.
pub fn fuzz_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let keys = lines.next().map(str::to_owned).into_iter().collect();
    let (mut verifier, _) = Verifier::new(&TokenPolicy { keys, ..TokenPolicy::default() }, Salt(1, 2));
    for (at, line) in (0u64..).zip(lines) {
        let token = verifier.inspect("Bearer", line, Nanos::secs(at), None, &mut |_| Claim::Neutral);
        if let Some(token) = token {
            assert!(token.readable || token.tenant == Claim::Neutral, "what cannot be read names nobody");
        }
        assert!(verifier.len() <= Verifier::limit(), "memory is bounded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_input_panics() {
        let talk = b"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}\neyJhbGciOiJIUzI1NiJ9.eyJ0aWQiOiJhIn0.AAAA\n..\n";
        for end in 0..talk.len() {
            fuzz_token(&talk[..end]);
            for bit in 0..8 {
                let mut bad = talk.to_vec();
                bad[end] ^= 1 << bit;
                fuzz_token(&bad);
            }
        }
    }
}
