//! What lines and messages mean: publications and the answers to them, deliveries and their confirmations.

use super::frame::{After, head, operation};
use super::jetstream::{self, Policy, PubAck, ack, pub_ack, settlement};
use super::open::{Open, Role, stored};
use super::waits::Asked;
use super::{Nats, Numbered};
use crate::decode::begun::Begun;
use crate::decode::message::shown;
use crate::decode::{DecodeError, Mark, Sink};
use crate::model::queue::{Confirmation, Delivery, Message, QueueEvent, Settled, Settlement};
use crate::model::steps::step;
use crate::model::{Fingerprint, MarkerPlace, Nanos, OpKind, Outcome, Side, Sym};

/// Most deliveries that are confirmed together.
const MAX_TOGETHER: usize = 4096;

impl Nats {
    /// A line of the client's.
    pub(super) fn client_line(&mut self, line: &[u8], at: Nanos, sink: &mut dyn Sink) -> Result<After, DecodeError> {
        let (op, rest) = operation(line);
        let headers = op == "HPUB";
        match op {
            "PUB" | "HPUB" => {
                let head = head(rest, false, headers).ok_or(DecodeError::Pub)?;
                let role = if head.subject.starts_with(b"$JS.ACK.") {
                    Role::Text
                } else if special(head.subject) {
                    Role::Other
                } else {
                    Role::Message
                };
                self.open.client.begin(&head, role);
                return Ok(After::Payload(head.total));
            }
            "CONNECT" => self.connect(rest, at, sink),
            "SUB" | "UNSUB" => {
                let subject = rest.split(|b| *b == b' ').next().unwrap_or_default();
                let target = match op {
                    "SUB" if !special(subject) => shown(&String::from_utf8_lossy(subject), sink),
                    _ => Sym::EMPTY,
                };
                let wait = self.request(op, target, at, self.print(line), sink);
                self.ask(wait, at, sink);
            }
            "PING" | "PONG" => {}
            _ => return Err(DecodeError::ClientLine),
        }
        Ok(After::Line)
    }

    /// A line of the server's.
    pub(super) fn server_line(&mut self, line: &[u8], at: Nanos, sink: &mut dyn Sink) -> Result<After, DecodeError> {
        let (op, rest) = operation(line);
        let headers = op == "HMSG";
        if let Some(login) = self.login.take_if(|_| op != "INFO") {
            let outcome = if op == "-ERR" { Outcome::Error } else { Outcome::Ok };
            self.logged_in(login, outcome, at, sink);
            if matches!(op, "+OK" | "-ERR") {
                return Ok(After::Line);
            }
        }
        match op {
            "MSG" | "HMSG" => {
                let head = head(rest, true, headers).ok_or(DecodeError::Msg)?;
                let inbox = self.hash(head.subject);
                let role = if self.waits.contains(inbox) {
                    Role::Text
                } else if special(head.subject) {
                    Role::Other
                } else {
                    Role::Message
                };
                self.open.server.begin(&head, role);
                return Ok(After::Payload(head.total));
            }
            "+OK" => {
                if let Some(wait) = self.unanswered.pop_front().flatten() {
                    self.complete(wait, Outcome::Ok, at, sink);
                }
            }
            "-ERR" if self.verbose => {
                if let Some(wait) = self.unanswered.pop_front().flatten() {
                    self.complete(wait, Outcome::Error, at, sink);
                }
            }
            "INFO" | "PING" | "PONG" | "-ERR" => {}
            _ => return Err(DecodeError::ServerLine),
        }
        Ok(After::Line)
    }

    fn hash(&self, text: &[u8]) -> u64 {
        self.salt.fingerprint(text).0
    }

    fn print(&self, line: &[u8]) -> Option<Fingerprint> {
        Some(self.salt.fingerprint(line))
    }

    /// The client has sent a whole message.
    pub(super) fn sent(&mut self, open: &mut Open, at: Nanos, sink: &mut dyn Sink) {
        let subject = std::mem::take(&mut open.subject);
        let starts = |prefix: &str| subject.starts_with(prefix.as_bytes());
        let kind = match open.role {
            Role::Message => OpKind::Publish,
            Role::Text if settlement(&open.text).is_some() => OpKind::Ack,
            _ if starts("$KV.") || starts("$O.") || starts("$JS.API.STREAM.MSG.") || starts("$JS.API.DIRECT.") => {
                OpKind::Data
            }
            _ => OpKind::Control,
        };
        let verb = if open.role == Role::Message { "PUB" } else { system_verb(&subject) };
        let target = match kind {
            OpKind::Publish | OpKind::Data => shown(&String::from_utf8_lossy(&subject), sink),
            _ => Sym::EMPTY,
        };
        let mut wait = self.request(verb, target, at, open.print(), sink);
        wait.op.kind = kind;
        if kind == OpKind::Data
            && let Ok(name) = std::str::from_utf8(&subject)
        {
            wait.op.marker = sink.marker(MarkerPlace::KeyPrefix, "", name);
        }
        if kind == OpKind::Ack && open.is_whole() {
            wait.settles = settlement(&open.text).map(|how| (self.hash(&subject), how));
        }
        // What is asked for by MSG.NEXT comes as deliveries; a confirmation counts when it is sent.
        let pulls = starts("$JS.API.CONSUMER.MSG.NEXT.");
        if !open.reply.is_empty() && !pulls && kind != OpKind::Ack {
            wait.inbox = self.hash(&open.reply);
        }
        wait.asked = match kind {
            OpKind::Publish => Asked::Publish,
            _ if starts("$JS.API.CONSUMER.") => Asked::Consumer,
            _ => Asked::Other,
        };
        open.subject = subject;
        wait.message = open.finish(None, at, sink).map(|mut m| {
            m.request = wait.op.request;
            (wait.op.marker, wait.op.proved) = (m.marker, m.proved);
            marks(&m, sink);
            Box::new(m)
        });
        self.ask(wait, at, sink);
    }

