//! The header of the PROXY protocol, versions 1 and 2, with which a proxy begins a connection and names the client that it
//! speaks for. It may stand before any protocol, TLS included. Source: HAProxy, `doc/proxy-protocol.txt`, section 2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::wire::Reader;

/// What a connection of version 2 begins with: nothing else does.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, with its end.
const MAX_LINE: usize = 107;

/// Client and server as the client knows them.
pub type Named = (SocketAddr, SocketAddr);

/// What the bytes at a connection's beginning are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// So far it may be one.
    NeedMore,
    /// It is none.
    Not,
    /// A header of so many bytes, which may not all be there, and whom it names; nobody: the proxy speaks for itself, or
    /// for somebody without an address.
    Is(usize, Option<Named>),
}

/// Reads the header at the front. `bytes` are all that was said; decides within 232 of them.
pub fn header(bytes: &[u8]) -> Header {
    let begins = |text: &[u8]| text.starts_with(bytes) || bytes.starts_with(text);
    if begins(SIGNATURE) {
        return if bytes.len() < 16 { Header::NeedMore } else { second(bytes) };
    }
    if !begins(b"PROXY ") {
        return Header::Not;
    }
    let line = bytes.get(..MAX_LINE.min(bytes.len())).unwrap_or_default();
    match memchr::memchr(b'\n', line) {
        Some(end) => first(line.get(..end).unwrap_or_default()).map_or(Header::Not, |named| Header::Is(end + 1, named)),
        None if bytes.len() < MAX_LINE => Header::NeedMore,
        None => Header::Not,
    }
}

/// `PROXY TCP4|TCP6 source destination port port`, or `PROXY UNKNOWN …`; `None`: it is none.
fn first(line: &[u8]) -> Option<Option<Named>> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r")?).ok()?;
    let mut words = line.split(' ').skip(1);
    let v4 = match words.next()? {
        "TCP4" => true,
        "TCP6" => false,
        "UNKNOWN" => return Some(None),
        _ => return None,
    };
    let ip = |word: &str| word.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == v4);
    let (from, to) = (ip(words.next()?)?, ip(words.next()?)?);
    let (from_port, to_port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then(|| Some((SocketAddr::new(from, from_port), SocketAddr::new(to, to_port))))
}

/// `signature(12) version and command(1) family(1) length(2)`, then addresses, then whatever else the length covers.
fn second(bytes: &[u8]) -> Header {
    let mut r = Reader::new(bytes.get(SIGNATURE.len()..).unwrap_or_default());
    let (Some(command), Some(family), Some(len)) = (r.u8(), r.u8(), r.u16()) else { return Header::NeedMore };
    if command >> 4 != 2 || command & 15 > 1 {
        return Header::Not;
    }
    let whole = 16 + usize::from(len);
    // The proxy's own connection (a check of health), or a family without addresses of TCP.
    let size = match (command & 15, family) {
        (1, 0x11) => 4,
        (1, 0x21) => 16,
        _ => return Header::Is(whole, None),
    };
    if usize::from(len) < 2 * size + 4 {
        return Header::Not;
    }
    let mut ip = || match size {
        4 => r.array().map(|a: [u8; 4]| IpAddr::V4(Ipv4Addr::from(a))),
        _ => r.array().map(|a: [u8; 16]| IpAddr::V6(Ipv6Addr::from(a))),
    };
    let (Some(from), Some(to)) = (ip(), ip()) else { return Header::NeedMore };
    let (Some(from_port), Some(to_port)) = (r.u16(), r.u16()) else { return Header::NeedMore };
    Header::Is(whole, Some((SocketAddr::new(from, from_port), SocketAddr::new(to, to_port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
    }

    fn named(from: &str, to: &str) -> Option<Named> {
        Some((from.parse().unwrap(), to.parse().unwrap()))
    }

    #[test]
    fn both_versions_and_every_prefix_of_them() {
        let tlv = [&[10, 0, 0, 1, 10, 0, 0, 9, 0x9c, 0x40, 0x15, 0x38][..], b"\x03\0\x04crc!"].concat();
        let six = [&[0; 15][..], &[1], &[0; 15], &[2], &[0, 7, 0, 8]].concat();
        let cases = [
            (b"PROXY TCP4 10.0.0.1 10.0.0.9 40000 5432\r\n".to_vec(), named("10.0.0.1:40000", "10.0.0.9:5432")),
            (b"PROXY TCP6 ::1 ::2 7 8\r\n".to_vec(), named("[::1]:7", "[::2]:8")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN a b c d\r\n".to_vec(), None),
            (v2(0x21, 0x11, &tlv), named("10.0.0.1:40000", "10.0.0.9:5432")),
            (v2(0x21, 0x21, &six), named("[::1]:7", "[::2]:8")),
            (v2(0x20, 0, b""), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ];
        for (bytes, who) in cases {
            let with_more = [&bytes[..], b"GET / HTTP/1.1"].concat();
            assert_eq!(header(&with_more), Header::Is(bytes.len(), who), "{bytes:?}");
            for n in 0..bytes.len() {
                let got = header(&bytes[..n]);
                assert!(matches!(got, Header::NeedMore) || got == Header::Is(bytes.len(), who), "{n}: {got:?}");
            }
        }
    }

    #[test]
    fn what_is_none() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXIED",
            b"PROXY TCP4 ::1 ::2 7 8\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.9 40000\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.9 40000 70000\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.9 1 2 3\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.9 1 2\n",
            b"PROXY SCTP 10.0.0.1 10.0.0.9 1 2\r\n",
            b"\r\n\r\nGET",
        ] {
            assert_eq!(header(bytes), Header::Not, "{bytes:?}");
        }
        assert_eq!(header(&v2(0x31, 0x11, &[0; 12])), Header::Not, "another version");
        assert_eq!(header(&v2(0x21, 0x11, &[0; 11])), Header::Not, "too short for its addresses");
        let line = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!((header(&line[..MAX_LINE - 1]), header(&line[..MAX_LINE])), (Header::NeedMore, Header::Not));
    }
}
