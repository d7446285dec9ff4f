//! Commands as clients send them: arrays of bulk strings, or one line (RESP, "Inline commands").

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::decode::DecodeError;
use crate::decode::head::Head;
use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Longest line, in bytes (the server's own limit for inline commands).
const MAX_LINE: usize = 64 << 10;
/// Most arguments of one command (the server's own limit).
const MAX_ARGS: u64 = 1 << 20;
/// Longest bulk string (the server's own limit, `proto-max-bulk-len`).
const MAX_BULK: u64 = 512 << 20;
/// Bytes of arguments that are kept.
const KEPT: usize = 4 << 10;
/// Bytes of a script that are kept.
const KEPT_SCRIPT: usize = 128;
/// Arguments that are kept.
const KEPT_ARGS: usize = 256;

/// A whole command.
#[derive(Debug, Default)]
pub(super) struct Command {
    /// Its first arguments, as far as they are kept, one behind the other.
    bytes: Vec<u8>,
    /// Where each of them ends, and whether all of it is there.
    ends: Vec<(usize, bool)>,
    /// Fingerprints of its first arguments, however long.
    prints: Vec<Option<Fingerprint>>,
    /// How many it has.
    pub(super) n_args: u64,
    /// Hash over all of them; `None` if something was missing.
    pub(super) print: Option<Fingerprint>,
}

impl Command {
    /// How many arguments are kept.
    pub(super) fn n_kept(&self) -> usize {
        self.ends.len()
    }

    /// An argument as far as it is kept, and whether that is all of it.
    pub(super) fn kept(&self, i: usize) -> Option<(&[u8], bool)> {
        let (end, all) = *self.ends.get(i)?;
        let start = i.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |(end, _)| *end);
        Some((self.bytes.get(start..end)?, all))
    }

    /// An argument of which all is kept.
    pub(super) fn whole(&self, i: usize) -> Option<&[u8]> {
        self.kept(i).filter(|(_, all)| *all).map(|(bytes, _)| bytes)
    }

    /// The fingerprint of an argument, however long; `None` if its beginning was missing.
    pub(super) fn print_of(&self, i: usize) -> Option<Fingerprint> {
        self.prints.get(i).copied().flatten()
    }

    fn begin(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.prints.clear();
        self.n_args = 0;
        self.print = None;
    }

    fn argument(&mut self) {
        if self.ends.len() < KEPT_ARGS {
            self.ends.push((self.bytes.len(), true));
        }
    }

    /// More of the last argument, at most so many bytes; how many it was.
    fn piece(&mut self, bytes: &[u8], most: usize) -> usize {
        let Some((end, all)) = self.ends.last_mut() else { return 0 };
        let kept = most.min(bytes.len());
        self.bytes.extend_from_slice(bytes.get(..kept).unwrap_or_default());
        *end = self.bytes.len();
        *all &= kept == bytes.len();
        kept
    }

    fn missing(&mut self) {
        if let Some((_, all)) = self.ends.last_mut() {
            *all = false;
        }
    }
}

/// Who hears commands, and their arguments as they come where it wants them.
pub(super) trait Hears {
    /// A command of this name comes: whether its arguments are wanted.
    fn wants(&mut self, name: &[u8]) -> bool {
        let _ = name;
        false
    }

    /// More of argument `index`.
    fn piece(&mut self, index: u64, bytes: &[u8]) {
        let _ = (index, bytes);
    }

    /// `n` bytes of the argument are missing here.
    fn missing(&mut self, n: u64) {
        let _ = n;
    }

    /// Argument `index` has ended.
    fn ends(&mut self, index: u64) {
        let _ = index;
    }

    /// A command is complete.
    fn command(&mut self, command: &Command);
}

