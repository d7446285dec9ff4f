//! Requests and their answers: what begins one, what ends it, and what becomes of it when the thread is lost.

use super::caching::caching;
use super::coding::Coding;
use super::direction::Read;
use super::exchange::Exchange;
use super::framing::Framing;
use super::{Direction, Http, MAX_MALFORMED, MAX_OPEN};
use crate::decode::body::{RequestHead, ResponseHead};
use crate::decode::{DecodeError, Disturbance, Sink};
use crate::model::{Nanos, Side, TxStatus};

impl Http {
    pub(super) fn request(
        &mut self,
        head: &RequestHead<'_>,
        framing: Result<Framing, DecodeError>,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), DecodeError> {
        if self.open.len() >= MAX_OPEN {
            return Err(DecodeError::TooManyRequests);
        }
        self.latest += 1;
        sink.arrived(self.latest, at);
        let mut x = Exchange::begin(self.latest, head, &self.shared, self.salt, at, sink);
        if let Some(reader) = self.reader.as_deref_mut() {
            x.read_on_top = reader.request(x.number, head, at, sink);
            reader.carries(x.number, x.credential());
        }
        self.client.text.begin(head.headers, sink.wants_values(Side::Client));
        self.client.text.print(head.method.as_bytes());
        self.client.text.print(head.target.as_bytes());
        self.client.coding = self.encoded(Side::Client, head.headers, x.read_on_top);
        self.open.push_back(x);
        self.sending = true;
        self.pipelined |= self.open.len() > 1;
        self.expects = head.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        match framing? {
            // Nobody can tell where such a body ends (RFC 9112 §6.3).
            Framing::Unending => return Err(DecodeError::TransferEncoding),
            framing => match Read::after_head(framing, false) {
                Some(read) => self.client.read = read,
                None => self.end(Side::Client, at, sink),
            },
        }
        Ok(())
    }

    /// `framing`: where the answer ends; `None`: nobody can tell.
    pub(super) fn response(
        &mut self,
        head: &ResponseHead<'_>,
        framing: Option<Framing>,
        at: Nanos,
        sink: &mut dyn Sink,
    ) {
        let status = head.status;
        if (100..200).contains(&status) && status != 101 {
            return;
        }
        let Some(x) = self.open.front_mut() else {
            // A server may refuse a head before it is whole, and close an idle connection with an error (RFC 9110
            // §15.5.9).
            if status < 400 && !self.whole {
                // One request more was outstanding than was seen: the client pipelines.
                self.pipelined = true;
                self.lose(at, Disturbance::Gap, sink);
                return;
            }
            if status < 400 {
                sink.decode_error(DecodeError::UnsolicitedResponse.name());
                sink.unmatched_reply(at, "a response that no request waits for");
            }
            self.server.text.begin(head.headers, false);
            let none = status == 204 || status == 304;
            match framing.filter(|_| !none).map(|framing| Read::after_head(framing, true)) {
                Some(Some(read)) => {
                    self.server.read = read;
                    self.stray = true;
                }
                None if !none => self.lose_answers(at, sink),
                _ => {}
            }
            return;
        };
        self.unsure = false;
        x.answered(head, self.salt);
        if let Some(reader) = self.reader.as_deref_mut().filter(|_| x.read_on_top) {
            reader.response(x.number, head, at, sink);
        }
        if status == 101 || (x.is_connect && (200..300).contains(&status)) {
            let reader = self.reader.as_deref_mut().filter(|_| status == 101 && x.read_on_top);
            let kept = reader.is_some_and(|r| r.upgraded(x.number, head));
            self.upgraded = kept.then_some(x.number);
            self.server.text.begin(head.headers, false);
            self.server.text.print(&status.to_be_bytes());
            self.end(Side::Server, at, sink);
            if kept {
                (self.client.read, self.server.read) = (Read::Raw, Read::Raw);
                return;
            }
            self.leave(at, if status == 101 { "upgraded" } else { "tunnel" }, sink);
            return;
        }
        self.server.text.begin(head.headers, sink.wants_values(Side::Server));
        self.server.text.print(&status.to_be_bytes());
        if sink.wants_cached() {
            x.caching = Some(caching(head.headers, self.salt));
            self.server.text.note_body();
        }
        let on_top = x.read_on_top;
        self.server.coding = self.encoded(Side::Server, head.headers, on_top);
        let Some(x) = self.open.front() else { return };
        let none = x.is_head || status == 204 || status == 304;
        let Some(framing) = framing.or(none.then_some(Framing::None)) else {
            // How it was answered is known, and what with is not.
            let (number, on_top) = (x.number, x.read_on_top);
            self.server.text.miss();
            if let Some(reader) = self.reader.as_deref_mut().filter(|_| on_top) {
                reader.missing(number, Side::Server, 1, at, sink);
            }
            self.end(Side::Server, at, sink);
            sink.decode_error(DecodeError::ContentLength.name());
            self.lose_answers(at, sink);
            return;
        };
        match Read::after_head(framing, true).filter(|_| !none) {
            Some(read) => self.server.read = read,
            None => self.end(Side::Server, at, sink),
        }
    }

