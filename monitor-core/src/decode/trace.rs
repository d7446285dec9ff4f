//! Ids of traces and requests, as headers and SQL comments carry them: W3C Trace Context, B3, AWS, and plain request
//! ids. The same id gives the same fingerprint wherever it stands.

use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Shortest id that is worth following, in characters.
const MIN: usize = 8;
/// Longest.
const MAX: usize = 128;

/// The id inside the value of a header or comment key called `name` (lower case). `None` where there is none: too short,
/// all one character (the all-zero id means "invalid"), or without a digit (`undefined`, `unknown`: what a program says
/// that has none, and any number of requests have in common).
pub fn trace_id<'v>(name: &str, value: &'v str) -> Option<&'v str> {
    let value = value.trim();
    let id = match name {
        // version-traceid-spanid-flags (W3C Trace Context §3.2)
        "traceparent" => value.split('-').nth(1)?,
        // traceid-spanid-sampled-parent
        "b3" => value.split('-').next()?,
        // Root=1-…;Parent=…
        "x-amzn-trace-id" => value.split(';').find_map(|part| part.trim().strip_prefix("Root="))?,
        _ => value,
    };
    let first = id.chars().next()?;
    let is_one = id.chars().any(|c| c != first) && id.bytes().any(|b| b.is_ascii_digit());
    ((MIN..=MAX).contains(&id.len()) && is_one).then_some(id)
}

/// A `traceparent` of what OpenCensus sends in bytes: version 0, then fields by their number: 0, the trace's id of 16
/// bytes; 1, the span's of 8; 2, flags
/// (<https://github.com/census-instrumentation/opencensus-specs/blob/master/encodings/BinaryEncoding.md>).
pub(super) fn binary(bytes: &[u8]) -> Option<String> {
    use std::fmt::Write;
    let (trace, rest) = bytes.strip_prefix(&[0, 0])?.split_first_chunk::<16>()?;
    let span = rest.strip_prefix(&[1])?.first_chunk::<8>()?;
    let mut out = String::with_capacity(55);
    let hex = |out: &mut String, bytes: &[u8]| bytes.iter().try_for_each(|b| write!(out, "{b:02x}"));
    out.push_str("00-");
    hex(&mut out, trace).ok()?;
    out.push('-');
    hex(&mut out, span).ok()?;
    out.push_str("-00");
    Some(out)
}

/// The fingerprint of an id, whatever its case.
pub fn fingerprint(salt: Salt, id: &str) -> Fingerprint {
    salt.fingerprint(id.to_ascii_lowercase().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_every_notation() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id("traceparent", &format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        assert_eq!(trace_id("b3", &format!("{id}-00f067aa0ba902b7-1")), Some(id));
        assert_eq!(trace_id("x-request-id", " req-12345 "), Some("req-12345"));
        assert_eq!(trace_id("x-amzn-trace-id", "Self=1;Root=1-67891233-abcdef"), Some("1-67891233-abcdef"));
        let bytes = b"\x00\x00\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36\x01\x00\xf0\x67\xaa\x0b\xa9\x02\xb7\x02\x01";
        assert_eq!(binary(bytes), Some(format!("00-{id}-00f067aa0ba902b7-00")));
        assert_eq!((binary(&bytes[..20]), binary(b""), binary(&bytes[1..])), (None, None, None));
        assert_eq!(trace_id("traceparent", "00-00000000000000000000000000000000-1-01"), None);
        assert_eq!(trace_id("x-request-id", "7"), None);
        assert_eq!(trace_id("x-request-id", "undefined"), None);
        assert_eq!(
            fingerprint(crate::model::Salt(1, 2), "ABCDEF01"),
            fingerprint(crate::model::Salt(1, 2), "abcdef01")
        );
    }
}
