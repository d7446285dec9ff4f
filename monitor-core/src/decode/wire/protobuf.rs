//! Messages of Protocol Buffers (<https://protobuf.dev/programming-guides/encoding/>), read field by field without knowing
//! their descriptors: who needs three fields of a message looks for their numbers.

use super::Reader;

/// Most bytes of a number.
const MAX_NUMBER: u32 = 10;
/// Deepest that messages within messages are looked through for texts.
const MAX_DEPTH: u32 = 8;
/// Most texts of one message.
const MAX_TEXTS: usize = 1024;

/// What a field holds, as far as the wire tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A number, a truth value or a member of an enumeration.
    Number(u64),
    /// Eight bytes: a number of fixed size.
    Eight([u8; 8]),
    /// A text, bytes, a message, or several numbers in one.
    Bytes(&'a [u8]),
    /// Four bytes.
    Four([u8; 4]),
}

/// These bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMessage;

/// The fields of one message, in the order of the wire: number and value.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    /// Of the message that these bytes are.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(Reader::new(message))
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let r = &mut self.0;
        let tag = r.leb128(5).ok()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0 && *n < 1 << 29)?;
        let value = match tag & 7 {
            0 => Value::Number(r.leb128(MAX_NUMBER).ok()?),
            // Lowest byte first.
            1 => Value::Eight(r.array()?),
            2 => {
                let n = r.leb128(5).ok()?;
                Value::Bytes(r.take(usize::try_from(n).ok()?)?)
            }
            5 => Value::Four(r.array()?),
            // Groups are not used any more.
            _ => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), NoMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = Reader::new(&[]);
        }
        Some(field.ok_or(NoMessage))
    }
}

/// Gives `each` the texts of a message and of those within it. What is a text and what is a message is not told on the wire:
/// what may be both is taken for both.
pub(crate) fn texts(message: &[u8], each: &mut dyn FnMut(&str)) {
    let mut left = MAX_TEXTS;
    walk(message, MAX_DEPTH, &mut left, each);
}

fn walk(message: &[u8], depth: u32, left: &mut usize, each: &mut dyn FnMut(&str)) {
    for field in Fields::new(message) {
        let Ok((_, Value::Bytes(bytes))) = field else { continue };
        if *left == 0 {
            return;
        }
        if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && is_text(text)) {
            *left -= 1;
            each(text);
        }
        if depth > 0 && Fields::new(bytes).all(|field| field.is_ok()) {
            walk(bytes, depth - 1, left, each);
        }
    }
}

fn is_text(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        texts(message, &mut |text| out.push(text.to_owned()));
        out
    }

    #[test]
    fn fields_of_every_kind() {
        let message = b"\x08\x96\x01\x12\x07testing\x1d\x01\x02\x03\x04\x21\x01\0\0\0\0\0\0\0\xf8\xff\xff\xff\x0f\x01";
        let got: Result<Vec<_>, _> = Fields::new(message).collect();
        let want = [
            (1, Value::Number(150)),
            (2, Value::Bytes(b"testing")),
            (3, Value::Four([1, 2, 3, 4])),
            (4, Value::Eight([1, 0, 0, 0, 0, 0, 0, 0])),
            ((1 << 29) - 1, Value::Number(1)),
        ];
        assert_eq!(got.unwrap(), want);
    }

    #[test]
    fn what_is_no_message() {
        for bad in [
            &b"\x08"[..],
            b"\x12\x05abc",
            b"\x00\x01",
            b"\x0b",
            b"\x0f",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0d\x01",
        ] {
            assert_eq!(Fields::new(bad).last(), Some(Err(NoMessage)), "{bad:x?}");
            assert!(Fields::new(bad).count() <= 2, "it ends there");
        }
        assert_eq!(Fields::new(b"").count(), 0);
    }

    #[test]
    fn texts_in_messages_within_messages() {
        assert_eq!(
            all(b"\x0a\x04acme\x12\x0a\x0a\x08order-17"),
            ["acme", "\n\u{8}order-17".trim_start_matches("\n\u{8}")]
        );
        assert_eq!(all(b"\x0a\x03\xff\xfe\xfd\x08\x05"), Vec::<String>::new());
        // A message in which the length of a text looks like a part of it.
        let inner = [b"\x0a\x30".to_vec(), vec![b'x'; 48]].concat();
        let outer = [b"\x0a\x32".to_vec(), inner].concat();
        assert!(all(&outer).contains(&"x".repeat(48)));
        let mut deep = b"\x0a\x01a".to_vec();
        for _ in 0..40 {
            deep = [vec![0x0a, u8::try_from(deep.len()).unwrap()], deep].concat();
        }
        assert!(all(&deep).len() <= MAX_TEXTS);
        let many = b"\x0a\x01a".repeat(MAX_TEXTS + 1);
        assert_eq!(all(&many).len(), MAX_TEXTS);
    }
}