    /// The server has sent a whole message.
    pub(super) fn received(&mut self, open: &mut Open, at: Nanos, sink: &mut dyn Sink) {
        match open.role {
            Role::Text => self.answered(open, at, sink),
            Role::Message if open.status.is_none() => self.delivered(open, at, sink),
            Role::Message | Role::Other => {}
        }
    }

    fn answered(&mut self, open: &Open, at: Nanos, sink: &mut dyn Sink) {
        let inbox = self.hash(&open.subject);
        let Some(mut wait) = self.waits.take(inbox) else { return };
        // Nobody listens (503): what was sent has reached nobody.
        let mut outcome = if open.status == Some(503) { Outcome::Error } else { Outcome::Ok };
        match wait.asked {
            Asked::Publish if open.is_whole() => match pub_ack(&open.text) {
                PubAck::Stored(stream, seq) => {
                    let id = stored(self.salt, stream.as_bytes(), seq.to_string().as_bytes(), sink);
                    if let (Some(message), Some(id)) = (&mut wait.message, id) {
                        message.ids.insert(0, id);
                    }
                }
                PubAck::Duplicate => wait.message = None,
                PubAck::Refused => outcome = Outcome::Error,
                PubAck::Other => {}
            },
            Asked::Consumer if open.is_whole() => {
                let (refused, known) = jetstream::consumer(&open.text);
                if refused {
                    outcome = Outcome::Error;
                }
                if let Some((stream, name, policy)) = known {
                    self.learn(self.consumer(stream.as_bytes(), name.as_bytes()), policy);
                }
            }
            _ => {}
        }
        self.complete(wait, outcome, at, sink);
    }

    fn consumer(&self, stream: &[u8], name: &[u8]) -> u64 {
        let mut text = Vec::with_capacity(stream.len() + name.len() + 1);
        text.extend_from_slice(stream);
        text.push(b'.');
        text.extend_from_slice(name);
        self.hash(&text)
    }

    pub(super) fn settle(&mut self, handle: u64, how: Settlement, at: Nanos, sink: &mut dyn Sink) {
        if let Some(this) = self.together.take(handle) {
            self.in_order.remove(&(this, handle));
            // This consumer's confirmations are for all before, too.
            let first = (Numbered { number: 0, ..this }, 0);
            while how == Settlement::Done
                && let Some(&before) = self.in_order.range(first..(this, 0)).next()
            {
                step();
                self.in_order.remove(&before);
                self.together.take(before.1);
                sink.queue(QueueEvent::Settled(Settled { handle: before.1, at, how }));
            }
        }
        sink.queue(QueueEvent::Settled(Settled { handle, at, how }));
    }

    fn delivered(&mut self, open: &mut Open, at: Nanos, sink: &mut dyn Sink) {
        let reply = std::mem::take(&mut open.reply);
        let ack = ack(&reply);
        open.reply = if ack.is_some() { Vec::new() } else { reply.clone() };
        let message = open.finish(ack.map(|a| (a.stream, a.stream_seq)), at, sink);
        let Some(message) = message else { return };
        self.life.sound();
        let mut confirmation = Confirmation::None;
        let mut again = false;
        if let Some(ack) = ack {
            let handle = self.hash(&reply);
            again = ack.delivered > 1;
            let consumer = self.consumer(ack.stream, ack.consumer);
            let policy = self.policy(consumer);
            if policy != Policy::Never {
                confirmation = Confirmation::Here(handle);
            }
            if policy == Policy::All {
                if self.together.len() >= MAX_TOGETHER
                    && let Some((oldest, numbered)) = self.together.pop_front()
                {
                    self.in_order.remove(&(numbered, oldest));
                }
                if !self.together.contains(handle) {
                    let numbered = Numbered { consumer, number: ack.consumer_seq };
                    self.together.push(handle, numbered);
                    self.in_order.insert((numbered, handle));
                }
            }
        }
        let op = Begun {
            kind: OpKind::Deliver,
            target: message.queue,
            marker: message.marker,
            proved: message.proved,
            ..Begun::control(0, at, sink.word("MSG"))
        };
        op.tell(at, Outcome::Ok, sink);
        sink.queue(QueueEvent::Delivered(Delivery { message, again, confirmation }));
    }
}

/// What a message carries may turn up again in the work done for it.
fn marks(m: &Message, sink: &mut dyn Sink) {
    for id in &m.traces {
        sink.mark(m.request, Side::Client, Mark::Trace(*id));
    }
    if sink.wants_values(Side::Client) {
        for value in &m.values {
            sink.mark(m.request, Side::Client, Mark::Value(*value));
        }
    }
}

/// Subjects that are no queues: the system's own, and those that answers come to.
fn special(subject: &[u8]) -> bool {
    subject.starts_with(b"$") || subject.starts_with(b"_INBOX")
}

/// How a message to the system, or an answer, is called.
fn system_verb(subject: &[u8]) -> &'static str {
    const VERBS: &[(&str, &str)] = &[
        ("$JS.ACK.", "ACK"),
        ("$JS.API.CONSUMER.MSG.NEXT.", "CONSUMER.MSG.NEXT"),
        ("$JS.API.CONSUMER.", "CONSUMER"),
        ("$JS.API.STREAM.", "STREAM"),
        ("$JS.API.", "JS.API"),
        ("_INBOX", "reply"),
    ];
    VERBS.iter().find(|(prefix, _)| subject.starts_with(prefix.as_bytes())).map_or("PUB", |(_, verb)| verb)
}
