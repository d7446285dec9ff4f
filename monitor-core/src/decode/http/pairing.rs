//! Requests and their answers: what begins one, what ends it, and what becomes of it when the thread is lost.

use super::caching::caching;
use super::coding::Coding;
use super::direction::Read;
use super::exchange::Exchange;
use super::framing::Framing;
use super::{Direction, Http, MAX_OPEN};
use crate::decode::body::{RequestHead, ResponseHead};
use crate::decode::lifecycle::{Conversation, Fault};
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
        self.says.client.text.begin(head.headers, sink.wants_values(Side::Client));
        self.says.client.text.print(head.method.as_bytes());
        self.says.client.text.print(head.target.as_bytes());
        self.says.client.coding = self.encoded(Side::Client, head.headers, x.read_on_top);
        self.open.push_back(x);
        self.sending = true;
        self.pipelined |= self.open.len() > 1;
        self.expects = head.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        match framing? {
            // Nobody can tell where such a body ends (RFC 9112 §6.3).
            Framing::Unending => return Err(DecodeError::TransferEncoding),
            framing => match Read::after_head(framing, false) {
                Some(read) => self.says.client.read = read,
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
            if status < 400 && !self.life.is_whole() {
                // One request more was outstanding than was seen: the client pipelines.
                self.pipelined = true;
                let fault = self.gap();
                self.forget_lost();
                self.lose(fault, at, sink);
                return;
            }
            if status < 400 {
                sink.decode_error(DecodeError::UnsolicitedResponse);
                sink.unmatched_reply(at, "a response that no request waits for");
            }
            self.says.server.text.begin(head.headers, false);
            let none = status == 204 || status == 304;
            match framing.filter(|_| !none).map(|framing| Read::after_head(framing, true)) {
                Some(Some(read)) => {
                    self.says.server.read = read;
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
        let tunnel = x.connects_to.filter(|_| (200..300).contains(&status));
        if status == 101 || tunnel.is_some() {
            let reader = self.reader.as_deref_mut().filter(|_| status == 101 && x.read_on_top);
            let kept = reader.is_some_and(|r| r.upgraded(x.number, head));
            self.upgraded = kept.then_some(x.number);
            self.says.server.text.begin(head.headers, false);
            self.says.server.text.print(&status.to_be_bytes());
            self.end(Side::Server, at, sink);
            if kept {
                (self.says.client.read, self.says.server.read) = (Read::Raw, Read::Raw);
                return;
            }
            tunnel.into_iter().for_each(|to| sink.tunnel(to));
            self.leave(Some(if status == 101 { "upgraded" } else { "tunnel" }), at, sink);
            return;
        }
        self.says.server.text.begin(head.headers, sink.wants_values(Side::Server));
        self.says.server.text.print(&status.to_be_bytes());
        if sink.wants_cached() {
            x.caching = Some(caching(head.headers, self.salt));
            self.says.server.text.note_body();
        }
        let on_top = x.read_on_top;
        self.says.server.coding = self.encoded(Side::Server, head.headers, on_top);
        let Some(x) = self.open.front() else { return };
        let none = x.is_head || status == 204 || status == 304;
        let Some(framing) = framing.or(none.then_some(Framing::None)) else {
            // How it was answered is known, and what with is not.
            let (number, on_top) = (x.number, x.read_on_top);
            self.says.server.text.miss();
            if let Some(reader) = self.reader.as_deref_mut().filter(|_| on_top) {
                reader.missing(number, Side::Server, 1, at, sink);
            }
            self.end(Side::Server, at, sink);
            sink.decode_error(DecodeError::ContentLength);
            self.lose_answers(at, sink);
            return;
        };
        match Read::after_head(framing, true).filter(|_| !none) {
            Some(read) => self.says.server.read = read,
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
        let Direction { text, coding, credit, .. } = &mut self.says[from];
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
        self.says[from].text.unread();
        if let (Some((number, true)), Some(reader)) = (self.current(from), self.reader.as_deref_mut()) {
            reader.unread(number, from);
        }
        sink.decode_error(why);
    }

    /// How a body is encoded, if anybody reads it. `on_top`: a protocol on top may.
    fn encoded(&self, from: Side, headers: &[httparse::Header<'_>], on_top: bool) -> Coding {
        let text = &self.says[from].text;
        match Coding::of(headers, &self.shared.unpacking) {
            Coding::Encoded(_) | Coding::Refused(_) if !on_top && !text.wants_more() => Coding::Over,
            coding => coding,
        }
    }

    /// A message has ended.
    pub(super) fn end(&mut self, from: Side, at: Nanos, sink: &mut dyn Sink) {
        let d = &mut self.says[from];
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
        self.life.sound();
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
        if let Some(cached) = x.cached(at, self.says.server.text.body()) {
            sink.cached(cached);
        }
        let print = self.says.server.text.end(x.number, Side::Server, sink);
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
        let print = self.says.client.text.end(number, Side::Client, sink);
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

    /// Something is missing: the place is lost in both directions, because which answer belongs to which request is not
    /// known from here on, whichever side it was lost on.
    pub(super) fn gap(&mut self) -> Fault {
        self.life.lose(Side::Client);
        self.life.lose(Side::Server);
        Fault::Gap
    }

    /// What was begun in directions that are lost will not be whole.
    pub(super) fn forget_lost(&mut self) {
        (self.stray, self.unsure) = (false, false);
        self.expects &= !self.life.is_lost(Side::Client);
        for side in [Side::Client, Side::Server] {
            if self.life.is_lost(side) {
                (self.says[side].read, self.says[side].held) = (Read::Head, Vec::new());
            }
        }
    }

    /// The server's side alone is lost: the client's goes on, and each of its requests is an operation. Which of them is
    /// answered when is not known until nothing is outstanding.
    fn lose_answers(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.life.lose(Side::Server);
        self.forget_lost();
        sink.disturbed(at, Disturbance::Malformed);
        self.give_up(at, sink);
    }

    /// A client that does not pipeline sends its next request when it has read the answer to the one before: a segment
    /// that begins with a request line is a place where nothing is outstanding.
    pub(super) fn found(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.life.find(Side::Client);
        self.life.find(Side::Server);
        self.unsure = true;
        sink.status(at, TxStatus::Idle);
    }

    /// What should be a head cannot be read. From a client it may be a request all the same, as its server reads it;
    /// `latest`: the number of the one before.
    pub(super) fn no_head(
        &mut self,
        from: Side,
        latest: u64,
        at: Nanos,
        error: DecodeError,
        sink: &mut dyn Sink,
    ) -> Fault {
        if from == Side::Client && self.latest == latest {
            self.latest += 1;
            sink.arrived(self.latest, at);
            self.open.push_back(Exchange::unread(self.latest, at, sink));
        }
        self.malformed(from, error)
    }

    /// What is said is no HTTP.
    pub(super) fn malformed(&mut self, from: Side, error: DecodeError) -> Fault {
        // Where the place was found without being sure, it was not the place after all.
        if self.unsure && from == Side::Server { self.gap() } else { error.into() }
    }
}
