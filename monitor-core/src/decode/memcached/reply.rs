//! Lines of answers. Source: memcached's `doc/protocol.txt`.

use super::request::token;

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// `VALUE key flags bytes [cas]`: a block follows.
    Value(&'a [u8], u64),
    End,
    Stored,
    /// Nothing was written: `NOT_STORED`, `EXISTS`, `NOT_FOUND`.
    Kept,
    Deleted,
    Touched,
    /// The number that a counter has now.
    Number,
    /// `OK`, `VERSION …`, `RESET`, `BUSY …` and the like.
    Line,
    /// `STAT …` and the like, of which more follow.
    More,
    /// The command was refused.
    Error,
    /// `HD`, and the token that it repeats.
    Done(Option<u64>),
    /// `VA bytes`: a block follows.
    MetaValue(u64, Option<u64>),
    /// `EN`.
    Miss,
    /// `NS`, `EX`, `NF`.
    MetaKept(Option<u64>),
    /// `MN`.
    Nothing,
    /// `ME …`.
    Debug,
}

/// Longest block that an answer has.
const MAX_DATA: u64 = 1 << 30;

/// Reads a line; `None`: no server says that.
pub(super) fn reply(line: &[u8]) -> Option<Reply<'_>> {
    let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty());
    let first = words.next()?;
    let number = |word: Option<&[u8]>| -> Option<u64> {
        std::str::from_utf8(word?).ok()?.parse().ok().filter(|n| *n <= MAX_DATA)
    };
    let flags = words.clone();
    let opaque = || flags.clone().find_map(|w| w.strip_prefix(b"O")).map(token);
    Some(match first {
        b"VALUE" => {
            let key = words.next()?;
            words.next()?;
            Reply::Value(key, number(words.next())?)
        }
        b"END" => Reply::End,
        b"STORED" => Reply::Stored,
        b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" => Reply::Kept,
        b"DELETED" => Reply::Deleted,
        b"TOUCHED" => Reply::Touched,
        b"OK" | b"VERSION" | b"RESET" | b"BUSY" | b"BADCLASS" | b"NOSPARE" | b"NOTFULL" | b"UNSAFE" | b"SAME" => {
            Reply::Line
        }
        b"STAT" | b"ITEM" | b"PREFIX" => Reply::More,
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => Reply::Error,
        b"HD" => Reply::Done(opaque()),
        b"VA" => Reply::MetaValue(number(words.next())?, opaque()),
        b"EN" => Reply::Miss,
        b"NS" | b"EX" | b"NF" => Reply::MetaKept(opaque()),
        b"MN" => Reply::Nothing,
        b"ME" => Reply::Debug,
        _ if first.starts_with(b"key=") => Reply::More,
        _ if first.len() <= 20 && first.iter().all(u8::is_ascii_digit) => Reply::Number,
        _ => return None,
    })
}

/// Whether only this protocol's server begins a line so.
pub(super) fn is_telling(reply: &Reply<'_>) -> bool {
    matches!(
        reply,
        Reply::Value(..) | Reply::Stored | Reply::Deleted | Reply::Touched | Reply::MetaValue(..) | Reply::Kept
    )
}
