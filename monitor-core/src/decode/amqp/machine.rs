//! What methods mean: requests and their answers, messages, and what becomes of them.

use super::Amqp;
use super::channel::{Channel, MAX_PENDING, Settles, Special, pending};
use super::content::{Content, Purpose, Tagged};
use super::frame::Piece;
use super::method::{self, Id, Known, Method, id};
use super::session::{self, Opening};
use crate::decode::begun::Begun;
use crate::decode::lifecycle::Conversation;
use crate::decode::message::shown;
use crate::decode::wire::Reader;
use crate::decode::{DecodeError, Sink};
use crate::model::queue::Settlement;
use crate::model::{Effect, Nanos, OpKind, Outcome, Scope, Side, Slot, Strength, Sym};

/// Most channels of one connection that are followed.
const MAX_CHANNELS: usize = 1024;

/// What a client asks of the broker.
struct Asks {
    special: Special,
    target: Sym,
    /// It waits for the answer.
    waits: bool,
}

impl Asks {
    /// Something about nothing that has a name.
    fn of(special: Special) -> Self {
        Self { special, target: Sym::EMPTY, waits: true }
    }
}

impl Amqp {
    /// One piece of what `from` says.
    pub(super) fn piece(&mut self, from: Side, piece: Piece<'_>, at: Nanos, sink: &mut dyn Sink) {
        if self.core.life.is_over() {
            return;
        }
        let failed = match piece {
            Piece::Heartbeat => None,
            Piece::Method { channel, payload } => {
                self.method(from, channel, payload, at, sink);
                None
            }
            Piece::Header { channel, payload } => {
                let core = &self.core;
                let content = self.channels.get_mut(&channel).and_then(|c| c.coming(from));
                match content.map(|c| c.header(payload, core, sink)) {
                    Some(Ok(complete)) => {
                        if complete {
                            self.complete(from, channel, at, sink);
                        }
                        None
                    }
                    Some(Err(why)) => Some(why),
                    None => self.core.life.is_whole().then_some(DecodeError::ContentWithoutMethod),
                }
            }
            Piece::Body { channel, bytes } => self.content(from, channel, |c| c.body(bytes)),
            Piece::Hole { channel, n } => self.content(from, channel, |c| c.hole(n)),
            Piece::BodyEnd { channel } => {
                let content = self.channels.get_mut(&channel).and_then(|c| c.coming(from));
                if content.is_some_and(|c| c.frame_ended()) {
                    self.complete(from, channel, at, sink);
                }
                None
            }
        };
        if let Some(why) = failed {
            self.lose(why.into(), at, sink);
        }
    }

    fn content(
        &mut self,
        from: Side,
        channel: u16,
        give: impl FnOnce(&mut Content) -> Result<(), DecodeError>,
    ) -> Option<DecodeError> {
        match self.channels.get_mut(&channel).and_then(|c| c.coming(from)) {
            Some(content) => give(content).err(),
            // Its method may have been missed.
            None => self.core.life.is_whole().then_some(DecodeError::ContentWithoutMethod),
        }
    }

    fn complete(&mut self, from: Side, channel: u16, at: Nanos, sink: &mut dyn Sink) {
        let Some(channel) = self.channels.get_mut(&channel) else { return };
        if let Some(content) = channel.take(from) {
            channel.complete(content, at, &mut self.core, sink);
        }
    }

    fn method(&mut self, from: Side, number: u16, payload: &[u8], at: Nanos, sink: &mut dyn Sink) {
        let mut b = Reader::new(payload);
        let (Some(class), Some(method)) = (b.u16(), b.u16()) else { return };
        let Some(known) = method::known((class, method)).filter(|k| k.says.includes(from)) else {
            sink.decode_error(DecodeError::UnknownMethod);
            return;
        };
        let Some(read) = method::read(known.id, b.rest()) else {
            self.lose(DecodeError::ShortMethod.into(), at, sink);
            return;
        };
        if class == method::CONNECTION {
            self.connection(from, &known, read, at, sink);
            return;
        }
        if !self.channels.contains_key(&number) {
            if self.channels.len() >= MAX_CHANNELS {
                self.lose(DecodeError::TooManyChannels.into(), at, sink);
                self.channels.clear();
            }
            self.channels.insert(number, Channel::new(number));
        }
        match from {
            Side::Client => self.asks(&known, number, read, at, sink),
            Side::Server => self.says(&known, number, read, at, sink),
        }
    }

