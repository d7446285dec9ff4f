//! An HTTP/1.1 connection that goes on in HTTP/2 (`Upgrade: h2c`, RFC 7540 §3.2). The standard of 2022 has dropped it (RFC
//! 9113 §3.1); Java's client and curl still ask for it.

use super::Http;
use super::v2::{self, Http2};
use crate::decode::body::ResponseHead;
use crate::decode::lifecycle::{Conversation, Lifecycle};
use crate::decode::{Chunk, Decoder, Sink};
use crate::model::{Nanos, Protocol, Side};

/// What reads the connection once it has left HTTP/1.1.
pub(super) enum Upgrade {
    /// It has not.
    None,
    /// The protocol on top, as part of this request.
    OnTop(u64),
    /// HTTP/2.
    V2(Box<Lifecycle<Http2>>),
}

impl Upgrade {
    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::None | Self::OnTop(_) => 0,
            Self::V2(next) => next.memory(),
        }
    }
}

/// Whether the server has agreed to it.
pub(super) fn agreed(head: &ResponseHead<'_>) -> bool {
    head.status == 101 && head.header("upgrade").is_some_and(|u| u.eq_ignore_ascii_case("h2c"))
}

impl Http {
    /// The server has agreed: the request that asked for it is answered on the first stream.
    pub(super) fn go_on_in_v2(&mut self, at: Nanos, sink: &mut dyn Sink) {
        let Some(x) = self.open.pop_front() else { return };
        self.give_up(at, sink);
        let semantics = self.semantics.hand_over();
        self.upgrade = Upgrade::V2(Box::new(v2::upgraded(self.life().is_whole(), semantics, x)));
        sink.speaks(Protocol::Http2);
    }

    /// More bytes of what goes on in HTTP/2; false: it does not.
    pub(super) fn next_reads(&mut self, from: Side, at: Nanos, bytes: &[u8], sink: &mut dyn Sink) -> bool {
        let ends_segment = self.life().ends(from);
        let Upgrade::V2(next) = &mut self.upgrade else { return false };
        next.bytes(from, Chunk { at, bytes, ends_segment }, sink);
        true
    }
}
