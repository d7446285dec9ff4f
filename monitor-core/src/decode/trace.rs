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
        assert_eq!(trace_id("traceparent", "00-00000000000000000000000000000000-1-01"), None);
        assert_eq!(trace_id("x-request-id", "7"), None);
        assert_eq!(trace_id("x-request-id", "undefined"), None);
        assert_eq!(
            fingerprint(crate::model::Salt(1, 2), "ABCDEF01"),
            fingerprint(crate::model::Salt(1, 2), "abcdef01")
        );
    }
}