impl<F: FnMut(&Command)> Hears for F {
    fn command(&mut self, command: &Command) {
        self(command);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At a command's beginning.
    Start,
    /// So many bulk strings are to come.
    Args(u64),
    /// So many bytes of a bulk string, then the rest of the arguments.
    Bulk(u64, u64),
    /// The line end behind one.
    BulkEnd(u64),
}

/// Reads commands however their bytes are cut.
#[derive(Debug)]
pub(super) struct Commands {
    salt: Salt,
    state: State,
    line: Vec<u8>,
    command: Command,
    hasher: SipHasher13,
    /// Of the argument that is being read.
    head: Head,
    whole: bool,
    kept: usize,
    /// Arguments begun.
    begun: u64,
    /// Whether they are wanted as they come.
    wanted: bool,
    is_script: bool,
}

impl Commands {
    pub(super) fn new(salt: Salt) -> Self {
        Self {
            salt,
            state: State::Start,
            line: Vec::new(),
            command: Command::default(),
            hasher: salt.hasher(),
            head: Head::new(salt),
            whole: true,
            kept: 0,
            begun: 0,
            wanted: false,
            is_script: false,
        }
    }

    /// Forgets what is not whole.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.salt);
    }

    /// More bytes: each whole command, or an error after which nothing is known.
    pub(super) fn feed(&mut self, mut bytes: &[u8], each: &mut dyn Hears) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            match self.state {
                State::Bulk(left, rest) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (piece, after) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
                    self.piece(piece, each);
                    bytes = after;
                    let left = left - n as u64;
                    self.state = if left == 0 { State::BulkEnd(rest) } else { State::Bulk(left, rest) };
                }
                State::BulkEnd(rest) => match bytes {
                    [b'\r', after @ ..] if self.line.is_empty() => {
                        self.line.push(b'\r');
                        bytes = after;
                    }
                    [b'\n', after @ ..] if self.line == [b'\r'] => {
                        self.line.clear();
                        bytes = after;
                        self.next(rest, each);
                    }
                    _ => return Err(DecodeError::BulkEnd),
                },
                State::Start | State::Args(_) => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.line.extend_from_slice(bytes);
                        return if self.line.len() > MAX_LINE { Err(DecodeError::LineTooLong) } else { Ok(()) };
                    };
                    let (head, after) = bytes.split_at_checked(end + 1).unwrap_or((bytes, &[]));
                    bytes = after;
                    if self.line.is_empty() {
                        self.take_line(head, each)?;
                    } else {
                        let mut line = std::mem::take(&mut self.line);
                        line.extend_from_slice(head);
                        self.take_line(&line, each)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// `n` bytes are missing. Whether reading can go on.
    pub(super) fn miss(&mut self, n: u64, each: &mut dyn Hears) -> bool {
        match self.state {
            State::Bulk(left, rest) if n <= left => {
                self.whole = false;
                self.head.missing(n);
                if self.wanted {
                    each.missing(n);
                }
                self.command.missing();
                self.state = if n == left { State::BulkEnd(rest) } else { State::Bulk(left - n, rest) };
                true
            }
            _ => false,
        }
    }

    fn take_line(&mut self, line: &[u8], each: &mut dyn Hears) -> Result<(), DecodeError> {
        let line = line.trim_ascii_end();
        match (self.state, line.split_first()) {
            (State::Start, None) => Ok(()),
            (State::Start, Some((b'*', n))) => {
                let n = number(n).ok_or(DecodeError::ArrayLength)?;
                if n > MAX_ARGS {
                    return Err(DecodeError::ArrayLength);
                }
                self.begin();
                self.command.n_args = n;
                self.next_of(n, each);
                Ok(())
            }
            (State::Start, Some(_)) => {
                let text = std::str::from_utf8(line).map_err(|_| DecodeError::Inline)?;
                if text.chars().any(char::is_control) {
                    return Err(DecodeError::Inline);
                }
                self.begin();
                for word in text.split_ascii_whitespace() {
                    self.command.n_args += 1;
                    self.argument();
                    self.piece(word.trim_matches(['"', '\'']).as_bytes(), each);
                    self.argument_ends(each);
                }
                self.end(each);
                Ok(())
            }
            (State::Args(left), Some((b'$', n))) => {
                let n = number(n).filter(|n| *n <= MAX_BULK).ok_or(DecodeError::BulkLength)?;
                self.argument();
                self.state = if n == 0 { State::BulkEnd(left - 1) } else { State::Bulk(n, left - 1) };
                Ok(())
            }
            _ => Err(DecodeError::BulkExpected),
        }
    }

    fn begin(&mut self) {
        self.command.begin();
        self.hasher = self.salt.hasher();
        self.whole = true;
        self.kept = 0;
        self.begun = 0;
        self.wanted = false;
        self.is_script = false;
    }

    fn argument(&mut self) {
        self.hasher.write_u8(0xff);
        self.begun += 1;
        self.head = Head::new(self.salt);
        self.command.argument();
    }

    fn argument_ends(&mut self, each: &mut dyn Hears) {
        if self.command.prints.len() < KEPT_ARGS {
            let print = self.head.print();
            self.command.prints.push(print);
        }
        if self.begun == 1 {
            let name = self.command.kept(0);
            self.is_script = name.is_some_and(|(n, _)| n.get(..4).is_some_and(|n| n.eq_ignore_ascii_case(b"EVAL")));
            self.wanted = self.command.whole(0).is_some_and(|name| each.wants(name));
        } else if self.wanted {
            each.ends(self.begun.saturating_sub(1));
        }
    }

    fn piece(&mut self, bytes: &[u8], each: &mut dyn Hears) {
        self.hasher.write(bytes);
        self.head.piece(bytes);
        if self.wanted {
            each.piece(self.begun.saturating_sub(1), bytes);
        }
        // Of those that are not kept, nothing is added to the last one that is.
        if self.begun > self.command.n_kept() as u64 {
            return;
        }
        // A script's text is no use, and must not crowd out its keys.
        let most = if self.begun == 2 && self.is_script { KEPT_SCRIPT } else { KEPT };
        self.kept += self.command.piece(bytes, most.saturating_sub(self.kept));
    }

    fn next(&mut self, rest: u64, each: &mut dyn Hears) {
        self.argument_ends(each);
        self.next_of(rest, each);
    }

    fn next_of(&mut self, left: u64, each: &mut dyn Hears) {
        if left == 0 {
            self.end(each);
        } else {
            self.state = State::Args(left);
        }
    }

    fn end(&mut self, each: &mut dyn Hears) {
        self.state = State::Start;
        self.command.print = self.whole.then(|| Fingerprint(self.hasher.finish()));
        // An empty array is no command.
        if self.command.n_args > 0 {
            each.command(&self.command);
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.line.capacity()
            + self.command.bytes.capacity()
            + self.command.ends.capacity() * size_of::<(usize, bool)>()
            + self.command.prints.capacity() * size_of::<Option<Fingerprint>>()
    }
}

/// A decimal number without a sign.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    (!text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<Vec<String>>, DecodeError> {
        let mut c = Commands::new(Salt(1, 2));
        let mut out = Vec::new();
        for piece in pieces {
            c.feed(piece, &mut |command: &Command| {
                let text = |i| String::from_utf8_lossy(command.whole(i).unwrap()).into_owned();
                out.push((0..command.n_kept()).map(text).collect());
            })?;
        }
        Ok(out)
    }

    #[test]
    fn commands_are_the_same_however_they_are_cut() {
        let text = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\nPING hello\r\n*1\r\n$4\r\nQUIT\r\n";
        let whole = read(&[text]).unwrap();
        assert_eq!(whole, [vec!["SET", "k", ""], vec!["PING", "hello"], vec!["QUIT"]]);
        for cut in 0..=text.len() {
            assert_eq!(read(&[&text[..cut], &text[cut..]]).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for bad in [&b"*x\r\n"[..], b"*1\r\n+OK\r\n", b"*1\r\n$x\r\n", b"*1\r\n$1\r\nab\r\n", b"\x16\x03\x01\n"] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
    }
}
