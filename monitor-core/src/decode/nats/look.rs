//! Do these bytes begin a connection of NATS, or are they lines of one?

use super::frame::{head, operation};
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// Longest beginning that is waited for.
const OPENING: &[u8] = b"CONNECT {\"";

/// What a connection begins with: the server speaks first, with `INFO {`; a client answers with `CONNECT {`.
pub(crate) fn start(bytes: &[u8]) -> Option<Side> {
    if bytes.starts_with(b"INFO {\"") {
        Some(Side::Server)
    } else if bytes.starts_with(OPENING) || bytes.starts_with(b"CONNECT {}") {
        Some(Side::Client)
    } else {
        None
    }
}

/// Whether the beginning of a connection may still turn out to be that.
pub(crate) fn may_start(bytes: &[u8]) -> bool {
    let is = |text: &[u8]| text.starts_with(bytes);
    !bytes.is_empty() && (is(b"INFO {\"") || (bytes.len() > 7 && is(OPENING)))
}

/// Who speaks in the middle of a connection: a line with a payload that ends as it must.
pub(crate) fn lines(bytes: &[u8]) -> Option<Side> {
    let end = memchr::memchr(b'\n', bytes)?;
    let (line, rest) = bytes.split_at_checked(end + 1)?;
    let line = line.strip_suffix(b"\r\n")?;
    let (op, words) = operation(line);
    let (from, head) = match op {
        "PUB" => (Side::Client, head(words, false, false)?),
        "HPUB" => (Side::Client, head(words, false, true)?),
        "MSG" => (Side::Server, head(words, true, false)?),
        "HMSG" => (Side::Server, head(words, true, true)?),
        _ => return None,
    };
    let total = usize::try_from(head.total).ok()?;
    rest.get(total..)?.starts_with(b"\r\n").then_some(from)
}

/// Whether a segment begins with a line that `from` may send.
pub(super) fn begins(bytes: &[u8], from: Side) -> bool {
    let Some(end) = memchr::memchr(b'\n', bytes) else { return false };
    let Some(line) = bytes.get(..end).and_then(|l| l.strip_suffix(b"\r")) else { return false };
    let (op, words) = operation(line);
    match (from, op) {
        (Side::Client, "PUB") => head(words, false, false).is_some(),
        (Side::Client, "HPUB") => head(words, false, true).is_some(),
        (Side::Server, "MSG") => head(words, true, false).is_some(),
        (Side::Server, "HMSG") => head(words, true, true).is_some(),
        (Side::Client, "SUB" | "UNSUB") => !words.is_empty(),
        (Side::Server, "+OK" | "-ERR" | "INFO") | (_, "PING" | "PONG") => true,
        _ => false,
    }
}

/// What NATS is recognised by.
pub(crate) struct Known;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Nats
    }
    fn starts(&self, bytes: &[u8]) -> Look {
        match start(bytes) {
            Some(from) => Look::Is(from),
            None if may_start(bytes) => Look::NeedMore,
            None => Look::Not,
        }
    }
    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        lines(bytes)
    }
    fn decoder(&self, salt: Salt, mid_stream: bool, _: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_and_whole_messages_are_known() {
        assert_eq!(start(b"INFO {\"server_id\":\"x\"} \r\n"), Some(Side::Server));
        assert_eq!(start(b"CONNECT {\"verbose\":false}\r\n"), Some(Side::Client));
        assert_eq!(start(b"CONNECT host:443 HTTP/1.1\r\n"), None);
        assert!(may_start(b"INF") && may_start(b"CONNECT ") && !may_start(b"CONNECT h") && !may_start(b"CON"));
        assert_eq!(lines(b"PUB a.b 2\r\nhi\r\nPING\r\n"), Some(Side::Client));
        assert_eq!(lines(b"MSG a.b 1 2\r\nhi\r\n"), Some(Side::Server));
        assert_eq!(lines(b"MSG a.b 1 3\r\nhi\r\n"), None);
        assert_eq!(lines(b"PING\r\n"), None);
    }
}
