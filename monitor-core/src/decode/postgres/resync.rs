//! Finding the place again after bytes were missed: only at a quiescent point, and only with convincing structure.
//!
//! A point is quiescent when the server's last segment ended with ReadyForQuery and the client speaks next, in whole
//! messages that end with a segment. Requests that were outstanding when the place was lost are waited for first.

use super::frame::{KEEP, split};
use super::kinds::{client, server};
use crate::decode::wire::Reader;
use crate::model::{Nanos, Side, TxStatus};

/// Most outstanding replies waited for; each needs one exchange.
const MAX_OWED: usize = 64;

/// The server's last word, if it was heard, and the client's whole messages.
pub(super) type Found = (Option<(Nanos, TxStatus)>, Vec<u8>);

/// The search for a place to start.
#[derive(Debug)]
pub(super) struct Search {
    /// The server is waiting for a request.
    ready: Option<(Nanos, TxStatus)>,
    /// ReadyForQuery messages that answer what was asked before the place was lost.
    owed: usize,
    /// The server's last bytes in this segment.
    tail: [u8; 6],
    n_tail: usize,
    /// The client is in the middle of a segment whose beginning does not count.
    client_inside: bool,
    /// The client's segment so far.
    candidate: Vec<u8>,
    /// The connection was joined late, and nothing was heard of the server yet: it may be waiting for what comes.
    joined: bool,
}

impl Search {
    /// Starts; `owed` replies are outstanding, `client_inside`: the client's last bytes did not end a segment.
    pub(super) fn new(owed: usize, client_inside: bool) -> Self {
        Self {
            ready: None,
            owed: owed.min(MAX_OWED),
            tail: [0; 6],
            n_tail: 0,
            client_inside,
            candidate: Vec::new(),
            joined: false,
        }
    }

    /// Starts on a connection that was joined late.
    pub(super) fn joined() -> Self {
        Self { joined: true, ..Self::new(0, false) }
    }

    /// Bytes from the server.
    pub(super) fn server(&mut self, at: Nanos, bytes: &[u8], ends_segment: bool) {
        self.ready = None;
        self.joined = false;
        if !self.candidate.is_empty() {
            self.candidate = Vec::new();
            self.client_inside = true;
        }
        for &b in bytes.get(bytes.len().saturating_sub(6)..).unwrap_or_default() {
            self.tail.rotate_left(1);
            self.tail[5] = b;
            self.n_tail = (self.n_tail + 1).min(6);
        }
        if ends_segment {
            if let (6, [server::READY_FOR_QUERY, 0, 0, 0, 5, status]) = (self.n_tail, self.tail) {
                self.owed = self.owed.saturating_sub(1);
                if let (Some(status), 0) = (tx_status(status), self.owed) {
                    self.ready = Some((at, status));
                }
            }
            self.n_tail = 0;
        }
    }

    /// Bytes from the client. Gives the server's last word and the client's whole messages once both are convincing; of a
    /// connection that was joined late, the first messages even without that word.
    pub(super) fn client(&mut self, bytes: &[u8], ends_segment: bool) -> Option<Found> {
        let inside = std::mem::replace(&mut self.client_inside, !ends_segment);
        let ready = self.ready;
        if ready.is_none() && !self.joined {
            return None;
        }
        if inside && self.candidate.is_empty() {
            return None;
        }
        if self.candidate.len() + bytes.len() > KEEP {
            self.candidate = Vec::new();
            self.ready = None;
            self.joined = false;
            return None;
        }
        self.candidate.extend_from_slice(bytes);
        if !ends_segment {
            return None;
        }
        let whole = std::mem::take(&mut self.candidate);
        self.ready = None;
        self.joined = false;
        requests(&whole).then_some((ready, whole))
    }

    /// More is missing.
    pub(super) fn missing(&mut self, from: Side) {
        self.ready = None;
        self.joined = false;
        self.candidate = Vec::new();
        match from {
            Side::Server => self.n_tail = 0,
            // The next bytes begin a segment: a cut segment is cut at its end, a lost one is lost whole.
            Side::Client => self.client_inside = false,
        }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.candidate.capacity()
    }
}

/// The status byte of ReadyForQuery.
pub(super) fn tx_status(byte: u8) -> Option<TxStatus> {
    match byte {
        b'I' => Some(TxStatus::Idle),
        b'T' => Some(TxStatus::Open),
        b'E' => Some(TxStatus::Failed),
        _ => None,
    }
}

