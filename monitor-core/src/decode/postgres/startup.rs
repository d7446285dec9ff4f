//! The packets that open a connection: untyped, `length(4) code(4) …`.
//!
//! Source: PostgreSQL manual "Message Formats" (StartupMessage, SSLRequest, GSSENCRequest, CancelRequest) and
//! `ProcessStartupPacket`, `pg_split_opts` in the server.

use crate::decode::wire::Reader;

/// Longest start-up packet the server takes (`MAX_STARTUP_PACKET_LENGTH`).
pub(super) const MAX_STARTUP: usize = 10_000;

/// A packet that opens a connection or asks for encryption first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A session is asked for: parameters in wire order.
    Start(Vec<(String, String)>),
    /// Encryption is asked for; the server answers with one byte.
    Encrypt,
    /// Another connection's query is to be cancelled; nothing follows.
    Cancel,
    /// TLS without asking first (PostgreSQL 17: `sslnegotiation=direct`).
    Tls,
}

/// What the bytes so far say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// More are needed.
    NeedMore,
    /// This packet, of so many bytes.
    Is(Opening, usize),
    /// Nothing that opens a PostgreSQL connection.
    Not,
}

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// Reads the packet at the start of `bytes`.
pub(crate) fn look(bytes: &[u8]) -> Look {
    match bytes {
        [0x16, 3, ..] => return Look::Is(Opening::Tls, bytes.len()),
        [0x16] => return Look::NeedMore,
        [first, ..] if *first != 0 => return Look::Not,
        _ => {}
    }
    let mut r = Reader::new(bytes);
    let Some(len) = r.u32() else { return Look::NeedMore };
    let len = len as usize;
    if !(8..=MAX_STARTUP).contains(&len) {
        return Look::Not;
    }
    let Some(code) = r.u32() else { return Look::NeedMore };
    let fixed = |opening, right| if right { Look::Is(opening, len) } else { Look::Not };
    match code {
        SSL | GSS => fixed(Opening::Encrypt, len == 8),
        // Protocol 3.2 has keys of up to 256 bytes; they are not looked at.
        CANCEL => fixed(Opening::Cancel, (16..=268).contains(&len)),
        _ if code >> 16 == 3 => match bytes.get(8..len) {
            None => Look::NeedMore,
            Some(body) => parameters(body).map_or(Look::Not, |p| Look::Is(Opening::Start(p), len)),
        },
        _ => Look::Not,
    }
}

/// Zero-terminated name and value pairs, then one zero.
fn parameters(body: &[u8]) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    let mut rest = Reader::new(body);
    loop {
        let name = rest.cstr()?;
        if name.is_empty() {
            return rest.is_empty().then_some(out);
        }
        let value = rest.cstr()?;
        out.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
    }
}

/// What a session starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) user: String,
    pub(super) database: String,
    /// Settings in the order the server applies them, names in lower case.
    pub(super) settings: Vec<(String, String)>,
}

impl Session {
    /// From start-up parameters. `options` are applied before the others, as the server does.
    pub(super) fn new(parameters: Vec<(String, String)>) -> Self {
        let mut this = Self::default();
        let mut direct = Vec::new();
        for (name, value) in parameters {
            match name.as_str() {
                "user" => this.user = value,
                "database" => this.database = value,
                "options" => this.settings.extend(options(&value)),
                // A bare label that no server enforces; and protocol options.
                "application_name" | "replication" => {}
                _ if name.starts_with("_pq_.") => {}
                _ => direct.push((name.to_lowercase(), value)),
            }
        }
        this.settings.extend(direct);
        if this.database.is_empty() {
            this.database.clone_from(&this.user);
        }
        this
    }
}

/// The settings in an `options` string: `-c name=value`, `-cname=value`, `--name=value`; a backslash takes the next
/// character as it is.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                if let Some(next) = chars.next() {
                    word.get_or_insert_default().push(next);
                }
            }
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let mut out = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_owned)
        };
        if let Some((name, value)) = setting.as_deref().and_then(|s| s.split_once('=')) {
            out.push((name.replace('-', "_").to_lowercase(), value.to_owned()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        out.extend(code.to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn every_opening_and_every_prefix_of_it() {
        let start = packet(196_608, b"user\0app\0database\0shop\0\0");
        let parameters = vec![("user".into(), "app".into()), ("database".into(), "shop".into())];
        let cases = [
            (start.clone(), Opening::Start(parameters)),
            (packet(SSL, b""), Opening::Encrypt),
            (packet(GSS, b""), Opening::Encrypt),
            (packet(CANCEL, &[1; 8]), Opening::Cancel),
        ];
        for (bytes, opening) in cases {
            assert_eq!(look(&bytes), Look::Is(opening, bytes.len()));
            for n in 0..bytes.len() {
                assert!(matches!(look(&bytes[..n]), Look::NeedMore | Look::Is(Opening::Cancel, _)), "{n}");
            }
        }
        assert_eq!(look(&[0x16, 3, 1]), Look::Is(Opening::Tls, 3));
    }

    #[test]
    fn others_are_no_opening() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"*1\r\n$4\r\nPING\r\n", &[0, 0, 0, 4, 0, 0, 0, 0], &[0, 1, 0, 0]] {
            assert_eq!(look(bytes), Look::Not);
        }
        assert_eq!(look(&packet(131_072, b"\0")), Look::Not);
        assert_eq!(look(&packet(196_608, b"user\0app\0")), Look::Not, "not terminated");
    }

    #[test]
    fn options_as_the_server_splits_them() {
        let session = Session::new(vec![
            ("user".into(), "app".into()),
            ("app.tenant_id".into(), "direct".into()),
            ("options".into(), r"-c app.tenant_id=b\ c --search-path=acme -crole=r -d 2".into()),
        ]);
        assert_eq!(session.database, "app");
        let got: Vec<(&str, &str)> = session.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            got,
            [("app.tenant_id", "b c"), ("search_path", "acme"), ("role", "r"), ("app.tenant_id", "direct")]
        );
    }
}
