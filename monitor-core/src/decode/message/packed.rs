//! What a message's content says of its tenant, however it is packed: JSON, MessagePack, Python's pickle, PHP's
//! serialization, forms and plain text, each of them compressed or not. And whether all of it was read: only then its silence says something.
//!
//! Memory: what was compressed, unpacked, up to 64 KiB.

use std::io::Read;

use serde::de::IgnoredAny;

use super::{fields, msgpack, pickle};
use crate::model::claim::speaks_of_tenant;

/// Most bytes that compressed content is unpacked to.
const MAX_UNPACKED: u64 = 64 << 10;

/// One thing that content says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// A field whose name (lower case) speaks of a tenant, and its value.
    Field(&'a str, &'a str),
    /// A word that stands alone, where arguments have no names: it may be whom the message is for.
    Word(&'a str),
    /// Text that does not stand in the content as it is, since that is packed: it may hold values.
    Text(&'a str),
    /// Something speaks of a tenant, and who that is cannot be told.
    Somebody,
}

/// Longest field name that can speak of a tenant.
const MAX_NAME: usize = 64;
/// Longest word that may be whom something is for.
const MAX_WORD: usize = 128;

/// The strings and numbers of a packed structure, in the order in which they stand: whatever comes right behind a name
/// that speaks of a tenant is its value.
#[derive(Debug)]
pub(super) struct Words {
    name: Option<String>,
    /// All of what they hold was read.
    pub(super) whole: bool,
}

impl Default for Words {
    fn default() -> Self {
        Self { name: None, whole: true }
    }
}

impl Words {
    /// The next one.
    pub(super) fn text(&mut self, text: &str, say: &mut dyn FnMut(Said<'_>)) {
        say(Said::Text(text));
        if let Some(name) = self.name.take() {
            say(Said::Field(&name, text));
        } else if matches!(text.as_bytes(), [b'{' | b'[', ..]) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
            self.whole &= plain_each(text.as_bytes(), say);
        } else if text.len() <= MAX_NAME && speaks_of_tenant(&text.to_ascii_lowercase()) {
            self.name = Some(text.to_ascii_lowercase());
        } else if text.len() <= MAX_WORD {
            say(Said::Word(text));
        } else if speaks_of_tenant(&text.to_ascii_lowercase()) {
            say(Said::Somebody);
        }
    }

    /// Something that is neither: it is no name's value.
    pub(super) fn other(&mut self) {
        self.name = None;
    }
}

/// Tells what `content` says; gives whether all of it was read.
pub(super) fn each(content: &[u8], say: &mut dyn FnMut(Said<'_>)) -> bool {
    match unpack(content) {
        Some(Some(plain)) => {
            if let Ok(text) = std::str::from_utf8(&plain) {
                say(Said::Text(text));
            }
            plain_each(&plain, say)
        }
        // Too much, or broken.
        Some(None) => false,
        None => plain_each(content, say),
    }
}

/// Content that is compressed, unpacked; `Some(None)` if that is not to be had whole.
fn unpack(content: &[u8]) -> Option<Option<Vec<u8>>> {
    let read = |reader: &mut dyn Read| {
        let mut out = Vec::new();
        let n = reader.take(MAX_UNPACKED + 1).read_to_end(&mut out).ok()?;
        (n as u64 <= MAX_UNPACKED).then_some(out)
    };
    match content {
        [0x1f, 0x8b, ..] => Some(read(&mut flate2::read::MultiGzDecoder::new(content))),
        // RFC 1950: deflate with its window, and a check over both bytes.
        [a, b, ..] if a & 0x8f == 0x08 && (u16::from(*a) << 8 | u16::from(*b)) % 31 == 0 && *a != b' ' => {
            Some(read(&mut flate2::read::ZlibDecoder::new(content)))
        }
        _ => None,
    }
}

fn plain_each(content: &[u8], say: &mut dyn FnMut(Said<'_>)) -> bool {
    if let [0x80, 2..=5, ..] = content {
        return pickle::each(content, say);
    }
    if msgpack::is(content) {
        return msgpack::each(content, say);
    }
    let Ok(text) = std::str::from_utf8(content) else { return false };
    let text = text.trim();
    match text.as_bytes() {
        [b'{' | b'[', ..] => {
            let whole = fields::each(content, say);
            // What was not looked into may speak of one all the same.
            if !whole && speaks_of_tenant(&text.to_ascii_lowercase()) {
                say(Said::Somebody);
            }
            whole
        }
        _ if is_one_word(text) => false,
        [b'a' | b'O', b':', b'0'..=b'9', ..] => php(text, say),
        _ => {
            words(text, say);
            true
        }
    }
}

/// Nothing, or just a word that says where the content is, or that is encoded or enciphered.
fn is_one_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&b))
        && !text.contains(['&'])
        && !text
            .split_once('=')
            .is_some_and(|(name, value)| speaks_of_tenant(&name.to_ascii_lowercase()) && !value.is_empty())
}

