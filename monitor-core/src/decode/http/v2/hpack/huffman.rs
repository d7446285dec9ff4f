//! The Huffman code of header strings (RFC 7541 §5.2, appendix B). It is canonical: codes of one length follow each other in
//! the order of their symbols, and a longer code begins where the shorter ones end. So the lengths say it all.

use crate::decode::DecodeError;

/// Length of each octet's code, in bits.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, //
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, //
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, //
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, //
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/// Length of the shortest code.
const SHORTEST: u32 = 5;
/// And of the longest. The end of string has the last of these, and may not be sent.
const LONGEST: u32 = 30;

/// What follows from the lengths, for each length.
struct Tables {
    /// The code after the last of this length, with its first bit in the highest place of 32.
    above: [u64; 31],
    /// The first code.
    first: [u32; 31],
    /// Where its symbol stands among all.
    place: [u32; 31],
    /// Octets by length and value.
    symbols: [u8; 256],
}

#[expect(clippy::indexing_slicing, reason = "computed by the compiler from a constant")]
const fn tables() -> Tables {
    let mut t = Tables { above: [0; 31], first: [0; 31], place: [0; 31], symbols: [0; 256] };
    let (mut code, mut n) = (0u32, 0u32);
    let mut length = SHORTEST;
    while length <= LONGEST {
        code <<= 1;
        t.first[length as usize] = code;
        t.place[length as usize] = n;
        let mut symbol = 0u8;
        loop {
            if LENGTHS[symbol as usize] as u32 == length {
                t.symbols[n as usize] = symbol;
                n += 1;
                code += 1;
            }
            if symbol == u8::MAX {
                break;
            }
            symbol += 1;
        }
        t.above[length as usize] = (code as u64) << (32 - length);
        length += 1;
    }
    t
}

static TABLES: Tables = tables();

/// The octet that the highest bits of `window` stand for, and the length of its code.
fn symbol(window: u32) -> Option<(u8, u32)> {
    let length = (SHORTEST..=LONGEST)
        .find(|length| TABLES.above.get(*length as usize).is_some_and(|above| u64::from(window) < *above))?;
    let code = window >> (32 - length);
    let at = TABLES.place.get(length as usize)? + (code - TABLES.first.get(length as usize)?);
    TABLES.symbols.get(at as usize).map(|symbol| (*symbol, length))
}

/// Adds what `bytes` stand for to `out`.
///
/// # Errors
/// They hold the end of string, or are padded with anything but the beginning of it.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (mut held, mut n) = (0u64, 0u32);
    let mut rest = bytes.iter();
    loop {
        while n <= LONGEST {
            let Some(byte) = rest.next() else { break };
            held = held << 8 | u64::from(*byte);
            n += 8;
        }
        if n == 0 {
            return Ok(());
        }
        // What is not there counts as ones, which is how a string is padded.
        let filled = if n < 32 { held << (32 - n) | ((1 << (32 - n)) - 1) } else { held >> (n - 32) };
        let window = u32::try_from(filled & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        match symbol(window) {
            Some((octet, length)) if length <= n => {
                out.push(octet);
                n -= length;
                held &= (1 << n) - 1;
            }
            _ if n < 8 && held == (1 << n) - 1 => return Ok(()),
            _ => return Err(DecodeError::HeaderString),
        }
    }
}

/// What `text` is in this code.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for octet in text {
        let length = u32::from(LENGTHS[usize::from(*octet)]);
        let at = TABLES.symbols.iter().position(|s| s == octet).unwrap();
        let code = TABLES.first[length as usize] + (u32::try_from(at).unwrap() - TABLES.place[length as usize]);
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    while bits.len() % 8 != 0 {
        bits.push(true);
    }
    bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn examples_of_the_standard() {
        // RFC 7541 C.4.1, C.4.3, C.6.1.
        let examples: &[(&[u8], &[u8])] = &[
            (b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", b"www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", b"no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", b"custom-key"),
            (b"\x64\x02", b"302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                b"Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ];
        for (coded, plain) in examples {
            assert_eq!(decoded(coded).unwrap(), *plain);
            assert_eq!(encode(plain), *coded);
        }
    }

    #[test]
    fn every_octet_there_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        for n in 0..256 {
            assert_eq!(decoded(&encode(&all[n..])).unwrap(), &all[n..]);
            assert_eq!(decoded(&encode(&all[n..=n])).unwrap(), &all[n..=n]);
        }
    }

    #[test]
    fn what_no_encoder_sends_is_refused() {
        assert_eq!(decoded(b""), Ok(vec![]));
        // The end of string; more than seven bits of padding; padding with zeros; a code that ends early.
        for bad in [&b"\xff\xff\xff\xff"[..], b"\xff", b"\x18", b"\x1e", b"\xff\xff"] {
            assert_eq!(decoded(bad), Err(DecodeError::HeaderString), "{bad:x?}");
        }
        assert_eq!(decoded(b"\x1f"), Ok(b"a".to_vec()));
    }
}