    /// A piece of a body.
    pub(super) fn piece(&mut self, from: Side, at: Nanos, bytes: &[u8], sink: &mut dyn Sink) {
        if from == Side::Client {
            self.expects = false;
        }
        let Some((number, on_top)) = self.current(from) else { return };
        let mut reader = self.reader.as_deref_mut().filter(|_| on_top);
        if self.upgraded.is_some() {
            if let Some(reader) = reader {
                reader.bytes(number, from, bytes, at, sink);
            }
            return;
        }
        let Direction { text, coding, credit, .. } =
            if from == Side::Client { &mut self.client } else { &mut self.server };
        text.sent(bytes);
        if !text.wants_more() && !reader.as_deref().is_some_and(|r| r.wants(number, from)) {
            coding.leave();
        }
        let read = coding.feed(bytes, credit, &mut |plain| {
            if let Some(reader) = reader.as_deref_mut() {
                reader.bytes(number, from, plain, at, sink);
            }
            text.feed(number, from, plain, sink);
        });
        if let Err(why) = read {
            self.left_unread(from, why, sink);
        }
    }

    /// What is left of the body cannot be read.
    fn left_unread(&mut self, from: Side, why: DecodeError, sink: &mut dyn Sink) {
        self.direction(from).text.unread();
        if let (Some((number, true)), Some(reader)) = (self.current(from), self.reader.as_deref_mut()) {
            reader.unread(number, from);
        }
        sink.decode_error(why.name());
    }