    /// Methods that are about the connection itself.
    fn connection(&mut self, from: Side, known: &Known, read: Method<'_>, at: Nanos, sink: &mut dyn Sink) {
        match (known.id, read) {
            (_, Method::StartOk { mechanism, response }) => {
                self.opening.login(mechanism, response, self.core.salt, sink);
            }
            (_, Method::Open { vhost }) => {
                self.opening.open(vhost, sink);
                self.core.vhost = vhost.to_vec();
            }
            (id::CONNECTION_OPEN_OK, _) => {
                let opening = std::mem::take(&mut self.opening);
                self.checks_tokens = opening.accepted(&self.core.vhost, self.core.salt, at, sink);
            }
            (_, Method::UpdateSecret { secret }) => {
                // RabbitMQ 3.10 answers update-secret-ok to any secret where it authenticates by password, and the user
                // stays who it was: only of a connection opened by a token does the answer say that this one holds.
                let claim = session::secret(secret, sink).filter(|_| self.checks_tokens);
                self.ask(known, 0, Asks::of(Special::None), at, sink);
                if let (Some(claim), Some(asked)) = (claim, self.control.last_asked()) {
                    asked.kind = OpKind::Bind;
                    let (slot, scope, strength) = (Slot::User, Scope::Session, Strength::V3);
                    asked.effect = Effect::Bind { slot, claim, scope, strength };
                }
            }
            (id::CONNECTION_UPDATE_SECRET_OK, _) => self.answer(known.id, 0, at, sink),
            (_, Method::Close { .. }) if from == Side::Client => {
                self.ask(known, 0, Asks::of(Special::Close), at, sink);
            }
            (_, Method::Close { failed }) => self.finish(Some(failed).filter(|f| *f != (0, 0)), at, sink),
            (id::CONNECTION_CLOSE_OK, _) if from == Side::Server => {
                self.answer(known.id, 0, at, sink);
                self.finish(None, at, sink);
            }
            _ => {}
        }
    }

    /// The connection is over: what is outstanding goes back.
    fn finish(&mut self, failed: Option<Id>, at: Nanos, sink: &mut dyn Sink) {
        let waits = self.core.is_asked();
        for channel in self.numbers() {
            if let Some(c) = self.channels.get_mut(&channel) {
                c.end(failed, at, &mut self.core, sink);
            }
        }
        self.control.give_up(failed, at, &mut self.core, sink);
        self.channels.clear();
        self.opening = Opening::default();
        if waits {
            self.core.rest(at, sink);
        }
    }

