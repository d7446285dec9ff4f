//! What a request carries besides its meaning: values that may lead to the request it was made for, ids of traces in
//! comments, and whom a comment names. Only hashes and claims are kept.

use smallvec::SmallVec;

use super::value::{integer, is_text, uuid};
use crate::decode::{Mark, Sink, trace, values};
use crate::model::claim::Salt;
use crate::model::{Claim, MarkerPlace, Side};

/// Most marks of one request, and so most that are kept of one statement or of one set of parameters.
pub(crate) const MAX_MARKS: usize = 64;
/// Longest comment that is read, in bytes.
const MAX_COMMENT: usize = 4096;

/// Marks and marker of one statement, or of one set of parameters.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    marks: SmallVec<[Mark; 2]>,
    /// Whom its comments name.
    pub(crate) marker: Claim,
}

impl Default for Noted {
    fn default() -> Self {
        Self { marks: SmallVec::new(), marker: Claim::Neutral }
    }
}

impl Noted {
    fn mark(&mut self, mark: Mark) {
        if self.marks.len() < MAX_MARKS && !self.marks.contains(&mark) {
            self.marks.push(mark);
        }
    }

    /// A literal or a parameter in text format.
    pub(crate) fn text(&mut self, salt: Salt, text: &[u8]) {
        if self.marks.len() >= MAX_MARKS {
            return;
        }
        values::values(salt, text, &mut |v| self.mark(Mark::Value(v)));
    }

    /// A parameter in binary format, whose type is not known: what it is as an integer, as a UUID, or as text.
    pub(crate) fn binary(&mut self, salt: Salt, bytes: &[u8]) {
        if let Some(n) = integer(bytes) {
            self.text(salt, n.to_string().as_bytes());
        }
        if let Some(text) = uuid(bytes) {
            self.text(salt, text.as_bytes());
        }
        if is_text(bytes) {
            self.text(salt, bytes);
        }
    }

    /// The comments before and after a statement, in the form of sqlcommenter: `key='url-encoded value'`, separated by
    /// commas. What stands between is not looked at: it may be inside a string.
    pub(crate) fn comments(&mut self, salt: Salt, text: &[u8], sink: &mut dyn Sink) {
        let text = text.trim_ascii();
        let text = text.strip_suffix(b";").unwrap_or(text).trim_ascii_end();
        if let Some(before) = text.strip_prefix(b"/*") {
            let end = memchr::memmem::find(before, b"*/").unwrap_or(0);
            self.comment(salt, before.get(..end).unwrap_or_default(), sink);
        }
        if let Some(after) = text.strip_suffix(b"*/") {
            let start = memchr::memmem::rfind(after, b"/*").map_or(after.len(), |at| at + 2);
            self.comment(salt, after.get(start..).unwrap_or_default(), sink);
        }
    }

    fn comment(&mut self, salt: Salt, comment: &[u8], sink: &mut dyn Sink) {
        // Code and hints in the clothes of a comment.
        if matches!(comment, [b'!' | b'+', ..] | [b'M', b'!', ..]) {
            return;
        }
        let Some(comment) = std::str::from_utf8(comment).ok().filter(|c| c.len() <= MAX_COMMENT) else { return };
        for (key, value) in comment.split(',').filter_map(|pair| pair.split_once('=')) {
            let value = unescaped(value.trim().trim_matches('\''));
            self.said(salt, key, &value, sink);
        }
    }

    /// Something that a statement says beside its text: a key and its value.
    pub(crate) fn said(&mut self, salt: Salt, key: &str, value: &str, sink: &mut dyn Sink) {
        let key = key.trim().to_ascii_lowercase();
        let is_trace = matches!(
            &*key,
            "traceparent" | "request_id" | "x-request-id" | "requestid" | "correlation_id" | "trace_id" | "traceid"
        );
        if !is_trace {
            self.marker = both(self.marker, sink.marker(MarkerPlace::Comment, &key, value));
        } else if let Some(id) = trace::trace_id(&key, value) {
            self.mark(Mark::Trace(trace::fingerprint(salt, id)));
        }
    }

    /// Tells what was noted as marks of a request, at most `room` of them.
    pub(crate) fn tell(&self, request: u64, room: &mut usize, sink: &mut dyn Sink) {
        for mark in self.marks.iter().take(*room) {
            sink.mark(request, Side::Client, *mark);
        }
        *room = room.saturating_sub(self.marks.len());
    }

    /// Bytes held beyond the struct itself.
    pub(crate) fn memory(&self) -> usize {
        if self.marks.spilled() { self.marks.capacity() * size_of::<Mark>() } else { 0 }
    }
}

/// Two markers of one statement: they agree, or nobody can read them.
pub(crate) fn both(a: Claim, b: Claim) -> Claim {
    match (a, b) {
        (Claim::Neutral, other) | (other, Claim::Neutral) => other,
        (a, b) if a == b => a,
        _ => Claim::Unreadable,
    }
}

fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, after)) = rest.split_first() {
        let digit = |b: &u8| char::from(*b).to_digit(16);
        match (b, after) {
            (b'%', [x, y, ..]) if digit(x).is_some() && digit(y).is_some() => {
                let n = digit(x).unwrap_or(0) * 16 + digit(y).unwrap_or(0);
                out.push(u8::try_from(n).unwrap_or(b' '));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(b);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::Told;
    use crate::model::TenantId;

    /// Takes the length of a tenant's name for its number.
    fn listener() -> Told {
        let marker = |_, name: &str, value: &str| {
            if name == "tenant" { Claim::Tenant(TenantId(value.len() as u32)) } else { Claim::Neutral }
        };
        Told::default().marking(marker)
    }

    #[test]
    fn comments_are_read_at_either_end_only() {
        let salt = Salt(1, 2);
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let note = |text: String| {
            let mut n = Noted::default();
            n.comments(salt, text.as_bytes(), &mut listener().sink());
            n
        };
        let wanted = Mark::Trace(trace::fingerprint(salt, id));
        for text in [
            format!("SELECT 1 /*a='b',traceparent='00-{id}-00f067aa0ba902b7-01',tenant='acme'*/;"),
            format!("/*traceparent='00-{id}-00f067aa0ba902b7-01',tenant='acm%65'*/ SELECT 1"),
        ] {
            let n = note(text);
            assert_eq!((n.marks.as_slice(), n.marker), (&[wanted][..], Claim::Tenant(TenantId(4))));
        }
        let inside = note(format!("SELECT '/*traceparent=''00-{id}-1-01''*/' FROM t"));
        assert!(inside.marks.is_empty());
        assert_eq!(note("SELECT 1 /*tenant='a'*/ /*x='y'*/".into()).marker, Claim::Neutral);
    }

    #[test]
    fn binary_parameters_are_found_as_they_are_written() {
        let salt = Salt(1, 2);
        let of = |f: &dyn Fn(&mut Noted)| {
            let mut n = Noted::default();
            f(&mut n);
            n.marks.into_vec()
        };
        let text = of(&|n| n.text(salt, b"4711"));
        assert_eq!(of(&|n| n.binary(salt, &4711_i32.to_be_bytes())), text);
        assert_eq!(of(&|n| n.binary(salt, &4711_i64.to_be_bytes())), text);
        let uuid = of(&|n| n.text(salt, b"7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11"));
        let bytes = 0x7f0c_0a52_9a5e_4a0e_8f0e_3d0d_5f2f_9b11_u128.to_be_bytes();
        assert!(of(&|n| n.binary(salt, &bytes)).contains(&uuid[0]));
    }
}
