//! Streams: each is one request and its answer, whatever else is on its way at the same time (RFC 9113 §5).

use super::frame::{self, Head};
use super::{Http2, MAX_STREAMS, head};
use crate::decode::http::exchange::Exchange;
use crate::decode::http::semantics::{Content, Of};
use crate::decode::{DecodeError, Sink};
use crate::model::{Nanos, Outcome, Side, Sides};

/// One request.
#[derive(Debug)]
pub(super) struct Stream {
    x: Exchange,
    says: Sides<Content>,
    /// The head of its final answer was there.
    headed: bool,
    /// If it is accepted, what follows is another protocol.
    tunnel: bool,
}

impl Stream {
    fn of(&self) -> Of {
        (self.x.number, self.x.read_on_top)
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.says.iter().map(Content::memory).sum()
    }
}

impl Http2 {
    /// A request that was made in HTTP/1.1 is answered on the first stream (RFC 7540 §3.2).
    pub(super) fn upgraded_from(&mut self, x: Exchange) {
        let says = Sides::of(|_| Content::new(self.semantics.salt));
        self.newest = 1;
        self.streams.insert(1, Stream { x, says, headed: false, tunnel: false });
    }

    /// A header block is whole, and read into `self.fields`.
    pub(super) fn block(&mut self, from: Side, stream: u32, ends: bool, at: Nanos, sink: &mut dyn Sink) {
        if self.fields.is_partial() {
            sink.missed(at);
        }
        match (from, self.streams.contains_key(&stream)) {
            (Side::Client, true) => {
                self.trailers(from, stream, at, sink);
                if ends {
                    self.sent(stream, at, sink);
                }
            }
            (Side::Client, false) if stream % 2 == 1 && stream > self.newest => self.request(stream, ends, at, sink),
            (Side::Server, true) => self.answer(stream, ends, at, sink),
            (Side::Server, false) if stream % 2 == 1 && stream > self.newest && self.life.is_whole() => {
                sink.decode_error(DecodeError::UnsolicitedResponse);
                sink.unmatched_reply(at, "a response on a stream that no request has opened");
            }
            // Of a stream that is over, that was not seen to begin, or that the server has begun.
            _ => {}
        }
    }

    fn request(&mut self, id: u32, ends: bool, at: Nanos, sink: &mut dyn Sink) {
        self.newest = id;
        let mut says = Sides::of(|_| Content::new(self.semantics.salt));
        let semantics = &mut self.semantics;
        let (mut x, tunnel) = head::request(&self.fields, |head, tunnel| {
            let x = semantics.request(head, &mut says.client, at, sink);
            if head.partial {
                says.client.text.miss();
            }
            (x, tunnel)
        });
        if self.streams.len() >= MAX_STREAMS {
            // What is not remembered is as good as unanswered.
            sink.decode_error(DecodeError::TooManyRequests);
            return semantics.give_up(x, Outcome::Unknown, at, sink);
        }
        if ends {
            semantics.sent(&mut x, &mut says.client, at, sink);
        }
        self.streams.insert(id, Stream { x, says, headed: false, tunnel });
    }

    fn answer(&mut self, id: u32, ends: bool, at: Nanos, sink: &mut dyn Sink) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.headed {
            self.trailers(Side::Server, id, at, sink);
            if ends {
                self.ended(id, at, sink);
            }
            return;
        }
        let semantics = &mut self.semantics;
        let accepted = head::response(&self.fields, |head| {
            if (100..200).contains(&head.status) && !ends {
                return false;
            }
            let Stream { x, says, .. } = stream;
            stream.headed = true;
            semantics.response(x, head, at, sink);
            semantics.response_body(x, head, &mut says.server, sink);
            if head.partial {
                // What caches may do with it may be among what is not known.
                x.caching = None;
                says.server.text.miss();
            }
            if ends {
                // There are no trailers where there is nothing between them and the head.
                semantics.trailers(stream.of(), Side::Server, head.headers, at, sink);
            }
            stream.tunnel && (200..300).contains(&head.status)
        });
        if ends || accepted {
            self.ended(id, at, sink);
        }
    }

    fn trailers(&mut self, from: Side, id: u32, at: Nanos, sink: &mut dyn Sink) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (semantics, of) = (&mut self.semantics, stream.of());
        head::trailers(&self.fields, |headers| semantics.trailers(of, from, headers, at, sink));
    }

    /// A piece of a body.
    pub(super) fn data(&mut self, from: Side, id: u32, bytes: &[u8], at: Nanos, sink: &mut dyn Sink) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let of = stream.of();
        self.semantics.piece(of, from, &mut stream.says[from], bytes, at, sink);
    }

    /// `n` bytes of a body are missing.
    pub(super) fn data_missing(&mut self, from: Side, id: u32, n: u64, at: Nanos, sink: &mut dyn Sink) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let of = stream.of();
        stream.says[from].miss();
        self.semantics.missing(Some(of), from, n, at, sink);
    }

    /// A frame of a body has ended.
    pub(super) fn data_end(&mut self, from: Side, head: Head, at: Nanos, sink: &mut dyn Sink) {
        if !head.has(frame::END_STREAM) {
            return;
        }
        match from {
            Side::Client => self.sent(head.stream, at, sink),
            Side::Server => self.ended(head.stream, at, sink),
        }
    }

    /// The client has said all on a stream.
    fn sent(&mut self, id: u32, at: Nanos, sink: &mut dyn Sink) {
        let Some(stream) = self.streams.get_mut(&id).filter(|s| s.x.sent.is_none()) else { return };
        let (semantics, of) = (&mut self.semantics, stream.of());
        semantics.body_ended(Some(of), Side::Client, &mut stream.says.client, sink);
        semantics.sent(&mut stream.x, &mut stream.says.client, at, sink);
    }

    /// The server has.
    fn ended(&mut self, id: u32, at: Nanos, sink: &mut dyn Sink) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        let of = stream.of();
        self.life.sound();
        self.semantics.body_ended(Some(of), Side::Server, &mut stream.says.server, sink);
        self.semantics.ended(stream.x, &mut stream.says.server, false, at, sink);
    }

    /// A stream was broken off.
    pub(super) fn reset(&mut self, from: Side, id: u32, at: Nanos, sink: &mut dyn Sink) {
        let Some(stream) = self.streams.remove(&id) else { return };
        // A server that breaks it off before it has answered refuses it.
        let refused = from == Side::Server && !stream.headed;
        let outcome = if refused { Outcome::Error } else { Outcome::Unknown };
        self.semantics.give_up(stream.x, outcome, at, sink);
    }

    /// The server will do nothing about streams above `last` (RFC 9113 §6.8).
    pub(super) fn go_away(&mut self, last: u32, at: Nanos, sink: &mut dyn Sink) {
        for (_, stream) in self.streams.split_off(&last.saturating_add(1)) {
            self.semantics.give_up(stream.x, Outcome::Error, at, sink);
        }
    }

    /// Who still waits will not be told.
    pub(super) fn give_up_all(&mut self, at: Nanos, sink: &mut dyn Sink) {
        for (_, stream) in std::mem::take(&mut self.streams) {
            self.semantics.give_up(stream.x, Outcome::Unknown, at, sink);
        }
    }
}