    /// Channels in a fixed order.
    pub(super) fn numbers(&self) -> Vec<u16> {
        let mut all: Vec<u16> = self.channels.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// The client says something on a channel.
    fn asks(&mut self, known: &Known, number: u16, read: Method<'_>, at: Nanos, sink: &mut dyn Sink) {
        let name = |name: &[u8], sink: &mut dyn Sink| match std::str::from_utf8(name) {
            Ok("") | Err(_) => Sym::EMPTY,
            Ok(name) => shown(name, sink),
        };
        match read {
            Method::Publish(to) => {
                let content = Content::new(Purpose::Publish, 0, to, at, &mut self.core, sink);
                self.comes(Side::Client, number, content, at, sink);
            }
            Method::Ack { tag, multiple } => {
                self.settle(known, number, Settles { tag, multiple, how: Settlement::Done }, at, sink);
            }
            Method::Reject { tag, requeue } => {
                self.settle(known, number, Settles { tag, multiple: false, how: gives_up(requeue) }, at, sink);
            }
            Method::Nack { tag, multiple, requeue } => {
                self.settle(known, number, Settles { tag, multiple, how: gives_up(requeue) }, at, sink);
            }
            Method::Consume { queue, tag, no_ack, waits } => {
                let queue = name(queue, sink);
                let consumer = Channel::consumer(queue, no_ack);
                if let Some(channel) = self.channels.get_mut(&number) {
                    channel.consume(tag, consumer, &mut self.core);
                }
                let special = Special::Consume(consumer);
                self.ask(known, number, Asks { special, target: queue, waits }, at, sink);
            }
            Method::Cancel { tag, waits } => {
                if !waits && let Some(channel) = self.channels.get_mut(&number) {
                    channel.cancel(tag, &mut self.core);
                }
                self.ask(known, number, Asks { waits, ..Asks::of(Special::None) }, at, sink);
            }
            Method::Get { queue, no_ack } => {
                let queue = name(queue, sink);
                self.ask(known, number, Asks { target: queue, ..Asks::of(Special::Get { no_ack }) }, at, sink);
            }
            Method::Close { .. } => self.ask(known, number, Asks::of(Special::Close), at, sink),
            Method::Other { name: about, waits } => {
                let special = match known.id {
                    id::BASIC_RECOVER => Special::Recover,
                    id::TX_COMMIT => Special::Commit,
                    id::TX_ROLLBACK => Special::Rollback,
                    _ => Special::None,
                };
                if let Some(channel) = self.channels.get_mut(&number) {
                    match known.id {
                        // What follows on the wire is counted, whether or not the answer has come.
                        id::CONFIRM_SELECT => channel.confirm(&self.core),
                        id::TX_SELECT => channel.transact(),
                        _ => {}
                    }
                }
                if known.answer.is_some() {
                    let about = name(about, sink);
                    self.ask(known, number, Asks { special, target: about, waits }, at, sink);
                } else if known.id == id::BASIC_RECOVER_ASYNC {
                    let request = self.core.begin(at, None, sink);
                    let what = Begun::control(request, at, sink.word(known.name));
                    what.tell(at, Outcome::Unknown, sink);
                    if let Some(channel) = self.channels.get_mut(&number) {
                        channel.return_all(at, &mut self.core, sink);
                    }
                    self.core.end(request, at, sink);
                    self.core.rest(at, sink);
                }
            }
            _ => {}
        }
    }

    fn settle(&mut self, known: &Known, number: u16, settles: Settles, at: Nanos, sink: &mut dyn Sink) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let request = self.core.begin(at, None, sink);
        let mut what = Begun::control(request, at, sink.word(known.name));
        what.kind = OpKind::Ack;
        channel.settle(&what, settles, at, &mut self.core, sink);
    }

    fn ask(&mut self, known: &Known, number: u16, asks: Asks, at: Nanos, sink: &mut dyn Sink) {
        let Asks { special, target, waits } = asks;
        if self.core.n_pending >= MAX_PENDING {
            self.lose(DecodeError::TooManyRequests.into(), at, sink);
        }
        let Some(answer) = known.answer else { return };
        let request = self.core.begin(at, None, sink);
        let verb = sink.word(known.name);
        let mut asked = pending(request, at, verb, answer, special);
        asked.what.target = target;
        if waits {
            let channel = if number == 0 { Some(&mut self.control) } else { self.channels.get_mut(&number) };
            if let Some(channel) = channel {
                channel.ask(asked, &mut self.core);
                return;
            }
        }
        // The server carries it out and says nothing.
        asked.what.tell(at, Outcome::Unknown, sink);
        self.core.end(request, at, sink);
        self.core.rest(at, sink);
    }

