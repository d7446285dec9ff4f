//! What all channels of a connection share: numbers of requests, names, and how much is held.

use crate::decode::Sink;
use crate::decode::lifecycle::Life;
use crate::decode::message::MAX_LOOKED_INTO;
use crate::model::claim::Salt;
use crate::model::queue::Message;
use crate::model::{Fingerprint, Nanos, TxStatus};

/// Most messages in the making at once, over all channels and both directions.
const MAX_DRAFTS: usize = 24;
/// Bytes that one of them holds at most.
const DRAFT: usize = MAX_LOOKED_INTO + (1 << 10);

/// Shared by the channels of one connection.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) salt: Salt,
    /// The virtual host. Of a connection that was not seen from its start: the one that brokers begin with.
    pub(super) vhost: Vec<u8>,
    /// Where the connection is.
    pub(super) life: Life,
    latest: u64,
    /// Requests begun and not answered.
    n_open: usize,
    pub(super) n_drafts: usize,
    pub(super) n_pending: usize,
    pub(super) n_waiting: usize,
    pub(super) n_unacked: usize,
    pub(super) n_consumers: usize,
}

impl Core {
    /// For a connection that is new, or not.
    pub(super) fn new(salt: Salt, mid_stream: bool) -> Self {
        Self {
            salt,
            vhost: b"/".to_vec(),
            life: Life::new(mid_stream),
            latest: 0,
            n_open: 0,
            n_drafts: 0,
            n_pending: 0,
            n_waiting: 0,
            n_unacked: 0,
            n_consumers: 0,
        }
    }

    /// A request is complete; its number.
    pub(super) fn begin(&mut self, at: Nanos, print: Option<Fingerprint>, sink: &mut dyn Sink) -> u64 {
        self.latest += 1;
        self.n_open += 1;
        sink.begun(self.latest, at, print);
        self.latest
    }

    /// A request has been answered, or never will be; its operation was told.
    pub(super) fn end(&mut self, request: u64, at: Nanos, sink: &mut dyn Sink) {
        self.n_open = self.n_open.saturating_sub(1);
        sink.answered(request, at, None);
    }

    /// Whether any request is outstanding.
    pub(super) fn is_asked(&self) -> bool {
        self.n_open > 0
    }

    /// Nothing may be outstanding now.
    pub(super) fn rest(&self, at: Nanos, sink: &mut dyn Sink) {
        if self.n_open == 0 {
            sink.status(at, TxStatus::Idle);
        }
    }

    /// Bytes held, as far as they are counted for the whole connection.
    pub(super) fn memory(&self) -> usize {
        self.vhost.capacity() + self.n_drafts * DRAFT + self.n_waiting * size_of::<Message>()
    }

    /// Makes room for one more message to be put together. False: there is none.
    pub(super) fn reserve_draft(&mut self) -> bool {
        let may = self.n_drafts < MAX_DRAFTS;
        self.n_drafts += usize::from(may);
        may
    }
}