/// Text without a structure that is read here: names with values as forms, calls and log lines have them, and words.
fn words(text: &str, say: &mut dyn FnMut(Said<'_>)) {
    let end = |c: char| c.is_whitespace() || "&;,()[]{}<>\"'".contains(c);
    let mut named = false;
    for part in text.split(end).filter(|p| !p.is_empty()) {
        match part.split_once(['=', ':']) {
            Some((name, value)) if speaks_of_tenant(&name.to_ascii_lowercase()) && !value.is_empty() => {
                say(Said::Field(&name.to_ascii_lowercase(), value));
                named = true;
            }
            _ => say(Said::Word(part)),
        }
    }
    if !named && speaks_of_tenant(&text.to_ascii_lowercase()) {
        say(Said::Somebody);
    }
}

/// PHP's serialization, as far as names and values go: strings and numbers in their order.
pub(super) fn php(text: &str, say: &mut dyn FnMut(Said<'_>)) -> bool {
    let mut name: Option<String> = None;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
        let number = |from: &str| from.split([':', ';']).next().and_then(|n| n.parse::<usize>().ok());
        let (value, n) = if let Some(from) = rest.strip_prefix("s:") {
            let Some(n) = number(from) else { return false };
            // `s:4:"acme";`
            let start = rest.find('"').map_or(rest.len(), |q| q + 1);
            let Some(value) = rest.get(start..start.saturating_add(n)) else { return false };
            (Some(value), start + n + 1)
        } else if let Some(from) = rest.strip_prefix("i:") {
            let value = from.split(';').next().unwrap_or_default();
            (Some(value), 2 + value.len())
        } else {
            (None, rest.chars().next().map_or(1, char::len_utf8))
        };
        at += n;
        let Some(value) = value else { continue };
        if let Some(name) = name.take() {
            say(Said::Field(&name, value));
            continue;
        }
        // Private and protected properties have their class before the name, behind a zero.
        let bare = value.rsplit('\0').next().unwrap_or(value).to_ascii_lowercase();
        if bare.len() <= 64 && speaks_of_tenant(&bare) && rest.starts_with("s:") {
            name = Some(bare);
        } else {
            say(Said::Word(value));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(content: &[u8]) -> (Vec<String>, bool) {
        let mut out = Vec::new();
        let whole = each(content, &mut |said| match said {
            Said::Field(name, value) => out.push(format!("{name}={value}")),
            Said::Word(word) => out.push(word.to_owned()),
            Said::Text(_) => {}
            Said::Somebody => out.push("?".to_owned()),
        });
        (out, whole)
    }

    fn says(content: &[u8]) -> (String, bool) {
        let (all, whole) = all(content);
        (all.join(" "), whole)
    }

    fn of(words: &str, whole: bool) -> (String, bool) {
        (words.to_owned(), whole)
    }

    #[test]
    fn forms_of_content() {
        assert_eq!(says(br#"{"tenant":"acme","n":1}"#), of("tenant=acme", true));
        assert_eq!(says(b"tenant_id=acme&n=1"), of("tenant_id=acme n=1", true));
        assert_eq!(says(b"app.send(tenant='acme')"), of("app.send tenant= acme ?", true));
        assert!(says(b"<job><tenant>acme</tenant></job>").0.ends_with('?'));
        assert_eq!(says(b"resize image 7"), of("resize image 7", true));
        let php = b"O:8:\"App\\Send\":2:{s:8:\"tenantId\";s:4:\"acme\";s:2:\"no\";i:7;}";
        assert_eq!(says(php), of("tenantid=acme no 7", true));
        assert_eq!(says(b"a:1:{s:99:\"x\";}"), of("", false));
    }

    #[test]
    fn what_is_not_read_says_nothing() {
        for unread in
            [&b""[..], b"7f3d9a52-0c41", b"TG9yZW0gaXBzdW0gZG9sb3Igc2l0IGFtZXQ=", b"\xff\xfe\x00\x01", b"{\"a\":1"]
        {
            assert_eq!(says(unread), of("", false), "{unread:?}");
        }
        assert_eq!(says(br#"{"a":{"b":{"c":{"d":{"tenant":"x"}}}}}"#), of("?", false));
    }

    #[test]
    fn compressed_content_is_unpacked_within_bounds() {
        let zlib = |bytes: &[u8]| {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        };
        assert_eq!(says(&zlib(br#"{"tenant":"acme"}"#)), of("tenant=acme", true));
        let huge = zlib(&vec![b' '; 1 << 20]);
        assert_eq!(says(&huge), of("", false));
        assert_eq!(says(&huge[..20]), of("", false));
    }

    #[test]
    fn hostile_content_does_no_harm() {
        for text in ["s:", "a:9:s:18446744073709551615:\"x", "O:1:s:3:\"\u{e9}", "a:1:i:", "a:0:\u{10ffff}"] {
            all(text.as_bytes());
        }
    }
}
