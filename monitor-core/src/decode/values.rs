//! Values inside payload: the words of a request that may reappear in the work done for it. Only salted hashes leave.
//!
//! A value is a run of letters, digits, `_`, `-`, `.`, `@` and bytes beyond ASCII. Quotes, slashes, colons, braces and
//! blanks end it, so that `/users/4711`, `{"user": 4711}`, `user:4711` and `WHERE id = '4711'` all hold the value
//! `4711`. Which values are rare enough to mean something is measured by the engine, not decided here.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Shortest value, in bytes.
pub const MIN: usize = 3;
/// Longest value, in bytes; longer runs are no values (encoded blobs).
pub const MAX: usize = 256;

/// Splits bytes that come in pieces into values. Holds no bytes, only the hash of the run it is in.
#[derive(Debug)]
pub struct Values {
    salt: Salt,
    run: Option<(SipHasher13, usize)>,
}

impl Values {
    /// A splitter at the beginning of a text.
    pub fn new(salt: Salt) -> Self {
        Self { salt, run: None }
    }

    /// More bytes of the text.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Fingerprint)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = rest.iter().position(|b| !inside(*b)).unwrap_or(rest.len());
            let (run, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            if !run.is_empty() {
                let (hasher, len) = self.run.get_or_insert_with(|| (self.salt.hasher(), 0));
                // Byte by byte would give the same: the hash is of the run, however it was cut.
                hasher.write(run);
                *len += run.len();
            }
            if after.is_empty() {
                return;
            }
            self.end(each);
            let blanks = after.iter().position(|b| inside(*b)).unwrap_or(after.len());
            rest = after.get(blanks..).unwrap_or_default();
        }
    }

    /// The text has ended.
    pub fn end(&mut self, each: &mut dyn FnMut(Fingerprint)) {
        if let Some((hasher, len)) = self.run.take()
            && (MIN..=MAX).contains(&len)
        {
            each(Fingerprint(hasher.finish()));
        }
    }

    /// Something of the text is missing here: the run it was in is not known.
    pub fn forget(&mut self) {
        self.run = None;
    }
}

/// The values of one whole text.
pub fn values(salt: Salt, text: &[u8], each: &mut dyn FnMut(Fingerprint)) {
    let mut values = Values::new(salt);
    values.feed(text, each);
    values.end(each);
}

/// Which bytes are inside values: looked up, because every byte of every message is.
#[expect(clippy::indexing_slicing, reason = "computed when compiled")]
static INSIDE: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0u8;
    loop {
        table[b as usize] = b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | 0x80..);
        if b == u8::MAX {
            break table;
        }
        b += 1;
    }
};

#[expect(clippy::indexing_slicing, reason = "every byte has its place")]
fn inside(b: u8) -> bool {
    INSIDE[usize::from(b)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Fingerprint> {
        let mut found = Vec::new();
        values(Salt(1, 2), text.as_bytes(), &mut |f| found.push(f));
        found
    }

    #[test]
    fn the_same_value_is_found_in_every_notation() {
        let id = all("4711");
        assert_eq!(id.len(), 1);
        for text in ["/users/4711", r#"{"u":4711}"#, "u:4711", "u='4711'", "?a=4711&b=1"] {
            assert!(all(text).contains(&id[0]), "{text}");
        }
        assert!(!all("47110").contains(&id[0]));
        assert_eq!(all("47"), [], "too short to mean anything");
        assert_eq!(all(&"x".repeat(MAX + 1)), [], "no value but a blob");
    }

    #[test]
    fn pieces_give_the_same_values_as_the_whole() {
        let text = r#"{"order":"a1-b2@c.d","n":12345}"#;
        for cut in 0..=text.len() {
            let (mut found, mut v) = (Vec::new(), Values::new(Salt(1, 2)));
            v.feed(&text.as_bytes()[..cut], &mut |f| found.push(f));
            v.feed(&text.as_bytes()[cut..], &mut |f| found.push(f));
            v.end(&mut |f| found.push(f));
            assert_eq!(found, all(text), "cut at {cut}");
        }
    }
}
