//! Commands, one line each. Source: memcached's `doc/protocol.txt`, classic and meta commands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use smallvec::SmallVec;

/// Longest key, and longest as it is written in base64.
const MAX_KEY: usize = 250;
/// Longest line that is taken for a mistake.
const MAX_REFUSED: usize = 2048;
/// Most keys of one command that are followed.
const MAX_KEYS: usize = 100;
/// Longest block: the largest item that a server can be told to take.
const MAX_DATA: u64 = 1 << 30;

/// What a command does, as far as its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Reads keys; answered by values and `END`.
    Get,
    /// Writes one; how.
    Store(How),
    Delete,
    Count,
    Touch,
    MetaGet,
    MetaStore(How),
    MetaDelete,
    MetaCount,
    /// `mn`: marks the end of what is not answered.
    MetaNothing,
    /// `me`.
    MetaDebug,
    /// Answered by lines up to `END`, or by one.
    Lines,
    /// Answered by one line.
    Line,
    /// Not answered: `quit`.
    Ends,
    /// What follows has no end.
    Watches,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Whatever is there.
    Set,
    /// Only if nothing is there.
    Add,
    /// Put to what is there.
    Grow,
}

/// One command.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) verb: &'static str,
    pub(super) does: Does,
    pub(super) keys: SmallVec<[Vec<u8>; 1]>,
    /// A block of so many bytes follows.
    pub(super) data: Option<u64>,
    /// The item is to live a while.
    pub(super) lives: bool,
    /// It is not answered at all.
    pub(super) noreply: bool,
    /// It is answered only if something is to be said (meta commands).
    pub(super) quiet: bool,
    /// What its answer repeats (meta commands): opaque token.
    pub(super) token: Option<u64>,
}

/// Whether it may be a key.
fn is_key(word: &[u8]) -> bool {
    (1..=MAX_KEY).contains(&word.len()) && word.iter().all(|b| *b > b' ' && *b != 0x7f)
}

fn number(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn length(word: &[u8]) -> Option<u64> {
    number(word).and_then(|n| u64::try_from(n).ok()).filter(|n| *n <= MAX_DATA)
}

/// A token, for equality.
pub(super) fn token(word: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut h = rustc_hash::FxHasher::default();
    h.write(word);
    h.finish()
}

/// Reads a command's line; `None`: it is none.
pub(super) fn request(line: &[u8]) -> Option<Request> {
    let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty());
    let verb = words.next()?;
    let words: SmallVec<[&[u8]; 8]> = words.collect();
    let of = |verb: &'static str, does: Does| Request {
        verb,
        does,
        keys: SmallVec::new(),
        data: None,
        lives: false,
        noreply: words.last() == Some(&&b"noreply"[..]),
        quiet: false,
        token: None,
    };
    let keys = |from: usize| -> Option<SmallVec<[Vec<u8>; 1]>> {
        let all = words.get(from..).filter(|all| !all.is_empty() && all.iter().all(|k| is_key(k)))?;
        Some(all.iter().take(MAX_KEYS).map(|k| k.to_vec()).collect())
    };
    let one = |n: std::ops::RangeInclusive<usize>, request: Request| {
        let key = words.first().filter(|k| n.contains(&words.len()) && is_key(k))?;
        Some(Request { keys: SmallVec::from_elem(key.to_vec(), 1), ..request })
    };
    let store = |verb, how, more: usize| {
        let (lives, data) = (number(words.get(2)?)? != 0, length(words.get(3)?)?);
        number(words.get(1)?)?;
        let request = Request { lives, data: Some(data), ..of(verb, Does::Store(how)) };
        one(4 + more..=5 + more, request).filter(|r| r.noreply == (words.len() == 5 + more))
    };
    let any = |verb, does| Some(of(verb, does));
    match verb {
        b"get" => Some(Request { keys: keys(0)?, noreply: false, ..of("get", Does::Get) }),
        b"gets" => Some(Request { keys: keys(0)?, noreply: false, ..of("gets", Does::Get) }),
        b"gat" | b"gats" => {
            number(words.first()?)?;
            Some(Request { keys: keys(1)?, noreply: false, ..of("gat", Does::Get) })
        }
        b"set" => store("set", How::Set, 0),
        b"add" => store("add", How::Add, 0),
        b"replace" => store("replace", How::Set, 0),
        b"append" => store("append", How::Grow, 0),
        b"prepend" => store("prepend", How::Grow, 0),
        b"cas" => store("cas", How::Set, 1),
        b"delete" => one(1..=3, of("delete", Does::Delete)),
        b"incr" => one(2..=3, of("incr", Does::Count)),
        b"decr" => one(2..=3, of("decr", Does::Count)),
        b"touch" => one(2..=3, of("touch", Does::Touch)),
        b"mg" | b"ms" | b"md" | b"ma" | b"me" | b"mn" => meta(verb, &words),
        b"stats" => any("stats", Does::Lines),
        b"lru_crawler" => any("lru_crawler", Does::Lines),
        b"version" if words.is_empty() => any("version", Does::Line),
        b"verbosity" => any("verbosity", Does::Line),
        b"flush_all" => any("flush_all", Does::Line),
        b"cache_memlimit" => any("cache_memlimit", Does::Line),
        b"slabs" => any("slabs", Does::Line),
        b"lru" => any("lru", Does::Line),
        b"quit" if words.is_empty() => any("quit", Does::Ends),
        b"watch" => any("watch", Does::Watches),
        _ => None,
    }
}

