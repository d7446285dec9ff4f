//! Requests and their answers: what begins one, what ends it, and what becomes of it when the thread is lost.

use super::direction::Read;
use super::framing::Framing;
use super::upgrade::{self, Upgrade};
use super::{Http, MAX_OPEN, Sending};
use crate::decode::body::{RequestHead, ResponseHead};
use crate::decode::lifecycle::{Conversation, Fault};
use crate::decode::{DecodeError, Disturbance, Sink};
use crate::model::{Nanos, Outcome, Side, TxStatus};

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
        let x = self.semantics.request(head, &mut self.says.client.content, at, sink);
        self.open.push_back(x);
        let waits = head.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        self.sending = if waits { Sending::Waiting } else { Sending::Body };
        self.pipelined |= self.open.len() > 1;
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
            self.says.server.content.text.begin(head.headers, false);
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
        if upgrade::agreed(head) && x.sent.is_some() {
            return self.go_on_in_v2(at, sink);
        }
        self.semantics.response(x, head, at, sink);
        let tunnel = x.connects_to.filter(|_| (200..300).contains(&status));
        if status == 101 || tunnel.is_some() {
            let reader = self.semantics.reader(status == 101 && x.read_on_top);
            let kept = reader.is_some_and(|r| r.upgraded(x.number, head));
            if kept {
                self.upgrade = Upgrade::OnTop(x.number);
            }
            let text = &mut self.says.server.content.text;
            text.begin(head.headers, false);
            text.print(&status.to_be_bytes());
            self.end(Side::Server, at, sink);
            if kept {
                (self.says.client.read, self.says.server.read) = (Read::Raw, Read::Raw);
                return;
            }
            tunnel.into_iter().for_each(|to| sink.tunnel(to));
            self.leave(Some(if status == 101 { "upgraded" } else { "tunnel" }), at, sink);
            return;
        }
        self.semantics.response_body(x, head, &mut self.says.server.content, sink);
        let none = x.is_head || status == 204 || status == 304;
        let Some(framing) = framing.or(none.then_some(Framing::None)) else {
            // How it was answered is known, and what with is not.
            let of = (x.number, x.read_on_top);
            self.says.server.content.text.miss();
            self.semantics.missing(Some(of), Side::Server, 1, at, sink);
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
            self.sending = self.sending.body_comes();
        }
        let Some(of) = self.current(from) else { return };
        if matches!(self.upgrade, Upgrade::OnTop(_)) {
            if let Some(reader) = self.semantics.reader(of.1) {
                reader.bytes(of.0, from, bytes, at, sink);
            }
            return;
        }
        self.semantics.piece(of, from, &mut self.says[from].content, bytes, at, sink);
    }

    /// A message has ended.
    pub(super) fn end(&mut self, from: Side, at: Nanos, sink: &mut dyn Sink) {
        self.says[from].read = Read::Head;
        let of = self.current(from);
        self.semantics.body_ended(of, from, &mut self.says[from].content, sink);
        if from == Side::Client {
            self.sent(at, sink);
            return;
        }
        if std::mem::take(&mut self.stray) {
            return;
        }
        let Some(x) = self.open.pop_front() else { return };
        self.life.sound();
        if x.sent.is_none() {
            self.sending = self.sending.cut_short();
        }
        // What follows an upgrade ends with the connection.
        let reads_on = matches!(self.upgrade, Upgrade::OnTop(_));
        self.semantics.ended(x, &mut self.says.server.content, reads_on, at, sink);
        if self.open.is_empty() {
            sink.status(at, TxStatus::Idle);
        }
    }

    /// The latest request is whole.
    pub(super) fn sent(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if !self.sending.is_under_way() {
            return;
        }
        self.sending = Sending::Nothing;
        let Some(x) = self.open.back_mut() else { return };
        self.semantics.sent(x, &mut self.says.client.content, at, sink);
    }

    /// Who still waits will not be told.
    pub(super) fn give_up(&mut self, at: Nanos, sink: &mut dyn Sink) {
        while let Some(x) = self.open.pop_front() {
            self.semantics.give_up(x, Outcome::Unknown, at, sink);
        }
        self.sending = self.sending.cut_short();
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
        if self.life.is_lost(Side::Client) {
            self.sending = self.sending.body_comes();
        }
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
        if from == Side::Client && self.semantics.latest == latest {
            let x = self.semantics.unread_request(at, sink);
            self.open.push_back(x);
        }
        self.malformed(from, error)
    }

    /// What is said is no HTTP.
    pub(super) fn malformed(&mut self, from: Side, error: DecodeError) -> Fault {
        // Where the place was found without being sure, it was not the place after all.
        if self.unsure && from == Side::Server { self.gap() } else { error.into() }
    }
}