    /// The broker says something on a channel.
    fn says(&mut self, known: &Known, number: u16, read: Method<'_>, at: Nanos, sink: &mut dyn Sink) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        match read {
            Method::Deliver { consumer, tag, again, to } => {
                let (queue, awaits_ack) = channel.delivers_to(consumer, &self.core);
                let purpose = Purpose::Deliver { tagged: Tagged { tag, again, awaits_ack }, queue };
                let content = Content::new(purpose, 0, to, at, &mut self.core, sink);
                self.comes(Side::Server, number, content, at, sink);
            }
            Method::Return(to) => {
                let content = Content::new(Purpose::Return, 0, to, at, &mut self.core, sink);
                self.comes(Side::Server, number, content, at, sink);
            }
            Method::GetOk { tag, again, to } => {
                let Some(asked) = channel.answered(id::BASIC_GET_OK, &mut self.core) else {
                    self.unasked(sink);
                    return;
                };
                let Special::Get { no_ack } = asked.special else { return };
                let mut what = asked.what;
                what.kind = OpKind::Deliver;
                let purpose = Purpose::Got { what, tagged: Tagged { tag, again, awaits_ack: !no_ack } };
                let content = Content::new(purpose, what.request, to, at, &mut self.core, sink);
                self.comes(Side::Server, number, content, at, sink);
            }
            Method::Ack { tag, multiple } => {
                channel.confirmed((tag, multiple), Outcome::Ok, at, &mut self.core, sink);
            }
            Method::Nack { tag, multiple, .. } => {
                channel.confirmed((tag, multiple), Outcome::Error, at, &mut self.core, sink);
            }
            Method::Cancel { tag, .. } => channel.cancel(tag, &mut self.core),
            Method::ConsumeOk { tag } => {
                let Some(asked) = channel.answered(known.id, &mut self.core) else {
                    self.unasked(sink);
                    return;
                };
                if let Special::Consume(consumer) = asked.special {
                    channel.consume(tag, consumer, &mut self.core);
                }
                asked.what.tell(at, Outcome::Ok, sink);
                self.core.end(asked.what.request, at, sink);
                self.core.rest(at, sink);
            }
            Method::Close { failed } => {
                if let Some(mut channel) = self.channels.remove(&number) {
                    channel.end(Some(failed).filter(|f| *f != (0, 0)), at, &mut self.core, sink);
                    channel.forget(&mut self.core);
                }
                self.core.rest(at, sink);
            }
            // It answers a request for a message: there is none.
            _ if known.id == id::BASIC_GET_EMPTY => self.answer(id::BASIC_GET_OK, number, at, sink),
            _ if known.id.1 % 10 == 1 => self.answer(known.id, number, at, sink),
            _ => {}
        }
    }

    /// A request that has nothing more to it has been answered.
    fn answer(&mut self, answer: Id, number: u16, at: Nanos, sink: &mut dyn Sink) {
        let channel = if number == 0 { Some(&mut self.control) } else { self.channels.get_mut(&number) };
        let Some(channel) = channel else { return };
        let Some(mut asked) = channel.answered(answer, &mut self.core) else {
            self.unasked(sink);
            return;
        };
        if answer == id::BASIC_GET_OK {
            asked.what.kind = OpKind::Control;
        }
        match asked.special {
            Special::Commit => channel.end_transaction(true, at, &mut self.core, sink),
            Special::Rollback => channel.end_transaction(false, at, &mut self.core, sink),
            Special::Recover => channel.return_all(at, &mut self.core, sink),
            _ => {}
        }
        // A binding is sure if it can be no other request's answer.
        let unsure = !self.core.life.is_whole() && asked.what.effect != Effect::None;
        asked.what.tell(at, if unsure { Outcome::Unknown } else { Outcome::Ok }, sink);
        if matches!(asked.special, Special::Close)
            && number != 0
            && let Some(mut channel) = self.channels.remove(&number)
        {
            channel.end(None, at, &mut self.core, sink);
            channel.forget(&mut self.core);
        }
        self.core.end(asked.what.request, at, sink);
        self.core.rest(at, sink);
    }

    fn unasked(&self, sink: &mut dyn Sink) {
        if self.core.life.is_whole() {
            sink.decode_error(DecodeError::UnaskedAnswer);
        }
    }

    fn comes(&mut self, from: Side, number: u16, content: Box<Content>, at: Nanos, sink: &mut dyn Sink) {
        if self.channels.get_mut(&number).is_some_and(|c| c.coming(from).is_some()) {
            self.lose(DecodeError::UnfinishedMessage.into(), at, sink);
        }
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.comes(from, content);
        }
    }
}

fn gives_up(requeue: bool) -> Settlement {
    if requeue { Settlement::Returned } else { Settlement::Dropped }
}
