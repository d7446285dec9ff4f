//! Lines, and the payload that some of them announce (docs.nats.io, "Client protocol").
//!
//! Memory: one line (64 KiB: a server's list of peers, a client's token).

use crate::decode::DecodeError;

/// Longest line, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Longest payload (the server's own limit is 64 MiB).
const MAX_PAYLOAD: u64 = 64 << 20;

/// What follows a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next line.
    Line,
    /// Headers and payload of so many bytes in all.
    Payload(u64),
}

/// What one direction says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A line, without its end. Its reader says what follows it ([`Frames::follow`]).
    Line(&'a [u8]),
    /// More of the payload, headers included.
    Piece(&'a [u8]),
    /// The payload has ended.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Line,
    Payload(u64),
    /// The line end behind the payload, so many bytes of it seen.
    End(u8),
}

/// Reads one direction however its bytes are cut.
#[derive(Debug, Default)]
pub(super) struct Frames {
    state: State,
    line: Vec<u8>,
    /// The line that is held was read.
    was_read: bool,
}

impl Frames {
    /// The next frame in `bytes`, which are moved on past what was read; an error after which nothing is known.
    pub(super) fn next<'a, 'i: 'a>(&'a mut self, bytes: &mut &'i [u8]) -> Result<Option<Frame<'a>>, DecodeError> {
        if std::mem::take(&mut self.was_read) {
            self.line.clear();
        }
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                State::Payload(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (piece, after) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
                    *bytes = after;
                    self.state = if left == n as u64 { State::End(0) } else { State::Payload(left - n as u64) };
                    return Ok(Some(Frame::Piece(piece)));
                }
                State::End(seen) => {
                    *bytes = rest;
                    match (seen, first) {
                        (0, b'\r') => self.state = State::End(1),
                        (1, b'\n') => {
                            self.state = State::Line;
                            return Ok(Some(Frame::End));
                        }
                        _ => return Err(DecodeError::PayloadEnd),
                    }
                }
                State::Line => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.line.extend_from_slice(bytes);
                        *bytes = &[];
                        return if self.line.len() > MAX_LINE { Err(DecodeError::LineTooLong) } else { Ok(None) };
                    };
                    let (line, after) = bytes.split_at_checked(end + 1).unwrap_or((bytes, &[]));
                    *bytes = after;
                    if self.line.is_empty() {
                        return Ok(Some(Frame::Line(line.trim_ascii_end())));
                    }
                    self.line.extend_from_slice(line);
                    self.was_read = true;
                    return Ok(Some(Frame::Line(self.line.trim_ascii_end())));
                }
            }
        }
        Ok(None)
    }

    /// What follows the frame that was read.
    pub(super) fn follow(&mut self, after: After) -> Result<(), DecodeError> {
        match after {
            After::Line => {}
            After::Payload(n) if n > MAX_PAYLOAD => return Err(DecodeError::PayloadLength),
            After::Payload(0) => self.state = State::End(0),
            After::Payload(n) => self.state = State::Payload(n),
        }
        Ok(())
    }

    /// `n` bytes are missing. Whether they are of a payload, and reading can go on.
    pub(super) fn miss(&mut self, n: u64) -> bool {
        match self.state {
            State::Payload(left) if n <= left => {
                self.state = if n == left { State::End(0) } else { State::Payload(left - n) };
                true
            }
            _ => false,
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.line.capacity()
    }
}

/// A line's words. An empty reply subject leaves two blanks, which count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) subject: &'a [u8],
    pub(super) reply: &'a [u8],
    /// Bytes of headers, and of headers and payload.
    pub(super) headers: u64,
    pub(super) total: u64,
}

/// The words behind `PUB`, `HPUB`, `MSG` or `HMSG`. `sid`: a subscription's number stands behind the subject;
/// `headers`: their length stands before the whole one.
pub(super) fn head(rest: &[u8], sid: bool, headers: bool) -> Option<Head<'_>> {
    let mut words = rest.split(|b| matches!(b, b' ' | b'\t')).filter(|w| !w.is_empty());
    let mut all = [&[][..]; 5];
    let mut n = 0;
    for word in words.by_ref() {
        *all.get_mut(n)? = word;
        n += 1;
    }
    let fixed = 2 + usize::from(sid) + usize::from(headers);
    let reply_at = 1 + usize::from(sid);
    let reply = match n.checked_sub(fixed)? {
        0 => &[][..],
        1 => *all.get(reply_at)?,
        _ => return None,
    };
    let total = number(all.get(n.checked_sub(1)?)?)?;
    let headers = if headers { number(all.get(n.checked_sub(2)?)?)? } else { 0 };
    (headers <= total).then_some(Head { subject: all.first()?, reply, headers, total })
}

/// A decimal number without a sign.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    (!text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The operation of a line, in upper case as far as it is one, and what stands behind it.
pub(super) fn operation(line: &[u8]) -> (&'static str, &[u8]) {
    const KNOWN: &[&str] =
        &["PUB", "HPUB", "MSG", "HMSG", "PING", "PONG", "SUB", "UNSUB", "+OK", "-ERR", "CONNECT", "INFO"];
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    let known = KNOWN.iter().find(|k| k.as_bytes().eq_ignore_ascii_case(word));
    (known.copied().unwrap_or_default(), rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_by_their_number() {
        let msg = head(b"jobs.mail 12 $JS.ACK.a 43", true, false).unwrap();
        assert_eq!((msg.subject, msg.reply, msg.total), (&b"jobs.mail"[..], &b"$JS.ACK.a"[..], 43));
        assert_eq!(head(b"jobs 1  5", true, false).unwrap().reply, b"");
        let hpub = head(b"a _INBOX.x 0 38", false, true).unwrap();
        assert_eq!((hpub.headers, hpub.total), (0, 38));
        for bad in [&b"a"[..], b"a b c d", b"a x", b"a 40 38"] {
            assert_eq!(head(bad, false, bad.starts_with(b"a 40")), None, "{bad:?}");
        }
    }
}