/// A line that no server takes for a command, but that a client may have typed.
pub(super) fn refused(line: &[u8]) -> Option<Request> {
    let text = line.len() <= MAX_REFUSED && line.iter().all(|b| (b' '..0x7f).contains(b));
    text.then(|| Request {
        verb: "unknown",
        does: Does::Line,
        keys: SmallVec::new(),
        data: None,
        lives: false,
        noreply: false,
        quiet: false,
        token: None,
    })
}

fn meta(verb: &[u8], words: &[&[u8]]) -> Option<Request> {
    let (name, does) = match verb {
        b"mg" => ("mg", Does::MetaGet),
        b"ms" => ("ms", Does::MetaStore(How::Set)),
        b"md" => ("md", Does::MetaDelete),
        b"ma" => ("ma", Does::MetaCount),
        b"me" => ("me", Does::MetaDebug),
        _ => ("mn", Does::MetaNothing),
    };
    let mut out = Request {
        verb: name,
        does,
        keys: SmallVec::new(),
        data: None,
        lives: false,
        noreply: false,
        quiet: false,
        token: None,
    };
    if does == Does::MetaNothing {
        return words.is_empty().then_some(out);
    }
    let (key, mut flags) = words.split_first().filter(|(k, _)| is_key(k))?;
    if let Does::MetaStore(_) = does {
        let (data, rest) = flags.split_first()?;
        out.data = Some(length(data)?);
        flags = rest;
    }
    let mut key = key.to_vec();
    for flag in flags {
        let (&flag, value) = flag.split_first()?;
        match (flag, value) {
            (b'q', _) => out.quiet = true,
            (b'O', token_) => out.token = Some(token(token_)),
            (b'b', _) => key = STANDARD.decode(&key).ok()?,
            (b'T', ttl) => out.lives = number(ttl).is_some_and(|n| n != 0),
            (b'M', [b'E' | b'e' | b'a' | b'p' | b'A' | b'P', ..]) if matches!(does, Does::MetaStore(_)) => {
                let add = value.first().is_some_and(|m| m.eq_ignore_ascii_case(&b'e'));
                out.does = Does::MetaStore(if add { How::Add } else { How::Grow });
            }
            _ => {}
        }
    }
    out.keys.push(key);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_both_protocols() {
        let set = request(b"set k 0 60 5").unwrap();
        assert_eq!((set.data, set.lives, set.noreply), (Some(5), true, false));
        assert!(request(b"set k 0 0 5 noreply").unwrap().noreply && request(b"cas k 0 0 5 7 noreply").unwrap().noreply);
        let get = request(b"gets a b c").unwrap();
        assert_eq!((get.keys.len(), get.does, get.noreply), (3, Does::Get, false));
        let ms = request(b"ms YQ== 3 b T0 q ME O77").unwrap();
        assert_eq!(
            (ms.keys[0].as_slice(), ms.data, ms.quiet, ms.does),
            (&b"a"[..], Some(3), true, Does::MetaStore(How::Add))
        );
        assert_eq!(ms.token, Some(token(b"77")));
        for line in [
            &b"set k 0 0"[..],
            b"set k 0 0 x",
            b"set k 0 0 5 6",
            b"get",
            b"hello",
            b"GET / HTTP/1.1",
            b"mn x",
            b"",
            b"ms k",
            b"get \x01",
        ] {
            assert!(request(line).is_none(), "{}", String::from_utf8_lossy(line));
        }
        let key = [b'k'; 251];
        assert!(
            request(&[b"get ", &key[..250]].concat()).is_some() && request(&[b"get ", &key[..]].concat()).is_none()
        );
    }
}
