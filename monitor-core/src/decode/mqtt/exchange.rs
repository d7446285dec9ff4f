//! What packets mean: publications and deliveries with their acknowledgements, subscriptions, signs of life.

mod requests;

use requests::Asks;
use smallvec::SmallVec;

use super::Mqtt;
use super::look::filters_version;
use super::packet::{Kind, Piece, Version};
use super::read::{Property, properties, property_bytes};
use super::session;
use crate::decode::begun::Begun;
use crate::decode::lifecycle::Conversation;
use crate::decode::message::{Draft, shown};
use crate::decode::wire::Reader;
use crate::decode::{DecodeError, Mark, Sink};
use crate::model::queue::{Confirmation, Delivery, Message, QueueEvent, Settled, Settlement};
use crate::model::{Effect, MarkerPlace, Nanos, OpKind, Outcome, Scope, Side, Slot, Strength};

/// Most publications without a confirmation.
const MAX_WAITING: usize = 512;
/// Most deliveries that are not settled.
const MAX_UNACKED: usize = 16_384;
/// Most other requests without an answer.
const MAX_PENDING: usize = 1024;
/// Most topics with an alias, in one direction.
const MAX_ALIASES: usize = 256;
/// Longest topic that is remembered by its alias.
const MAX_TOPIC: usize = 512;

/// A message on its way over the wire.
#[derive(Debug)]
pub(super) struct Coming {
    begun: Nanos,
    quality: Quality,
    /// Its sender says that it is not the first time.
    again: bool,
    /// What its confirmation names it by; `None`: it has none, or was not read.
    id: Option<u16>,
    /// `None`: its topic is not known, or it tells of the server itself.
    draft: Option<Draft>,
}

/// How a message is confirmed (§4.3, quality of service).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quality {
    /// Not at all: it comes at most once.
    Unconfirmed,
    /// By PUBACK: it comes at least once.
    Acknowledged,
    /// By PUBREC, PUBREL and PUBCOMP: it comes exactly once.
    Assured,
}

impl Coming {
    /// A message whose PUBLISH has these flags (§3.3.1), of which nothing more was read.
    fn new(flags: u8, begun: Nanos) -> Self {
        let quality = match flags & 6 {
            0 => Quality::Unconfirmed,
            4 => Quality::Assured,
            _ => Quality::Acknowledged,
        };
        Self { begun, quality, again: flags & 8 != 0, id: None, draft: None }
    }
}

/// A publication that awaits its confirmation.
#[derive(Debug)]
pub(super) struct Waiting {
    what: Begun,
    message: Option<Box<Message>>,
}

impl Mqtt {
    /// One piece of what `from` says.
    pub(super) fn piece(&mut self, from: Side, piece: Piece<'_>, at: Nanos, sink: &mut dyn Sink) {
        if self.life.is_over() {
            return;
        }
        let coming = self.coming[from].as_mut();
        match piece {
            Piece::Packet { kind, rest } => {
                let wrong = if !kind.is_said_by(from) {
                    Some(DecodeError::WrongSide)
                } else if self.packet(from, kind, rest, at, sink).is_none() {
                    Some(DecodeError::ShortPacket)
                } else {
                    None
                };
                if let Some(error) = wrong {
                    self.lose(error.into(), at, sink);
                }
            }
            Piece::Publish { flags, head } => self.publish(from, flags, head, at, sink),
            Piece::Unread { flags } => {
                sink.decode_error(DecodeError::LongProperties);
                self.coming[from] = Some(Coming::new(flags, at));
            }
            Piece::Content(bytes) => {
                if let Some(draft) = coming.and_then(|c| c.draft.as_mut()) {
                    draft.content(bytes);
                }
            }
            Piece::Hole(n) => {
                if let Some(draft) = coming.and_then(|c| c.draft.as_mut()) {
                    draft.missing(n);
                }
            }
            Piece::End => {
                if let Some(coming) = self.coming[from].take() {
                    match from {
                        Side::Client => self.published(coming, at, sink),
                        Side::Server => self.delivered(coming, at, sink),
                    }
                }
            }
        }
    }

