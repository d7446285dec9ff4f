//! Python's pickle, protocols 2 to 5, walked without building anything: strings and numbers in the order in which they
//! stand, so that a dictionary's key comes right before its value (Python documentation, `pickletools`).
//!
//! Memory: references to 256 strings.

use super::packed::{Said, Words};

/// Most strings that are remembered to be named again.
const MAX_MEMO: usize = 256;

/// What an operation has behind its code.
enum Behind {
    Nothing,
    Bytes(usize),
    /// A length of so many bytes, and as many bytes: text or not.
    Counted(usize, bool),
    Number(usize),
    Lines(usize),
}

fn behind(code: u8) -> Option<Behind> {
    Some(match code {
        b'K' => Behind::Number(1),
        b'M' => Behind::Number(2),
        b'J' => Behind::Number(4),
        0x8a => Behind::Counted(1, false),
        0x8b => Behind::Counted(4, false),
        b'U' | 0x8c => Behind::Counted(1, true),
        b'T' | b'X' => Behind::Counted(4, true),
        0x8d => Behind::Counted(8, true),
        b'C' => Behind::Counted(1, false),
        b'B' => Behind::Counted(4, false),
        0x8e | 0x96 => Behind::Counted(8, false),
        0x80 | b'q' | b'h' | 0x82 => Behind::Bytes(1),
        0x83 => Behind::Bytes(2),
        b'r' | b'j' | 0x84 => Behind::Bytes(4),
        b'G' | 0x95 => Behind::Bytes(8),
        b'c' | b'i' => Behind::Lines(2),
        b'S' | b'V' | b'I' | b'L' | b'F' | b'p' | b'g' | b'P' => Behind::Lines(1),
        b'.' | b'N' | b'(' | b')' | b']' | b'}' | b't' | b'l' | b'd' | b'e' | b'a' | b'u' | b's' | b'o' | b'b'
        | b'R' | b'0' | b'1' | b'2' | b'Q' => Behind::Nothing,
        0x81 | 0x85..=0x89 | 0x8f..=0x94 | 0x97 | 0x98 => Behind::Nothing,
        _ => return None,
    })
}

/// Little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Tells what a pickle says; gives whether it was read to its end.
pub(super) fn each(content: &[u8], say: &mut dyn FnMut(Said<'_>)) -> bool {
    let mut rest = content;
    let mut memo: Vec<Option<&str>> = Vec::new();
    let mut last: Option<&str> = None;
    let mut words = Words::default();
    loop {
        let Some((&code, after)) = rest.split_first() else { return false };
        let Some(behind) = behind(code) else { return false };
        let take = |from: &[u8], n: usize| from.split_at_checked(n).map(|(a, _)| a.len());
        let (value, next): (&[u8], &[u8]) = match behind {
            Behind::Nothing => (&[], after),
            Behind::Bytes(n) | Behind::Number(n) => match after.split_at_checked(n) {
                Some(parts) => parts,
                None => return false,
            },
            Behind::Counted(n, _) => {
                let Some((length, after)) = after.split_at_checked(n) else { return false };
                let Ok(n) = usize::try_from(number(length)) else { return false };
                let Some(n) = take(after, n) else { return false };
                after.split_at(n)
            }
            Behind::Lines(n) => {
                let mut next = after;
                for _ in 0..n {
                    let Some(end) = memchr::memchr(b'\n', next) else { return false };
                    next = next.get(end + 1..).unwrap_or_default();
                }
                (after.get(..after.len() - next.len()).unwrap_or_default(), next)
            }
        };
        rest = next;
        match behind {
            Behind::Counted(_, true) => {
                last = std::str::from_utf8(value).ok();
                if let Some(value) = last {
                    words.text(value, say);
                }
                continue;
            }
            Behind::Number(_) => words.text(&number(value).to_string(), say),
            _ => match code {
                b'.' => return words.whole,
                b'N' | 0x88 | 0x89 => words.other(),
                // The latest thing gets the next number, or this one.
                0x94 if memo.len() < MAX_MEMO => memo.push(last),
                b'q' | b'r' => {
                    let at = usize::try_from(number(value)).unwrap_or(MAX_MEMO);
                    if at < MAX_MEMO {
                        memo.resize(memo.len().max(at + 1), None);
                        if let Some(place) = memo.get_mut(at) {
                            *place = last;
                        }
                    }
                }
                b'h' | b'j' => {
                    let at = usize::try_from(number(value)).unwrap_or(MAX_MEMO);
                    if let Some(Some(value)) = memo.get(at) {
                        words.text(value, say);
                    }
                }
                _ => {}
            },
        }
        last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(content: &[u8]) -> (String, bool) {
        let mut out = Vec::new();
        let whole = each(content, &mut |said| match said {
            Said::Field(name, value) => out.push(format!("{name}={value}")),
            Said::Word(word) => out.push(word.to_owned()),
            Said::Text(_) => {}
            Said::Somebody => out.push("?".to_owned()),
        });
        (out.join(" "), whole)
    }

    /// `pickle.dumps(("app.send", None, ("acme", 42), {"tenant_id": "acme", "n": 300}), protocol=4)`
    const JOB: &[u8] =
        b"\x80\x04\x95\x36\0\0\0\0\0\0\0(\x8c\x08app.send\x94N\x8c\x04acme\x94K*\x86\x94}\x94(\x8c\x09tenant_id\
                         \x94h\x01\x8c\x01n\x94M,\x01ut\x94.";

    #[test]
    fn names_and_values_are_told_in_their_order() {
        assert_eq!(all(JOB), ("app.send acme 42 tenant_id=acme n 300".to_owned(), true));
        // Protocol 2, with its own way of remembering.
        let two = b"\x80\x02}q\0X\x06\0\0\0tenantq\x01K\x07s.";
        assert_eq!(all(two), ("tenant=7".to_owned(), true));
    }

    #[test]
    fn what_is_cut_or_no_pickle_is_not_whole() {
        for n in 0..JOB.len() {
            assert!(!all(&JOB[..n]).1, "{n}");
        }
        for bad in
            [&b"\x80\x04\xff."[..], b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffx.", b"\x80\x04r\xff\xff\xff\xff"]
        {
            assert!(!all(bad).1);
        }
    }
}
