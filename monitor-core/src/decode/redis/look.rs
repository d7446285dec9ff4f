//! Do these bytes begin commands of Redis, or replies?

use super::command::number;
use super::commands;
use super::reply::{Replies, Reply};
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// Longest word that is taken for the name of a command that is not known here.
const MAX_WORD: usize = 64;
/// Longest line with the length of something, its type and end included.
const MAX_NUMBER: usize = 24;

/// A command as an array, whose first word is a command's name. Inline commands are not enough to tell.
pub(crate) fn request(bytes: &[u8]) -> Look {
    let mut parts = bytes.splitn(4, |b| *b == b'\n');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if first.first().is_some_and(|b| *b != b'*') || first.len() > 12 {
        return Look::Not;
    }
    let digits = |line: &[u8]| line.iter().skip(1).all(|b| b.is_ascii_digit() || *b == b'\r');
    if !digits(first) {
        return Look::Not;
    }
    let Some(second) = second else { return Look::NeedMore };
    if second.first().is_some_and(|b| *b != b'$') || !digits(second) {
        return Look::Not;
    }
    let (Some(third), Some(rest)) = (third, parts.next()) else { return Look::NeedMore };
    let name = third.strip_suffix(b"\r").unwrap_or(third);
    let fits = number(second.get(1..).unwrap_or_default().trim_ascii_end()).is_some_and(|n| n == name.len() as u64);
    let upper = String::from_utf8_lossy(name).to_ascii_uppercase();
    if !fits || commands::known(&upper).is_none() {
        Look::Not
    } else if first.starts_with(b"*3") && name.ends_with(b"subscribe") {
        subscribing(rest)
    } else {
        Look::Is(Side::Client)
    }
}

/// An array whose first element is a word: a command, whether this server's commands are known here or not (`SENTINEL`,
/// `JSON.SET`, whatever a module brings), or a reply of that form. Who says it must be known from elsewhere.
pub(crate) fn array(bytes: &[u8]) -> bool {
    let line = |b: u8, bytes: &[u8]| -> Option<(u64, usize)> {
        let end = memchr::memchr(b'\n', bytes.get(..MAX_NUMBER.min(bytes.len()))?)?;
        let digits = bytes.get(..end)?.strip_prefix(&[b])?.strip_suffix(b"\r")?;
        Some((number(digits)?, end + 1))
    };
    let word = || {
        let (n, at) = line(b'*', bytes)?;
        let rest = bytes.get(at..).filter(|_| n > 0)?;
        let (len, at) = line(b'$', rest)?;
        let (word, end) = rest.get(at..)?.split_at_checked(usize::try_from(len).ok().filter(|n| *n <= MAX_WORD)?)?;
        end.starts_with(b"\r\n").then_some(word)
    };
    word().is_some_and(|word| {
        word.first().is_some_and(u8::is_ascii_alphabetic)
            && word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    })
}

/// Who says these bytes, given that they are of Redis' protocol.
pub(crate) fn side(bytes: &[u8]) -> Option<Side> {
    match bytes {
        [b'+' | b'-' | b':' | b'$' | b'%' | b'>' | b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'~', ..] => {
            Some(Side::Server)
        }
        _ if request(bytes) == Look::Is(Side::Client) => Some(Side::Client),
        _ => None,
    }
}

/// What follows `subscribe` in lower case: the server's word for it has the channel and a number, a command two channels.
fn subscribing(rest: &[u8]) -> Look {
    let Some(end) = memchr::memchr(b'\n', rest) else { return Look::NeedMore };
    let (line, rest) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
    let Some(n) = line.strip_prefix(b"$").and_then(|n| number(n.trim_ascii_end())) else { return Look::Not };
    let third = usize::try_from(n).ok().and_then(|n| n.checked_add(2)).and_then(|n| rest.get(n));
    match third {
        Some(b'$') => Look::Is(Side::Client),
        Some(_) => Look::Not,
        None => Look::NeedMore,
    }
}

/// Whole replies, up to the end of a segment, of which at least one is more than a bare word.
pub(crate) fn replies(bytes: &[u8]) -> bool {
    // A NATS server says that, too, and complains with quotes.
    let mut first = bytes;
    while let Some(rest) = first.strip_prefix(b"+OK\r\n") {
        first = rest;
    }
    let telling = match first {
        [b'$' | b'*' | b':' | b'%' | b'>', b'0'..=b'9' | b'-', ..] => true,
        [b'+', rest @ ..] => ["PONG\r\n", "QUEUED\r\n"].iter().any(|w| rest.starts_with(w.as_bytes())),
        [b'-', rest @ ..] if !rest.starts_with(b"ERR '") => {
            ["ERR ", "WRONGPASS ", "NOAUTH ", "MOVED ", "WRONGTYPE "].iter().any(|w| rest.starts_with(w.as_bytes()))
        }
        _ => false,
    };
    let mut replies = Replies::new(Salt(0, 0));
    let mut n = 0;
    telling && replies.feed(bytes, &mut |_: Reply| n += 1).is_ok() && n > 0 && replies.at_start()
}

/// What Redis is recognised by.
pub(crate) struct Known;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::Redis
    }
    fn starts(&self, bytes: &[u8]) -> Look {
        request(bytes)
    }
    fn joins(&self, bytes: &[u8]) -> Look {
        request(bytes)
    }
    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        replies(bytes).then_some(Side::Server)
    }
    fn either(&self, bytes: &[u8], _: bool) -> bool {
        array(bytes)
    }
    fn side(&self, bytes: &[u8]) -> Option<Side> {
        side(bytes)
    }
    fn decoder(&self, salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream, &shared.redis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_known_by_their_names() {
        let ping = b"*1\r\n$4\r\nPING\r\n";
        assert_eq!(request(ping), Look::Is(Side::Client));
        for cut in 1..ping.len() - 1 {
            assert_eq!(request(&ping[..cut]), Look::NeedMore, "{cut}");
        }
        assert_eq!(request(b"*1\r\n$4\r\nNOPE\r\n"), Look::Not);
        assert_eq!(request(b"GET / HTTP/1.1\r\n"), Look::Not);
        assert!(
            replies(b"$5\r\nhello\r\n")
                && replies(b"+OK\r\n:1\r\n")
                && !replies(b"+hello\r\n")
                && !replies(b"$5\r\nhe")
        );
        assert_eq!(request(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"), Look::Not);
        assert_eq!(request(b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"), Look::Not);
        assert_eq!(request(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nb\r\n"), Look::Is(Side::Client));
        assert!(array(b"*2\r\n$8\r\nSENTINEL\r\n$7\r\nmasters\r\n") && array(b"*3\r\n$8\r\nJSON.SET\r\n"));
        for other in [
            &b"*2\r\n$8\r\nSENTINE\r\n"[..],
            b"*2\r\n$8\r\nSENT NEL\r\n",
            b"*0\r\n$4\r\nNOPE\r\n",
            b"*-1\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$4\r\n{\"a\r\n",
            b"*1\n$4\nNOPE\n",
            b"* 1 FETCH",
        ] {
            assert!(!array(other), "{}", String::from_utf8_lossy(other));
        }
        assert_eq!(side(b":1\r\n"), Some(Side::Server));
        assert_eq!(side(ping), Some(Side::Client));
        assert_eq!(side(b"*1\r\n$4\r\nNOPE\r\n"), None);
        // Of NATS as well as of Redis.
        assert!(!replies(b"+OK\r\n+OK\r\n") && !replies(b"-ERR 'Authorization Violation'\r\n"));
    }
}