    /// The head of a PUBLISH (§3.3): its cutting has checked that it is whole.
    fn publish(&mut self, from: Side, flags: u8, head: &[u8], at: Nanos, sink: &mut dyn Sink) {
        let mut b = Reader::new(head);
        let topic = b.u16_bytes().unwrap_or_default();
        let coming = Coming::new(flags, at);
        let id = if coming.quality == Quality::Unconfirmed { None } else { b.u16() };
        let all = if self.version == Some(Version::Five) { property_bytes(&mut b).unwrap_or_default() } else { &[] };
        let mut alias = None;
        let mut right = properties(all, &mut |p| {
            if let Property::TopicAlias(a) = p {
                alias = Some(a);
            }
        });
        let mut known: SmallVec<[u8; 64]> = SmallVec::from_slice(topic);
        if let Some(alias) = alias {
            let aliases = &mut self.aliases[from];
            if topic.is_empty() {
                known = aliases.get(&alias).map(|t| SmallVec::from_slice(t)).unwrap_or_default();
            } else if topic.len() <= MAX_TOPIC && (aliases.len() < MAX_ALIASES || aliases.contains_key(&alias)) {
                aliases.insert(alias, topic.into());
            } else {
                aliases.remove(&alias);
            }
        }
        let name = std::str::from_utf8(&known).unwrap_or_default();
        // What the server tells of itself is nobody's message.
        let draft = (!name.is_empty() && !name.starts_with('$')).then(|| {
            let mut draft = Draft::new(self.salt, 0);
            draft.address(&[&known], name, sink);
            right = properties(all, &mut |p| match p {
                Property::User(name, value) => {
                    if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
                        draft.header(name, value, sink);
                    }
                }
                Property::Correlation(data) => {
                    if let Ok(data) = std::str::from_utf8(data) {
                        draft.trace("correlation-data", data);
                    }
                }
                _ => {}
            });
            draft
        });
        if right.is_none() {
            sink.decode_error(DecodeError::BadProperties);
        }
        self.coming[from] = Some(Coming { id, draft, ..coming });
    }

    /// The client has published a message.
    fn published(&mut self, coming: Coming, at: Nanos, sink: &mut dyn Sink) {
        let message = coming.draft.map(|d| d.finish(at, sink));
        let request = self.begin(at, message.as_ref().and_then(|m| m.print), sink);
        let mut what = Begun::control(request, coming.begun, sink.word("PUBLISH"));
        let message = message.map(|mut m| {
            m.request = request;
            what.kind = OpKind::Publish;
            (what.target, what.marker, what.proved) = (m.queue, m.marker, m.proved);
            for id in &m.traces {
                sink.mark(request, Side::Client, Mark::Trace(*id));
            }
            if sink.wants_values(Side::Client) {
                for value in &m.values {
                    sink.mark(request, Side::Client, Mark::Value(*value));
                }
            }
            Box::new(m)
        });
        let waiting = Waiting { what, message };
        if coming.quality == Quality::Unconfirmed {
            self.confirmed(waiting, Outcome::Unknown, at, sink);
            self.rest(at, sink);
            return;
        }
        // The same once more (§3.3.1.1): the first one's answer will not come.
        if let Some(mut before) = self.waiting.take(coming.id) {
            before.message = None;
            self.confirmed(before, Outcome::Unknown, at, sink);
        }
        self.waiting.push(coming.id, waiting);
        if self.waiting.len() > MAX_WAITING
            && let Some((_, oldest)) = self.waiting.pop_front()
        {
            self.confirmed(oldest, Outcome::Unknown, at, sink);
        }
    }

    fn confirmed(&mut self, w: Waiting, outcome: Outcome, at: Nanos, sink: &mut dyn Sink) {
        w.what.tell(at, outcome, sink);
        if let Some(message) = w.message.filter(|_| outcome != Outcome::Error) {
            sink.queue(QueueEvent::Published(*message));
        }
        self.end(w.what.request, at, sink);
    }

    /// The server has delivered a message.
    fn delivered(&mut self, coming: Coming, at: Nanos, sink: &mut dyn Sink) {
        let outstanding = coming.id.filter(|id| self.unacked.contains(*id));
        // The client has it already (§4.3.3).
        if outstanding.is_some() && coming.quality == Quality::Assured {
            return;
        }
        let mut what = Begun::control(0, coming.begun, sink.word("PUBLISH"));
        let message = coming.draft.map(|d| d.finish(at, sink));
        if let Some(m) = &message {
            what.kind = OpKind::Deliver;
            (what.target, what.marker, what.proved) = (m.queue, m.marker, m.proved);
        }
        self.life.sound();
        what.tell(at, Outcome::Ok, sink);
        if let Some(id) = outstanding {
            self.unacked.take(id);
            sink.queue(QueueEvent::Settled(Settled { handle: u64::from(id), at, how: Settlement::Returned }));
        }
        let Some(message) = message else { return };
        let confirmation = match coming.id {
            Some(id) if self.unacked.len() < MAX_UNACKED => {
                self.unacked.push(id, ());
                Confirmation::Here(u64::from(id))
            }
            _ => Confirmation::None,
        };
        sink.queue(QueueEvent::Delivered(Delivery { message, again: coming.again, confirmation }));
    }

    /// Any packet but PUBLISH; `None`: it is too short.
    fn packet(&mut self, from: Side, kind: Kind, rest: &[u8], at: Nanos, sink: &mut dyn Sink) -> Option<()> {
        let mut b = Reader::new(rest);
        match kind {
            Kind::Connect => self.opening = Some(session::connect(rest, self.salt, sink)?),
            Kind::Connack => {
                b.u8()?;
                // 0: accepted, in all versions.
                let accepted = b.u8()? == 0;
                if let Some(opening) = self.opening.take().filter(|_| accepted) {
                    self.keeps = opening.keeps;
                    opening.accepted(self.salt, at, sink);
                }
            }
            Kind::Puback | Kind::Pubrec | Kind::Pubcomp => {
                let id = b.u16()?;
                let failed = b.u8().unwrap_or(0) >= 0x80;
                match from {
                    Side::Server => self.acknowledges(kind, id, failed, at, sink),
                    Side::Client => self.settles(kind, id, failed, at, sink),
                }
            }
            Kind::Pubrel => {
                b.u16()?;
            }
            Kind::Subscribe | Kind::Unsubscribe => {
                let id = b.u16()?;
                // What can be read in one version only tells it, where the beginning was not seen.
                let filter = match self.version.or_else(|| filters_version(kind, b)) {
                    Some(Version::Five) => {
                        property_bytes(&mut b)?;
                        b.u16_bytes()?
                    }
                    Some(Version::Three) => b.u16_bytes()?,
                    None => &[],
                };
                let filter = std::str::from_utf8(filter).unwrap_or_default();
                let (verb, answer) = match kind {
                    Kind::Subscribe => ("SUBSCRIBE", Kind::Suback),
                    _ => ("UNSUBSCRIBE", Kind::Unsuback),
                };
                let target = shown(filter, sink);
                let marker = sink.marker(MarkerPlace::KeyPrefix, "", filter);
                self.ask(Asks { verb, answer, id, target, marker }, at, sink);
            }
            Kind::Suback | Kind::Unsuback => {
                let id = b.u16()?;
                let outcome = granted(kind, b, self.version)?;
                self.answer(kind, id, outcome, at, sink);
            }
            Kind::Pingreq => self.ask(Asks::plain("PINGREQ", Kind::Pingresp), at, sink),
            Kind::Pingresp => self.answer(kind, 0, Outcome::Ok, at, sink),
            Kind::Auth => self.auth(from, rest, at, sink),
            Kind::Disconnect => {
                // 4: with the will, which the server publishes for it. No matter.
                self.finish(at, sink);
            }
            Kind::Publish => {}
        }
        Some(())
    }

    /// The server confirms a publication: at quality 2 it has it once it says PUBREC.
    fn acknowledges(&mut self, kind: Kind, id: u16, failed: bool, at: Nanos, sink: &mut dyn Sink) {
        if kind == Kind::Pubcomp {
            return;
        }
        if let Some(waiting) = self.waiting.take(Some(id)) {
            self.life.sound();
            self.confirmed(waiting, if failed { Outcome::Error } else { Outcome::Ok }, at, sink);
            self.rest(at, sink);
        }
    }

    /// The client confirms a delivery: at quality 2 it is done with it once it says PUBCOMP.
    fn settles(&mut self, kind: Kind, id: u16, failed: bool, at: Nanos, sink: &mut dyn Sink) {
        let verb = match kind {
            Kind::Puback => "PUBACK",
            Kind::Pubrec if failed => "PUBREC",
            Kind::Pubcomp => "PUBCOMP",
            _ => return,
        };
        let request = self.begin(at, None, sink);
        let mut what = Begun::control(request, at, sink.word(verb));
        what.kind = OpKind::Ack;
        what.tell(at, Outcome::Unknown, sink);
        if self.unacked.take(id).is_some() {
            let how = if failed { Settlement::Dropped } else { Settlement::Done };
            sink.queue(QueueEvent::Settled(Settled { handle: u64::from(id), at, how }));
        }
        self.end(request, at, sink);
        self.rest(at, sink);
    }

    /// Authentication anew (MQTT 5 §4.12.1): who the client is afterwards is the method's secret, unless it is a token.
    fn auth(&mut self, from: Side, rest: &[u8], at: Nanos, sink: &mut dyn Sink) {
        const CONTINUE: u8 = 0x18;
        const AGAIN: u8 = 0x19;
        let mut b = Reader::new(rest);
        match (from, b.u8().unwrap_or(0)) {
            (Side::Client, AGAIN) => {
                let mut claim = None;
                let _ = properties(property_bytes(&mut b).unwrap_or_default(), &mut |p| {
                    if let Property::AuthData(data) = p {
                        claim = session::secret(data, sink);
                    }
                });
                self.ask(Asks::plain("AUTH", Kind::Auth), at, sink);
                if let Some(asked) = self.pending.back_mut() {
                    asked.kind = OpKind::Bind;
                    asked.effect = match claim {
                        Some(claim) => {
                            Effect::Bind { slot: Slot::User, claim, scope: Scope::Session, strength: Strength::V3 }
                        }
                        None => Effect::Unknown,
                    };
                }
            }
            (Side::Server, CONTINUE) | (Side::Client, _) => {}
            (Side::Server, _) => self.answer(Kind::Auth, 0, Outcome::Ok, at, sink),
        }
    }
}

