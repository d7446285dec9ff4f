//! A query's text, and the attributes that may stand before it. Source: MySQL internals, "COM_QUERY".

use super::wire::{Binary, binary, bit, lenenc, lenenc_bytes};
use crate::decode::wire::Reader;

/// Most attributes, and most parameters of a statement.
pub(super) const MAX_PARAMETERS: u64 = 65_535;

/// The text of a query's body (without the first byte), after its attributes; `each` sees those that are text.
/// `attributes`: whether there are any, `None`: it is not known, and tells itself. `None`: they cannot be read.
pub(super) fn text<'a>(body: &'a [u8], attributes: Option<bool>, each: &mut dyn FnMut(&str, &str)) -> Option<&'a [u8]> {
    // Their number, and the number of their sets, which is one: no text has that byte there.
    let has = attributes.unwrap_or(matches!(body, [_, 1, ..]));
    if !has {
        return Some(body);
    }
    let mut r = Reader::new(body);
    let n = lenenc(&mut r).filter(|n| *n <= MAX_PARAMETERS)?;
    lenenc(&mut r)?;
    if n > 0 {
        let n = usize::try_from(n).ok()?;
        let nulls = r.take(n.div_ceil(8))?;
        let named = (r.u8()? == 1).then(|| types(&mut r, n, true))??;
        for (i, (kind, name)) in named.iter().enumerate() {
            if bit(nulls, i) {
                continue;
            }
            if let Binary::Text(value) = binary(&mut r, *kind)?
                && let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value))
            {
                each(name, value);
            }
        }
    }
    Some(r.rest())
}

/// The types of `n` parameters, with their names where those are sent.
pub(super) fn types<'a>(r: &mut Reader<'a>, n: usize, names: bool) -> Option<Vec<(u16, &'a [u8])>> {
    // Each takes two bytes at least.
    if r.len() < 2 * n {
        return None;
    }
    (0..n).map(|_| Some((r.u16_le()?, if names { lenenc_bytes(r)? } else { &[] }))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_passed_over_and_told() {
        let body = b"\x02\x01\0\x01\xfd\0\x0btraceparent\x03\0\x01n\x02id\x07\0\0\0SELECT 1";
        for known in [Some(true), None] {
            let mut seen = Vec::new();
            let text = text(body, known, &mut |name, value| seen.push(format!("{name}={value}")));
            assert_eq!((text, seen), (Some(&b"SELECT 1"[..]), vec!["traceparent=id".to_owned()]));
        }
        assert_eq!(text(b"\0\x01SELECT 1", None, &mut |_, _| {}), Some(&b"SELECT 1"[..]));
        assert_eq!(text(b"SELECT 1", None, &mut |_, _| {}), Some(&b"SELECT 1"[..]));
        assert_eq!(text(b"\n SELECT 1", Some(false), &mut |_, _| {}), Some(&b"\n SELECT 1"[..]));
        for n in 0..body.len() - 8 {
            assert_eq!(text(&body[..n], Some(true), &mut |_, _| {}), None, "{n}");
        }
    }
}
