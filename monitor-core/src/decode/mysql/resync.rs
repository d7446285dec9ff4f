//! Whether bytes are commands as a client begins them when it is its turn.

use super::kinds;
use super::query::text;
use crate::decode::wire::Reader;

/// What statements begin with.
const VERBS: &[&str] = &[
    "alter",
    "analyze",
    "begin",
    "call",
    "check",
    "checksum",
    "commit",
    "create",
    "deallocate",
    "delete",
    "desc",
    "describe",
    "do",
    "drop",
    "execute",
    "explain",
    "flush",
    "grant",
    "handler",
    "help",
    "insert",
    "kill",
    "load",
    "lock",
    "optimize",
    "prepare",
    "purge",
    "release",
    "rename",
    "repair",
    "replace",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "select",
    "set",
    "show",
    "start",
    "stop",
    "table",
    "truncate",
    "unlock",
    "update",
    "use",
    "values",
    "with",
    "xa",
];

/// Bytes of a text that are looked at.
const LOOK: usize = 128;

/// What a connection's client says who begins with these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commands {
    /// All of them are whole.
    pub(super) whole: bool,
    /// One of them holds a statement, which no other protocol says in this way.
    pub(super) states: bool,
}

/// The commands that `bytes` begin with, if they are commands; the last may go on.
pub(super) fn commands(bytes: &[u8]) -> Option<Commands> {
    let mut out = Commands { whole: true, states: false };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (&[a, b, c, number], after) = rest.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes([a, b, c, 0]) as usize;
        let (body, after) = after.split_at_checked(len).unwrap_or((after, &[]));
        let (&command, arguments) = body.split_first()?;
        let whole = body.len() == len;
        if number != 0 || !fits(command, arguments, len - 1, whole) {
            return None;
        }
        out.whole &= whole;
        out.states |= matches!(command, kinds::QUERY | kinds::STMT_PREPARE | kinds::STMT_EXECUTE);
        rest = after;
    }
    (!bytes.is_empty() && (out.whole || out.states)).then_some(out)
}

/// Whether a command can have these arguments, of which there are `len` bytes.
fn fits(command: u8, arguments: &[u8], len: usize, whole: bool) -> bool {
    match command {
        kinds::QUERY => text(arguments, None, &mut |_, _| {}).is_some_and(is_statement),
        kinds::STMT_PREPARE => is_statement(arguments),
        kinds::STMT_EXECUTE => {
            let mut r = Reader::new(arguments);
            matches!((r.u32_le(), r.u8(), r.u32_le()), (Some(_), Some(0..=15), Some(1)))
        }
        kinds::INIT_DB => whole && (1..=64).contains(&len) && arguments.iter().all(|b| *b >= b' '),
        kinds::PING | kinds::RESET_CONNECTION | kinds::STATISTICS | kinds::QUIT => whole && len == 0,
        kinds::STMT_CLOSE | kinds::STMT_RESET => whole && len == 4,
        kinds::STMT_FETCH => whole && len == 8,
        kinds::SET_OPTION => whole && len == 2,
        kinds::CHANGE_USER => whole && super::greeting::change_user(arguments).is_some(),
        _ => false,
    }
}

/// Whether a text begins as a statement does.
fn is_statement(text: &[u8]) -> bool {
    let mut rest = text.get(..LOOK.min(text.len())).unwrap_or_default();
    if rest.iter().any(|b| *b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r')) {
        return false;
    }
    loop {
        rest = rest.trim_ascii_start();
        if let Some(comment) = rest.strip_prefix(b"/*") {
            let Some(end) = memchr::memmem::find(comment, b"*/") else { return true };
            // Code in the clothes of a comment is a statement's beginning.
            if comment.starts_with(b"!") {
                return true;
            }
            rest = comment.get(end + 2..).unwrap_or_default();
        } else if let Some(inside) = rest.strip_prefix(b"(") {
            rest = inside;
        } else {
            break;
        }
    }
    let len = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let word = rest.get(..len).unwrap_or_default();
    VERBS.iter().any(|verb| verb.as_bytes().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32).to_le_bytes();
        [&len[..3], &[0], body].concat()
    }

    #[test]
    fn verbs_are_sorted_as_words_are() {
        assert!(VERBS.is_sorted());
    }

    #[test]
    fn what_a_client_says_when_it_is_its_turn() {
        for (body, states) in [
            (&b"\x03SELECT 1"[..], true),
            (b"\x03\0\x01 /* a */ (select 1)", true),
            (b"\x03/*!40101 SET NAMES utf8 */", true),
            (b"\x17\x01\0\0\0\0\x01\0\0\0", true),
            (b"\x0e", false),
            (b"\x02acme", false),
            (b"\x19\x01\0\0\0", false),
            (b"\x11app\0\x02xxshop\0", false),
        ] {
            let bytes = command(body);
            assert_eq!(commands(&bytes), Some(Commands { whole: true, states }), "{body:?}");
            let both = [bytes.clone(), command(b"\x03select 2")].concat();
            assert_eq!(commands(&both), Some(Commands { whole: true, states: true }), "{body:?}");
        }
        let long = command(&[&b"\x03select "[..], &[b'x'; 300]].concat());
        assert_eq!(commands(&long[..100]), Some(Commands { whole: false, states: true }));
    }

    #[test]
    fn what_it_does_not() {
        for bytes in [
            &b""[..],
            b"\x01\0\0\x01\x0e",
            b"\x02\0\0\0\x0e\0",
            b"\x09\0\0\0\x03SELECT\x01",
            b"\x06\0\0\0\x03hello",
            b"\x0a\0\0\0\x17\x01\0\0\0\0\x02\0\0\0",
            b"GET / HTTP/1.1\r\n",
            b"Q\0\0\0\x0dselect 1\0",
        ] {
            assert_eq!(commands(bytes), None, "{bytes:?}");
        }
    }
}
