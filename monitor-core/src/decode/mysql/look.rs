//! Do these bytes belong to a connection of MySQL or MariaDB, and who says them?

use super::answer::{AUTOCOMMIT, IN_TRANSACTION, error};
use super::compressed::first;
use super::greeting::{Response, greeting, response};
use super::resync::commands;
use crate::decode::Decoder;
use crate::decode::infer::{Look, Recognise, Shared};
use crate::model::claim::Salt;
use crate::model::{Protocol, Side};

/// What MySQL is recognised by.
pub(crate) struct Known;

/// Bytes of a statement's beginning that are convincing.
const ENOUGH: usize = 32;
/// Longest greeting.
const MAX_GREETING: usize = 512;

impl Recognise for Known {
    fn protocol(&self) -> Protocol {
        Protocol::MySql
    }

    /// The server speaks first.
    fn starts(&self, bytes: &[u8]) -> Look {
        // The number of the first packet, and the version of the protocol or an error.
        let so_far = match bytes {
            [len, high, 0, 0, 10 | 0xff, ..] => usize::from(*len) | usize::from(*high) << 8,
            [_, 0 | 1, 0, 0] | [_, 0 | 1, 0] | [_, 0 | 1] => return Look::NeedMore,
            _ => return if self.begins(bytes) { Look::Is(Side::Client) } else { Look::Not },
        };
        let body = bytes.get(4..).unwrap_or_default();
        match body.get(..so_far) {
            Some(whole) if body.len() == so_far && (greeting(whole).is_some() || refuses(whole)) => {
                Look::Is(Side::Server)
            }
            None if so_far <= MAX_GREETING => Look::NeedMore,
            _ => Look::Not,
        }
    }

    /// A statement longer than what is seen of it.
    fn joins(&self, bytes: &[u8]) -> Look {
        let told = commands(bytes).is_some_and(|c| !c.whole && c.states && bytes.len() >= ENOUGH);
        if told { Look::Is(Side::Client) } else { Look::Not }
    }

    fn whole(&self, bytes: &[u8]) -> Option<Side> {
        let states = |bytes: &[u8]| commands(bytes).is_some_and(|c| c.whole && c.states);
        (states(bytes) || first(bytes).is_some_and(|plain| states(&plain))).then_some(Side::Client)
    }

    /// A ping or the like says too little, unless it is answered as such.
    fn confirms(&self, asked: &[u8], answer: &[u8]) -> bool {
        commands(asked).is_some_and(|c| c.whole) && accepts(answer)
    }

    fn side(&self, bytes: &[u8]) -> Option<Side> {
        if commands(bytes).is_some() { Some(Side::Client) } else { accepts(bytes).then_some(Side::Server) }
    }

    /// The answer to the greeting.
    fn begins(&self, bytes: &[u8]) -> bool {
        let Some((&[a, b, c, 1], body)) = bytes.split_first_chunk::<4>() else { return false };
        let len = u32::from_le_bytes([a, b, c, 0]) as usize;
        len == body.len()
            && body.get(9..28).is_some_and(|reserved| reserved.iter().all(|b| *b == 0))
            && matches!(response(body), Some(Response::Login { .. } | Response::Encrypt))
    }

    fn decoder(&self, salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
        super::decoder(salt, mid_stream, &shared.mysql)
    }
}

/// Whether a server answers so, with one OK packet and nothing else, what takes one packet to ask.
fn accepts(bytes: &[u8]) -> bool {
    matches!(bytes, [len, 0, 0, 1, 0, 0, 0, status, 0..=0x7f, _, _, ..]
        if usize::from(*len) + 4 == bytes.len() && status & (AUTOCOMMIT | IN_TRANSACTION) as u8 != 0)
}

/// Whether a server says so that it takes no connection (`1040`, `1129`, `1130`, `1203` and the like).
fn refuses(body: &[u8]) -> bool {
    let text = body.get(3..).unwrap_or_default();
    error(body).is_some_and(|code| (1000..5000).contains(&code))
        && text.len() > 8
        && text.iter().all(|b| (0x20..0x7f).contains(b))
}

#[cfg(test)]
mod tests {
    use super::super::capabilities::{CONNECT_WITH_DB, PROTOCOL_41, SECURE_CONNECTION, SSL};
    use super::super::greeting::tests::{greet, log_in};
    use super::*;

    fn packet(number: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32).to_le_bytes();
        [&len[..3], &[number], body].concat()
    }

    #[test]
    fn the_greeting_and_its_answer_are_known_and_their_prefixes_are_waited_for() {
        let flags = PROTOCOL_41 | SECURE_CONNECTION | CONNECT_WITH_DB;
        let greeting = packet(0, &greet(flags));
        assert_eq!(Known.starts(&greeting), Look::Is(Side::Server));
        for n in 2..greeting.len() {
            assert_eq!(Known.starts(&greeting[..n]), Look::NeedMore, "{n}");
        }
        assert_eq!(Known.starts(&packet(0, b"\xff\x10\x04Too many connections")), Look::Is(Side::Server));
        let answer = packet(1, &log_in(flags, "app", "shop"));
        assert!(Known.begins(&answer) && Known.starts(&answer) == Look::Is(Side::Client));
        assert!(Known.begins(&packet(1, &log_in(flags | SSL, "", "")[..32])));
        assert!(!Known.begins(&packet(2, &log_in(flags, "app", "shop"))) && !Known.begins(&answer[1..]));
    }

    #[test]
    fn statements_tell_in_the_middle_and_nothing_shorter() {
        assert_eq!(Known.whole(&packet(0, b"\x03SELECT 1")), Some(Side::Client));
        for bytes in [packet(0, b"\x0e"), packet(1, b"\x03SELECT 1"), packet(0, b"\x03SELECT 1")[..9].to_vec()] {
            assert_eq!((Known.whole(&bytes), Known.joins(&bytes)), (None, Look::Not), "{bytes:?}");
        }
        let (ping, ok) = (packet(0, b"\x0e"), packet(1, b"\0\0\0\x02\0\0\0"));
        assert!(Known.confirms(&ping, &ok) && !Known.confirms(&ok, &ping) && !Known.confirms(&ping, &ping));
        assert_eq!((Known.side(&ping), Known.side(&ok)), (Some(Side::Client), Some(Side::Server)));
        let long = packet(0, &[&b"\x03SELECT "[..], &[b'x'; 300]].concat());
        assert_eq!((Known.joins(&long[..32]), Known.joins(&long[..31])), (Look::Is(Side::Client), Look::Not));
        let packed = [&b"\x0d\0\0\0\0\0\0"[..], &packet(0, b"\x03SELECT 1")].concat();
        assert_eq!((Known.whole(&packed), Known.whole(&packed[..19])), (Some(Side::Client), None));
    }
}
