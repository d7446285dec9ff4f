//! Tables as AMQP writes them (AMQP 0-9-1 §4.2.5, with the field types that RabbitMQ uses).

use crate::decode::wire::Reader;

/// How deep tables may stand in tables.
const MAX_DEPTH: u8 = 8;
/// Most entries of a table that are read, those of nested tables included.
const MAX_ENTRIES: u32 = 1024;

/// A value of a table, as far as it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// A string, or bytes.
    Text(&'a [u8]),
    /// A whole number.
    Number(i64),
}

/// Hands over every string and number of a table, those of tables and arrays inside it under the name that is nearest.
/// `false`: it is malformed, or holds more than is read.
pub(super) fn fields<'a>(table: &'a [u8], each: &mut dyn FnMut(&'a [u8], Field<'a>)) -> bool {
    let mut left = MAX_ENTRIES;
    entries(Reader::new(table), MAX_DEPTH, &mut left, each).is_some()
}

fn entries<'a>(
    mut table: Reader<'a>,
    depth: u8,
    left: &mut u32,
    each: &mut dyn FnMut(&'a [u8], Field<'a>),
) -> Option<()> {
    while !table.is_empty() {
        let name = table.u8_bytes()?;
        value(&mut table, name, depth, left, each)?;
    }
    Some(())
}

fn value<'a>(
    from: &mut Reader<'a>,
    name: &'a [u8],
    depth: u8,
    left: &mut u32,
    each: &mut dyn FnMut(&'a [u8], Field<'a>),
) -> Option<()> {
    *left = left.checked_sub(1)?;
    let number = match from.u8()? {
        b'S' | b'x' => {
            each(name, Field::Text(from.u32_bytes()?));
            return Some(());
        }
        b'F' => return entries(Reader::new(from.u32_bytes()?), depth.checked_sub(1)?, left, each),
        b'A' => {
            let mut array = Reader::new(from.u32_bytes()?);
            let depth = depth.checked_sub(1)?;
            while !array.is_empty() {
                value(&mut array, name, depth, left, each)?;
            }
            return Some(());
        }
        // Neither says whose anything is.
        b'V' => return Some(()),
        b't' => return from.take(1).map(drop),
        b'f' => return from.take(4).map(drop),
        b'd' | b'T' => return from.take(8).map(drop),
        b'D' => return from.take(5).map(drop),
        b'b' => from.i8().map(i64::from),
        b'B' => from.u8().map(i64::from),
        // RabbitMQ's short; the specification's name for it is `U`.
        b's' | b'U' => from.i16().map(i64::from),
        b'u' => from.u16().map(i64::from),
        b'I' => from.i32().map(i64::from),
        b'i' => from.u32().map(i64::from),
        b'l' | b'L' => from.i64(),
        _ => return None,
    };
    each(name, Field::Number(number?));
    Some(())
}

/// Writes a number as text.
pub(super) fn decimal(n: i64, room: &mut [u8; 20]) -> &str {
    let mut left = n.unsigned_abs();
    let mut at = room.len();
    loop {
        at -= 1;
        if let (Some(slot), Ok(digit)) = (room.get_mut(at), u8::try_from(left % 10)) {
            *slot = b'0' + digit;
        }
        left /= 10;
        if left == 0 || at == 0 {
            break;
        }
    }
    if n < 0 && at > 0 {
        at -= 1;
        if let Some(slot) = room.get_mut(at) {
            *slot = b'-';
        }
    }
    room.get(at..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &[u8]) -> (Vec<String>, bool) {
        let mut all = Vec::new();
        let whole = fields(table, &mut |name, field| all.push(format!("{}={field:?}", String::from_utf8_lossy(name))));
        (all, whole)
    }

    #[test]
    fn tables_are_read_to_their_leaves() {
        let table = b"\x01aS\0\0\0\x02hi\x01bI\xff\xff\xff\xff\x01cF\0\0\0\x09\x01dt\x01\x01eA\0\0\0\0";
        let (all, whole) = read(table);
        assert_eq!(all, ["a=Text([104, 105])", "b=Number(-1)"]);
        assert!(!whole, "the inner table ends inside an entry");
        let table = b"\x01cF\0\0\0\x0d\x01dt\x01\x01eA\0\0\0\x02b\x07\x01fV";
        assert_eq!(read(table), (vec!["e=Number(7)".to_owned()], true));
        for n in 1..table.len() - 3 {
            assert!(!read(&table[..n]).1, "{n}");
        }
    }

    #[test]
    fn depth_and_number_of_entries_are_bounded() {
        let mut deep = Vec::new();
        for _ in 0..20 {
            let mut outer = b"\x01aF".to_vec();
            outer.extend(u32::try_from(deep.len()).unwrap().to_be_bytes());
            outer.extend(&deep);
            deep = outer;
        }
        assert!(!read(&deep).1);
        assert_eq!(read(&b"\x01ab\x01".repeat(2000)).0.len(), 1024);
    }

    #[test]
    fn numbers_are_written_as_text() {
        for n in [0, 7, -1, 42, i64::MAX, i64::MIN] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string());
        }
    }
}