    /// How a body is encoded, if anybody reads it. `on_top`: a protocol on top may.
    fn encoded(&self, from: Side, headers: &[httparse::Header<'_>], on_top: bool) -> Coding {
        let text = if from == Side::Client { &self.client.text } else { &self.server.text };
        match Coding::of(headers, &self.shared.unpacking) {
            Coding::Encoded(_) | Coding::Refused(_) if !on_top && !text.wants_more() => Coding::Over,
            coding => coding,
        }
    }

    /// A message has ended.
    pub(super) fn end(&mut self, from: Side, at: Nanos, sink: &mut dyn Sink) {
        let d = self.direction(from);
        d.read = Read::Head;
        if let Err(why) = std::mem::take(&mut d.coding).end() {
            self.left_unread(from, why, sink);
        }
        if from == Side::Client {
            self.sent(at, sink);
            return;
        }
        if std::mem::take(&mut self.stray) {
            return;
        }
        let Some(mut x) = self.open.pop_front() else { return };
        self.n_malformed = 0;
        // Answered before all of it was sent: then it is as good as sent.
        if x.sent.is_none() {
            x.sent = Some(at);
            self.sending = false;
            sink.begun(x.number, at, None);
        }
        // What follows an upgrade ends with the connection.
        if let Some(reader) = self.reader.as_deref_mut().filter(|_| x.read_on_top && self.upgraded.is_none()) {
            reader.end(x.number, Side::Server, at, sink);
        }
        if let Some(cached) = x.cached(at, self.server.text.body()) {
            sink.cached(cached);
        }
        let print = self.server.text.end(x.number, Side::Server, sink);
        let outcome = x.outcome();
        self.finish(&mut x, at, outcome, sink);
        sink.answered(x.number, at, print);
        if self.open.is_empty() {
            sink.status(at, TxStatus::Idle);
        }
    }

    /// The latest request is whole.
    pub(super) fn sent(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if !std::mem::replace(&mut self.sending, false) {
            return;
        }
        let Some(x) = self.open.back_mut() else { return };
        x.sent = Some(at);
        let number = x.number;
        if let Some(reader) = self.reader.as_deref_mut().filter(|_| x.read_on_top) {
            reader.end(number, Side::Client, at, sink);
        }
        let print = self.client.text.end(number, Side::Client, sink);
        sink.begun(number, at, print);
    }

    pub(super) fn finish(&mut self, x: &mut Exchange, at: Nanos, outcome: crate::model::Outcome, sink: &mut dyn Sink) {
        // An operation of its own, and first: this very request is already served as whom it authenticates.
        if let Some(handshake) = x.authentication(at, outcome, sink) {
            sink.done(&handshake);
        }
        let op = x.operation(at, outcome);
        if let Some(cookies) = x.take_cookies() {
            sink.cookies(x.number, cookies);
        }
        match self.reader.as_deref_mut().filter(|_| x.read_on_top) {
            Some(reader) => reader.done(x.number, op, sink),
            None => sink.done(&op),
        }
    }

    /// Who still waits will not be told.
    pub(super) fn give_up(&mut self, at: Nanos, sink: &mut dyn Sink) {
        while let Some(mut x) = self.open.pop_front() {
            if x.sent.is_none() {
                sink.begun(x.number, at, None);
            }
            self.finish(&mut x, at, crate::model::Outcome::Unknown, sink);
            sink.answered(x.number, at, None);
        }
        self.sending = false;
    }

    /// The place is lost, in both directions: which answer belongs to which request is not known from here on, whichever
    /// side it was lost on.
    pub(super) fn lose(&mut self, at: Nanos, why: Disturbance, sink: &mut dyn Sink) {
        self.whole = false;
        (self.stray, self.unsure, self.expects) = (false, false, false);
        for d in [&mut self.client, &mut self.server] {
            d.read = Read::Lost;
            d.held = Vec::new();
        }
        // First, so that nobody takes the end of what is given up for an answer that was passed on.
        sink.disturbed(at, why);
        self.give_up(at, sink);
    }

    /// The server's side alone is lost: the client's goes on, and each of its requests is an operation. Which of them is
    /// answered when is not known until nothing is outstanding.
    pub(super) fn lose_answers(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.whole = false;
        (self.stray, self.unsure) = (false, false);
        self.server.read = Read::Lost;
        self.server.held = Vec::new();
        sink.disturbed(at, Disturbance::Malformed);
        self.give_up(at, sink);
    }

    /// A client that does not pipeline sends its next request when it has read the answer to the one before: a segment
    /// that begins with a request line is a place where nothing is outstanding.
    pub(super) fn found(&mut self, at: Nanos, sink: &mut dyn Sink) {
        (self.client.read, self.server.read) = (Read::Head, Read::Head);
        self.unsure = true;
        sink.status(at, TxStatus::Idle);
    }

    /// Nothing more will be read.
    pub(super) fn leave(&mut self, at: Nanos, why: &'static str, sink: &mut dyn Sink) {
        self.give_up(at, sink);
        self.over = true;
        (self.client.held, self.server.held) = (Vec::new(), Vec::new());
        sink.opaque(at, why);
    }

    /// What should be a head cannot be read. From a client it may be a request all the same, as its server reads it;
    /// `latest`: the number of the one before.
    pub(super) fn no_head(&mut self, from: Side, latest: u64, at: Nanos, kind: DecodeError, sink: &mut dyn Sink) {
        if from == Side::Client && self.latest == latest {
            self.latest += 1;
            sink.arrived(self.latest, at);
            self.open.push_back(Exchange::unread(self.latest, at, sink));
        }
        self.malformed(from, at, kind, sink);
    }

    pub(super) fn malformed(&mut self, from: Side, at: Nanos, kind: DecodeError, sink: &mut dyn Sink) {
        if self.unsure && from == Side::Server {
            // It was not the place after all.
            self.lose(at, Disturbance::Gap, sink);
            return;
        }
        sink.decode_error(kind.name());
        self.n_malformed += 1;
        if self.n_malformed >= MAX_MALFORMED {
            self.leave(at, "malformed", sink);
        } else if from == Side::Server {
            self.lose_answers(at, sink);
        } else {
            self.lose(at, Disturbance::Malformed, sink);
        }
    }

    pub(super) fn announce(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if std::mem::take(&mut self.unannounced) {
            sink.disturbed(at, Disturbance::MidStream);
        }
    }
}
