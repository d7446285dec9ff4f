//! The packets that open a connection: the server's greeting, and what the client answers. Source: MySQL internals,
//! "Connection Phase Packets"; MariaDB, "Connection".

use super::capabilities::{CONNECT_WITH_DB, LONG_PASSWORD, PLUGIN_AUTH_LENENC, PROTOCOL_41, SECURE_CONNECTION, SSL};
use super::wire::lenenc_bytes;
use crate::decode::wire::Reader;

/// The capabilities that a greeting (version 10) offers.
pub(super) fn greeting(body: &[u8]) -> Option<u64> {
    let mut r = Reader::new(body);
    if r.u8()? != 10 {
        return None;
    }
    let version = r.cstr()?;
    if version.is_empty() || !version.iter().all(|b| (0x20..0x7f).contains(b)) {
        return None;
    }
    // The connection's number, and the first part of the challenge.
    r.take(4 + 8)?;
    if r.u8()? != 0 {
        return None;
    }
    let low = r.u16_le()?;
    let Some([_, _, _, c, d, _]) = r.array::<6>() else { return Some(u64::from(low)) };
    let flags = u64::from(low) | u64::from(u16::from_le_bytes([c, d])) << 16;
    let more = r.array::<10>().map_or(0, |[_, _, _, _, _, _, a, b, c, d]| u32::from_le_bytes([a, b, c, d]));
    // MariaDB says by the missing flag that it has more of them.
    Some(if flags & LONG_PASSWORD == 0 { flags | u64::from(more) << 32 } else { flags })
}

/// What a client answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Response<'a> {
    /// It asks for encryption: its next byte begins TLS.
    Encrypt,
    /// It asks for a session.
    Login { flags: u64, user: &'a [u8], database: &'a [u8] },
    /// It speaks as clients did before version 4.1.
    Old,
}

/// Reads it.
pub(super) fn response(body: &[u8]) -> Option<Response<'_>> {
    let mut r = Reader::new(body);
    let low = u64::from(r.u32_le()?);
    if low & PROTOCOL_41 == 0 {
        return Some(Response::Old);
    }
    // Longest packet, character set.
    r.take(4 + 1)?;
    let reserved = r.take(23)?;
    // What a client of MariaDB has more of them stands where others say nothing.
    let more = if low & LONG_PASSWORD == 0 { Reader::new(reserved.get(19..)?).u32_le()? } else { 0 };
    let flags = low | u64::from(more) << 32;
    if r.is_empty() && flags & SSL != 0 {
        return Some(Response::Encrypt);
    }
    let user = r.cstr()?;
    let skipped = if flags & PLUGIN_AUTH_LENENC != 0 {
        lenenc_bytes(&mut r)
    } else if flags & SECURE_CONNECTION != 0 {
        r.u8_bytes()
    } else {
        r.cstr()
    };
    skipped?;
    let database = if flags & CONNECT_WITH_DB != 0 { until_zero(&mut r) } else { &[] };
    Some(Response::Login { flags, user, database })
}

/// User and database of a `COM_CHANGE_USER` (without its first byte).
pub(super) fn change_user(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut r = Reader::new(body);
    let user = r.cstr()?;
    r.u8_bytes()?;
    Some((user, until_zero(&mut r)))
}

/// A string up to a zero, or up to the end.
fn until_zero<'a>(r: &mut Reader<'a>) -> &'a [u8] {
    r.cstr().unwrap_or(r.rest())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A greeting that offers `flags`.
    pub(in super::super) fn greet(flags: u64) -> Vec<u8> {
        let mut out = b"\x0a8.4.0\0\x07\0\0\0saltsalt\0".to_vec();
        out.extend(&flags.to_le_bytes()[..2]);
        out.extend(b"\x2d\x02\0");
        out.extend(&flags.to_le_bytes()[2..4]);
        out.extend(b"\x15\0\0\0\0\0\0");
        out.extend(&flags.to_le_bytes()[4..]);
        out.extend(b"saltsaltsalt\0caching_sha2_password\0");
        out
    }

    /// An answer that asks for a session.
    pub(in super::super) fn log_in(flags: u64, user: &str, database: &str) -> Vec<u8> {
        let mut out = flags.to_le_bytes()[..4].to_vec();
        out.extend(b"\0\0\0\x01\x2d");
        out.extend([0; 19]);
        out.extend(&flags.to_le_bytes()[4..]);
        out.extend(user.as_bytes());
        out.extend(b"\0\x03pwd");
        if flags & CONNECT_WITH_DB != 0 {
            out.extend(database.as_bytes());
            out.push(0);
        }
        out
    }

    #[test]
    fn greetings_and_their_prefixes() {
        let flags = PROTOCOL_41 | SECURE_CONNECTION | 1 << 24 | 1 << 36;
        assert_eq!(greeting(&greet(flags)), Some(flags), "MariaDB's");
        assert_eq!(greeting(&greet(flags | 1)), Some((flags | 1) & 0xffff_ffff), "MySQL's");
        for n in 0..22 {
            assert_eq!(greeting(&greet(flags)[..n]), None, "{n}");
        }
        assert_eq!(greeting(b"\x0a\0"), None);
    }

    #[test]
    fn answers() {
        let flags = PROTOCOL_41 | SECURE_CONNECTION | CONNECT_WITH_DB | 1;
        let login = Response::Login { flags, user: b"app", database: b"shop" };
        assert_eq!(response(&log_in(flags, "app", "shop")), Some(login));
        let encrypt = log_in(flags | SSL, "", "")[..32].to_vec();
        assert_eq!(response(&encrypt), Some(Response::Encrypt));
        assert_eq!(response(b"\0\0\0\0"), Some(Response::Old));
        assert_eq!(change_user(b"app\0\x02xxshop\0\x2d\0"), Some((&b"app"[..], &b"shop"[..])));
        assert_eq!(change_user(b"app\0\x09xx"), None);
    }
}
