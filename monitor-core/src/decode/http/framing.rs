//! Where a message's body ends (RFC 9112 §6).

use crate::decode::DecodeError;

use httparse::Header;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Nothing says: none for a request, until the connection closes for a response.
    None,
    /// In a coding that does not tell its end: until the connection closes for a response, never for a request.
    Unending,
}

/// What the headers say. An error where they contradict each other: two ends of a connection that disagree about where
/// a message ends is how requests are smuggled.
pub(super) fn framing(headers: &[Header<'_>]) -> Result<Framing, DecodeError> {
    let mut length: Option<u64> = None;
    let mut chunked = None;
    for h in headers {
        if h.name.eq_ignore_ascii_case("content-length") {
            // A list of equal values is allowed (RFC 9110 §8.6).
            for part in h.value.split(|b| *b == b',') {
                let text = std::str::from_utf8(part).map_err(|_| DecodeError::ContentLength)?.trim();
                if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(DecodeError::ContentLength);
                }
                let n: u64 = text.parse().map_err(|_| DecodeError::ContentLength)?;
                if length.is_some_and(|before| before != n) {
                    return Err(DecodeError::ContentLength);
                }
                length = Some(n);
            }
        } else if h.name.eq_ignore_ascii_case("transfer-encoding") {
            let last = h.value.rsplit(|b| *b == b',').next().unwrap_or_default();
            chunked = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        }
    }
    match (chunked, length) {
        (Some(_), Some(_)) => Err(DecodeError::ConflictingFraming),
        (Some(true), None) => Ok(Framing::Chunked),
        (Some(false), None) => Ok(Framing::Unending),
        (None, None) => Ok(Framing::None),
        (None, Some(n)) => Ok(Framing::Length(n)),
    }
}

/// The same for a response, for which the standard says what holds where the headers contradict each other (RFC 9112
/// §6.3). `None`: nobody can tell where it ends.
pub(super) fn of_response(headers: &[Header<'_>]) -> Option<Framing> {
    match framing(headers) {
        Err(DecodeError::ConflictingFraming) => {
            let coded = |h: &&Header<'_>| h.name.eq_ignore_ascii_case("transfer-encoding");
            let only: Vec<_> = headers.iter().filter(coded).copied().collect();
            framing(&only).ok()
        }
        framing => framing.ok(),
    }
}

/// Longest line with a chunk's size.
const MAX_SIZE_LINE: usize = 256;
/// The same with extensions.
const MAX_EXTENDED: usize = 4 << 10;

/// The size of the next chunk, and how long its line is. `Ok(None)`: the line is not complete.
pub(super) fn chunk_size(bytes: &[u8]) -> Result<Option<(u64, usize)>, DecodeError> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        let extended = bytes.iter().take(MAX_SIZE_LINE).any(|b| *b == b';');
        let longest = if extended { MAX_EXTENDED } else { MAX_SIZE_LINE };
        return if bytes.len() > longest { Err(DecodeError::ChunkSize) } else { Ok(None) };
    };
    let line = bytes.get(..end).unwrap_or_default();
    let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).map_err(|_| DecodeError::ChunkSize)?;
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(DecodeError::ChunkSize);
    }
    u64::from_str_radix(text, 16).map(|n| Some((n, end + 1))).map_err(|_| DecodeError::ChunkSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> Result<Framing, DecodeError> {
        let headers: Vec<_> = headers.iter().map(|(name, v)| Header { name, value: v.as_bytes() }).collect();
        framing(&headers)
    }

    #[test]
    fn lengths_chunks_and_contradictions() {
        assert_eq!(of(&[("Content-Length", "12")]), Ok(Framing::Length(12)));
        assert_eq!(of(&[("Content-Length", "12, 12")]), Ok(Framing::Length(12)));
        assert_eq!(of(&[("Transfer-Encoding", "gzip, Chunked")]), Ok(Framing::Chunked));
        assert_eq!(of(&[("Transfer-Encoding", "gzip")]), Ok(Framing::Unending));
        assert_eq!(of(&[]), Ok(Framing::None));
        for bad in ["+1", "-1", "1x", "", "99999999999999999999"] {
            assert_eq!(of(&[("Content-Length", bad)]), Err(DecodeError::ContentLength), "{bad}");
        }
        assert_eq!(of(&[("Content-Length", "1"), ("content-length", "2")]), Err(DecodeError::ContentLength));
        assert_eq!(
            of(&[("Content-Length", "1"), ("Transfer-Encoding", "chunked")]),
            Err(DecodeError::ConflictingFraming)
        );
        let both = [("Content-Length", "1"), ("Transfer-Encoding", "chunked")];
        let headers: Vec<_> = both.iter().map(|(name, v)| Header { name, value: v.as_bytes() }).collect();
        assert_eq!(of_response(&headers), Some(Framing::Chunked));
        assert_eq!(of_response(&[Header { name: "Content-Length", value: b"x" }]), None);
    }

    #[test]
    fn sizes_of_chunks() {
        assert_eq!(chunk_size(b"1a;name=value\r\nrest"), Ok(Some((26, 15))));
        assert_eq!(chunk_size(b"0\r\n"), Ok(Some((0, 3))));
        assert_eq!(chunk_size(b"1a"), Ok(None));
        assert_eq!(chunk_size(format!("1a;{}", "x".repeat(1000)).as_bytes()), Ok(None));
        assert_eq!(chunk_size(b"xyz\r\n"), Err(DecodeError::ChunkSize));
        assert_eq!(chunk_size(b"\r\n"), Err(DecodeError::ChunkSize));
        assert_eq!(chunk_size(&[b'1'; 300]), Err(DecodeError::ChunkSize));
    }
}