/// What SUBACK and UNSUBACK say behind the packet id (MQTT 5 §3.9, §3.11; 3.1.1 §3.9, §3.11): refused when every filter
/// is. Version 5 has properties before the codes, and codes for UNSUBACK, too. Where the version was not seen, both are
/// tried, and where they differ the outcome is unknown. `None`: it is too short.
fn granted(kind: Kind, b: Reader<'_>, version: Option<Version>) -> Option<Outcome> {
    let of = |codes: &[u8]| {
        let refused = !codes.is_empty() && codes.iter().all(|code| *code >= 0x80);
        if refused { Outcome::Error } else { Outcome::Ok }
    };
    let three = || match kind {
        Kind::Unsuback => b.is_empty().then_some(Outcome::Ok),
        _ => (!b.is_empty() && b.rest().iter().all(|code| matches!(code, 0..=2 | 0x80))).then(|| of(b.rest())),
    };
    let five = || {
        let mut b = b;
        properties(property_bytes(&mut b)?, &mut |_| {})?;
        (!b.is_empty()).then(|| of(b.rest()))
    };
    match version {
        Some(Version::Three) => Some(of(b.rest())),
        Some(Version::Five) => {
            let mut b = b;
            property_bytes(&mut b)?;
            Some(of(b.rest()))
        }
        None => Some(match (three(), five()) {
            (Some(a), Some(b)) if a != b => Outcome::Unknown,
            (Some(a), _) | (None, Some(a)) => a,
            (None, None) => Outcome::Unknown,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_unseen_version_is_unknown() {
        let unseen = |kind, codes| granted(kind, Reader::new(codes), None);
        let (suback, unsuback) = (Kind::Suback, Kind::Unsuback);
        assert_eq!(unseen(suback, &[0, 0x87]), Some(Outcome::Error), "no code of 3.1.1");
        assert_eq!(unseen(suback, &[0, 0x80]), Some(Outcome::Unknown), "one of two filters, or the only one");
        assert_eq!(unseen(suback, &[0, 1]), Some(Outcome::Ok), "either way");
        assert_eq!(unseen(suback, &[1]), Some(Outcome::Ok), "no properties");
        assert_eq!(unseen(suback, &[0x80]), Some(Outcome::Error));
        assert_eq!(unseen(unsuback, &[0, 0x87]), Some(Outcome::Error));
        assert_eq!(unseen(unsuback, &[]), Some(Outcome::Ok));
        assert_eq!(granted(suback, Reader::new(&[0, 0x80]), Some(Version::Five)), Some(Outcome::Error));
        assert_eq!(granted(suback, Reader::new(&[0, 0x80]), Some(Version::Three)), Some(Outcome::Ok));
    }
}