/// Whether `bytes` are whole messages that a client sends when it is its turn, with at least one that asks.
pub(crate) fn requests(bytes: &[u8]) -> bool {
    let Some(messages) = split(Side::Client, bytes) else { return false };
    messages.iter().all(|(kind, body)| request_is_well_formed(*kind, body))
        && messages.iter().any(|(kind, _)| {
            matches!(*kind, client::QUERY | client::PARSE | client::BIND | client::EXECUTE | client::FUNCTION_CALL)
        })
}

fn request_is_well_formed(kind: u8, body: &[u8]) -> bool {
    let mut rest = Reader::new(body);
    match kind {
        client::QUERY => rest.cstr().is_some_and(is_text) && rest.is_empty(),
        client::PARSE => {
            rest.cstr().is_some_and(is_text)
                && rest.cstr().is_some_and(is_text)
                && rest.u16().is_some_and(|n_types| rest.len() == 4 * usize::from(n_types))
        }
        client::BIND => rest.cstr().is_some_and(is_text) && rest.cstr().is_some_and(is_text) && rest.len() >= 6,
        client::EXECUTE => rest.cstr().is_some_and(is_text) && rest.len() == 4,
        client::DESCRIBE | client::CLOSE => {
            matches!(body, [b'S' | b'P', name @ ..] if matches!(name.split_last(), Some((0, n)) if !n.contains(&0)))
        }
        client::SYNC | client::FLUSH | client::TERMINATE | client::FUNCTION_CALL => true,
        // A client in the middle of COPY or of authentication is not at a quiescent point.
        _ => false,
    }
}

/// SQL or a name: no control characters but white space.
fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r' | 0x0c))
}

/// Whether `bytes` are whole messages from a server that end with ReadyForQuery.
pub(crate) fn replies(bytes: &[u8]) -> bool {
    let Some(messages) = split(Side::Server, bytes) else { return false };
    matches!(messages.last(), Some((server::READY_FOR_QUERY, [status])) if tx_status(*status).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";
    const READY: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05T";

    #[test]
    fn a_place_is_found_after_ready_and_a_whole_request() {
        let mut search = Search::new(0, false);
        assert!(search.client(QUERY, true).is_none(), "nothing is known to be outstanding or not");
        search.server(Nanos(7), READY, true);
        let found = search.client(QUERY, true).unwrap();
        assert_eq!(found, (Some((Nanos(7), TxStatus::Open)), QUERY.to_vec()));
        let mut search = Search::joined();
        assert_eq!(search.client(QUERY, true), Some((None, QUERY.to_vec())), "nobody was heard before");
        assert!(search.client(QUERY, true).is_none(), "only once");
    }

    #[test]
    fn split_bytes_find_the_same_place() {
        let mut search = Search::new(0, false);
        for (i, b) in READY.iter().enumerate() {
            search.server(Nanos(7), &[*b], i + 1 == READY.len());
        }
        let mut found = None;
        for (i, b) in QUERY.iter().enumerate() {
            assert!(found.is_none());
            found = search.client(&[*b], i + 1 == QUERY.len());
        }
        assert!(found.is_some());
    }

    #[test]
    fn no_place_is_found_where_one_could_be_wrong() {
        // A reply to something asked before is outstanding.
        let mut search = Search::new(2, false);
        search.server(Nanos(1), READY, true);
        assert!(search.client(QUERY, true).is_none());
        search.server(Nanos(1), READY, true);
        assert!(search.client(QUERY, true).is_some());
        // The client began its segment before the server was done.
        let mut search = Search::new(0, false);
        assert!(search.client(&QUERY[..3], false).is_none());
        search.server(Nanos(1), READY, true);
        assert!(search.client(&QUERY[3..], true).is_none());
        // The server went on after ReadyForQuery; or ReadyForQuery is not at a segment's end.
        let mut search = Search::new(0, false);
        search.server(Nanos(1), READY, true);
        search.server(Nanos(1), b"D", true);
        assert!(search.client(QUERY, true).is_none());
        search.server(Nanos(1), READY, false);
        assert!(search.client(QUERY, true).is_none());
        // The client's bytes are the middle of something.
        search.server(Nanos(1), READY, true);
        assert!(search.client(b"elect 1\0", true).is_none());
    }
}
