//! Do these bytes begin a request or a response?

use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};
/// Methods of RFC 9110, PATCH (RFC 5789) and WebDAV's commonest.
const METHODS: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
    b"PROPFIND ",
    b"REPORT ",
];

/// Most bytes of line ends before a request.
const MAX_ENDS: usize = 8;
/// Longest request line that is looked through.
const MAX_LINE: usize = 8192;
/// From here on a line is taken for a request line without its end.
const LONG_LINE: usize = 1024;

/// Longest method that is not known here.
const MAX_METHOD: usize = 24;

/// A request line: method, target, `HTTP/1.x`.
pub(crate) fn request(bytes: &[u8]) -> Look {
    // Line ends before a request are to be passed over (RFC 9112 §2.2).
    let ends = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let bytes = bytes.get(ends.min(MAX_ENDS)..).unwrap_or_default();
    if bytes.is_empty() {
        return if ends > 0 { Look::NeedMore } else { Look::Not };
    }
    let begins = |method: &&&[u8]| bytes.starts_with(method) || method.starts_with(bytes);
    let Some(method) = METHODS.iter().find(begins) else {
        return if other_method(bytes) { Look::Is(Side::Client) } else { Look::Not };
    };
    if bytes.len() <= method.len() {
        return Look::NeedMore;
    }
    let Some(end) = memchr::memchr(b'\n', bytes.get(..MAX_LINE.min(bytes.len())).unwrap_or_default()) else {
        let target = bytes.get(method.len()..).unwrap_or_default();
        let is_target = target.starts_with(b"/") || target.starts_with(b"http");
        return match bytes.len() {
            // Nobody else begins so, and goes on for so long without a blank or a line end.
            LONG_LINE.. if is_target && target.iter().all(|b| b.is_ascii_graphic()) => Look::Is(Side::Client),
            MAX_LINE.. => Look::Not,
            _ => Look::NeedMore,
        };
    };
    let line = bytes.get(..end).unwrap_or_default().trim_ascii_end();
    if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") { Look::Is(Side::Client) } else { Look::Not }
}

/// A whole request line with a method that is not known here (`PURGE`, `MKCOL`, whatever a service has made up).
fn other_method(bytes: &[u8]) -> bool {
    let Some(space) = memchr::memchr(b' ', bytes.get(..MAX_METHOD.min(bytes.len())).unwrap_or_default()) else {
        return false;
    };
    let (method, rest) = bytes.split_at_checked(space).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', rest.get(..MAX_LINE.min(rest.len())).unwrap_or_default()) else {
        return false;
    };
    let line = rest.get(1..end).unwrap_or_default().trim_ascii_end();
    let Some(target) = line.strip_suffix(b" HTTP/1.1").or_else(|| line.strip_suffix(b" HTTP/1.0")) else {
        return false;
    };
    !method.is_empty()
        && method.iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'))
        && (target.starts_with(b"/") || target.starts_with(b"http") || target == b"*")
}

/// A status line: `HTTP/1.x`, three digits.
pub(crate) fn response(bytes: &[u8]) -> Look {
    const START: &[u8] = b"HTTP/1.";
    if !bytes.starts_with(START) {
        return if START.starts_with(bytes) { Look::NeedMore } else { Look::Not };
    }
    match bytes {
        [_, _, _, _, _, _, _, b'0' | b'1', b' ', a, b, c, ..] => {
            if [a, b, c].iter().all(|d| d.is_ascii_digit()) {
                Look::Is(Side::Server)
            } else {
                Look::Not
            }
        }
        short if short.len() < 12 => Look::NeedMore,
        _ => Look::Not,
    }
}

/// What HTTP is recognised by.
pub(crate) struct Known;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Http
    }
    fn starts(&self, bytes: &[u8]) -> Look {
        match request(bytes) {
            Look::Not => response(bytes),
            look => look,
        }
    }
    fn joins(&self, bytes: &[u8]) -> Look {
        self.starts(bytes)
    }
    fn decoder(&self, salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream, &shared.http, Some(shared.on_http(salt)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_known_when_they_are_whole() {
        let line = b"GET /a?b HTTP/1.1\r\n";
        assert_eq!(request(line), Look::Is(Side::Client));
        for cut in 1..line.len() {
            assert_eq!(request(&line[..cut]), Look::NeedMore, "{cut}");
        }
        assert_eq!(request(b"\r\nGET / HTTP/1.1\r\n"), Look::Is(Side::Client));
        assert_eq!(request(b"PURGE /a HTTP/1.1\r\n"), Look::Is(Side::Client));
        assert_eq!(request(b"PURGE /a HTTP/1"), Look::Not, "a method that is not known is not waited for");
        assert_eq!(request(b"purge /a HTTP/1.1\r\n"), Look::Not);
        assert_eq!(request(b"GET / HTTP/2\r\n"), Look::Not);
        assert_eq!(request(b"SELECT 1\r\n"), Look::Not);
        assert_eq!(request(b"GET key\r\n"), Look::Not, "Redis speaks so, too");
        assert_eq!(request(format!("GET /{}", "x".repeat(2000)).as_bytes()), Look::Is(Side::Client));
        assert_eq!(request(format!("GET /{} {}", "x".repeat(500), "y".repeat(9000)).as_bytes()), Look::Not);
        assert_eq!(response(b"HTTP/1.1 200 OK\r\n"), Look::Is(Side::Server));
        assert_eq!(response(b"HTTP/1.1 2"), Look::NeedMore);
        assert_eq!(response(b"HTTP/1.1 abc"), Look::Not);
        assert_eq!(response(b"HTTP/2 200"), Look::Not);
    }
}
