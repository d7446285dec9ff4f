//! The packets that end an answer: OK, ERR and EOF. Source: MySQL internals, "Generic Response Packets".

use super::wire::{lenenc, lenenc_bytes};
use crate::decode::wire::Reader;

/// A transaction is open.
pub(super) const IN_TRANSACTION: u16 = 1;
/// Each statement is a transaction of its own.
pub(super) const AUTOCOMMIT: u16 = 1 << 1;
/// Another result follows.
const MORE_RESULTS: u16 = 1 << 3;
/// A backslash does not escape.
const NO_BACKSLASH_ESCAPES: u16 = 1 << 9;
/// The packet says what has changed in the session.
const SESSION_CHANGED: u16 = 1 << 14;

/// What an OK or EOF packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done<'a> {
    /// Rows that were changed.
    pub(super) rows: u64,
    /// The session's state, by the constants of this file.
    pub(super) status: u16,
    /// The database in use from now on.
    pub(super) database: Option<&'a [u8]>,
}

impl Done<'_> {
    /// Another result follows.
    pub(super) fn more(&self) -> bool {
        self.status & MORE_RESULTS != 0
    }

    /// A backslash escapes in strings.
    pub(super) fn backslash(&self) -> bool {
        self.status & NO_BACKSLASH_ESCAPES == 0
    }
}

/// Reads an OK packet, whose first byte is 0 (or 0xfe, at the end of rows). `track`: see
/// [`super::capabilities::Capabilities::session_track`].
pub(super) fn ok(body: &[u8], track: Option<bool>) -> Option<Done<'_>> {
    let mut r = Reader::new(body);
    r.u8()?;
    let rows = lenenc(&mut r)?;
    lenenc(&mut r)?;
    let status = r.u16_le()?;
    r.u16_le()?;
    let mut done = Done { rows, status, database: None };
    if track != Some(false) && status & SESSION_CHANGED != 0 {
        done.database = changes(&mut r);
    }
    Some(done)
}

/// The database in use, where that is among the changes.
fn changes<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    const SCHEMA: u8 = 1;
    lenenc_bytes(r)?;
    let mut all = Reader::new(lenenc_bytes(r)?);
    let mut database = None;
    while let Some(kind) = all.u8() {
        let mut data = Reader::new(lenenc_bytes(&mut all)?);
        if kind == SCHEMA {
            database = lenenc_bytes(&mut data);
        }
    }
    database
}

/// Whether a packet is the one that ends columns or rows where OK packets do not.
pub(super) fn is_eof(body: &[u8], len: u64) -> bool {
    len == 5 && body.first() == Some(&0xfe)
}

/// Reads it: `0xfe warnings(2) status(2)`.
pub(super) fn eof(body: &[u8]) -> Option<Done<'_>> {
    let mut r = Reader::new(body);
    r.take(3)?;
    Some(Done { status: r.u16_le()?, ..Done::default() })
}

/// Reads an ERR packet: its code. 0xffff is none, but tells how far a statement is (MariaDB).
pub(super) fn error(body: &[u8]) -> Option<u16> {
    let mut r = Reader::new(body);
    (r.u8()? == 0xff).then(|| r.u16_le())?
}

/// The code of an ERR packet that is no error.
pub(super) const PROGRESS: u16 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_in_the_session() {
        let body = b"\0\x02\0\x02\x40\0\0\0\x0e\0\x05\x02tz\x01x\x01\x05\x04acme";
        let done = ok(body, Some(true)).unwrap();
        assert_eq!((done.rows, done.status, done.database), (2, 0x4002, Some(&b"acme"[..])));
        assert_eq!(ok(body, None), Some(done), "not known, but said");
        assert_eq!(ok(body, Some(false)).unwrap().database, None);
        for n in 0..body.len() {
            assert!(ok(&body[..n], Some(true)).is_none_or(|d| d.database.is_none()), "{n}");
        }
    }

    #[test]
    fn ends_and_errors() {
        assert!(is_eof(b"\xfe\0\0\x0a\0", 5) && !is_eof(b"\xfe\0\0\x0a\0", 9));
        let done = eof(b"\xfe\0\0\x0a\x02").unwrap();
        assert!(done.more() && !done.backslash() && done.status & AUTOCOMMIT != 0);
        assert_eq!((error(b"\xff\x15\x04#28000no"), error(b"\0"), error(b"\xff\x01")), (Some(1045), None, None));
    }
}
