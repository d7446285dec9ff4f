//! `amq-protocol` over the recordings of AMQP 0-9-1.

use std::collections::{BTreeMap, BTreeSet};

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, tx};
use bytes::{Buf, BytesMut};
use monitor_core::model::queue::Settlement;
use monitor_core::model::{Outcome, Side};

use crate::common::Segments;
use crate::common::suites::AMQP as SUITE;
use crate::{Frames, Told, every, frames};

fn read(segments: &Segments) -> Frames<AMQPFrame> {
    frames(segments, |_, bytes: &mut BytesMut| {
        let read = match parse_frame(&bytes[..]) {
            Ok((rest, frame)) => Some((frame, bytes.len() - rest.len())),
            Err(error) if error.is_incomplete() => None,
            Err(error) => return Err(format!("{error:?}")),
        };
        Ok(read.map(|(frame, n)| {
            bytes.advance(n);
            frame
        }))
    })
}

/// The specification's name of a method: of `Basic(GetOk(..))` that is `basic.get-ok`.
fn verb(method: &AMQPClass) -> String {
    let text = format!("{method:?}");
    let mut words = text.split('(');
    let class = words.next().unwrap().to_ascii_lowercase();
    let mut verb = format!("{class}.");
    for (n, letter) in words.next().unwrap().chars().enumerate() {
        if letter.is_ascii_uppercase() && n > 0 {
            verb.push('-');
        }
        verb.push(letter.to_ascii_lowercase());
    }
    verb
}

/// What a client says that asks for nothing: parts of the handshake, and answers.
const NO_REQUESTS: [&str; 6] = [
    "connection.start-ok",
    "connection.secure-ok",
    "connection.tune-ok",
    "connection.open",
    "connection.close-ok",
    "channel.close-ok",
];

/// A message on its way: what carries it, and how much of its content is to come.
struct Content {
    what: What,
    place: String,
    size: u64,
    left: Option<u64>,
}

enum What {
    Published,
    Delivered {
        tag: u64,
        again: bool,
        awaits: bool,
    },
    /// It could not be routed.
    Returned,
}

struct Publication {
    request: u64,
    place: String,
    size: u64,
    outcome: Outcome,
}

#[derive(Default)]
struct Channel {
    content: BTreeMap<bool, Content>,
    confirms: bool,
    transacts: bool,
    /// Consumers that confirm nothing.
    silent: BTreeSet<String>,
    /// Whether what is got is confirmed.
    gets: Vec<bool>,
    /// Deliveries that are not confirmed yet.
    open: BTreeSet<u64>,
    /// Publications whose outcome is not known yet: their places in the list of all.
    waiting: Vec<usize>,
    /// The last publication came back.
    returned: bool,
    /// Confirmations of a transaction.
    pending: Vec<(u64, Settlement)>,
}

/// What happened on a connection, as the specification has it.
#[derive(Default)]
struct Conversation {
    channels: BTreeMap<u16, Channel>,
    requests: Vec<String>,
    published: Vec<Publication>,
    /// Handle, place, size, whether again, whether a confirmation is awaited.
    delivered: Vec<(u64, String, u64, bool, bool)>,
    settled: Vec<(u64, Settlement)>,
}

fn place(exchange: &str, key: &str) -> String {
    if exchange.is_empty() { key.to_owned() } else { format!("{exchange}/{key}") }
}

fn handle(channel: u16, tag: u64) -> u64 {
    u64::from(channel) << 48 | tag
}

impl Conversation {
    fn frame(&mut self, from: Side, frame: AMQPFrame) {
        let is_client = from == Side::Client;
        match frame {
            AMQPFrame::Method(id, method) if is_client => self.asks(id, method),
            AMQPFrame::Method(id, method) => self.says(id, method),
            AMQPFrame::Header(id, header) => {
                let content = self.channels.entry(id).or_default().content.get_mut(&is_client).unwrap();
                (content.size, content.left) = (header.body_size, Some(header.body_size));
                self.content(id, is_client, 0);
            }
            AMQPFrame::Body(id, body) => self.content(id, is_client, body.len() as u64),
            _ => {}
        }
    }

    fn begin(&mut self, id: u16, is_client: bool, what: What, exchange: &str, key: &str) {
        let content = Content { what, place: place(exchange, key), size: 0, left: None };
        self.channels.entry(id).or_default().content.insert(is_client, content);
    }

    fn content(&mut self, id: u16, is_client: bool, n: u64) {
        let channel = self.channels.entry(id).or_default();
        let content = channel.content.get_mut(&is_client).unwrap();
        let left = content.left.unwrap().checked_sub(n).expect("no more content than the header says");
        content.left = Some(left);
        if left > 0 {
            return;
        }
        let Content { what, place, size, .. } = channel.content.remove(&is_client).unwrap();
        match what {
            What::Published => {
                self.requests.push("basic.publish".to_owned());
                channel.waiting.push(self.published.len());
                channel.returned = false;
                let request = self.requests.len() as u64;
                self.published.push(Publication { request, place, size, outcome: Outcome::Unknown });
            }
            What::Delivered { tag, again, awaits } => {
                if awaits {
                    channel.open.insert(tag);
                }
                self.delivered.push((handle(id, tag), place, size, again, awaits));
            }
            What::Returned => channel.returned = true,
        }
    }

    fn asks(&mut self, id: u16, method: AMQPClass) {
        use basic::AMQPMethod as M;
        let verb = verb(&method);
        let AMQPClass::Basic(method) = method else {
            if !NO_REQUESTS.contains(&verb.as_str()) {
                self.requests.push(verb);
            }
            return;
        };
        if let M::Publish(m) = method {
            return self.begin(id, true, What::Published, m.exchange.as_str(), m.routing_key.as_str());
        }
        self.requests.push(verb);
        let channel = self.channels.entry(id).or_default();
        match method {
            M::Consume(m) if m.no_ack => {
                channel.silent.insert(m.consumer_tag.as_str().to_owned());
            }
            M::Get(m) => channel.gets.push(!m.no_ack),
            M::Ack(m) => self.settle(id, m.delivery_tag, m.multiple, Settlement::Done),
            M::Nack(m) => self.settle(id, m.delivery_tag, m.multiple, refusal(m.requeue)),
            M::Reject(m) => self.settle(id, m.delivery_tag, false, refusal(m.requeue)),
            _ => {}
        }
    }

    fn settle(&mut self, id: u16, tag: u64, multiple: bool, how: Settlement) {
        let channel = self.channels.entry(id).or_default();
        let tags: Vec<u64> = if multiple { channel.open.range(..=tag).copied().collect() } else { vec![tag] };
        for tag in tags {
            assert!(channel.open.remove(&tag), "what is confirmed was delivered");
            if channel.transacts {
                channel.pending.push((handle(id, tag), how));
            } else {
                self.settled.push((handle(id, tag), how));
            }
        }
    }

    /// Who still waits learns how it ended.
    fn conclude(&mut self, id: u16, n: usize, outcome: Outcome) {
        for at in self.channels.entry(id).or_default().waiting.drain(..n) {
            self.published[at].outcome = outcome;
        }
    }

    fn says(&mut self, id: u16, method: AMQPClass) {
        use basic::AMQPMethod as M;
        let channel = self.channels.entry(id).or_default();
        let n_waiting = channel.waiting.len();
        match method {
            AMQPClass::Basic(M::Deliver(m)) => {
                let awaits = !channel.silent.contains(m.consumer_tag.as_str());
                let what = What::Delivered { tag: m.delivery_tag, again: m.redelivered, awaits };
                self.begin(id, false, what, m.exchange.as_str(), m.routing_key.as_str());
            }
            AMQPClass::Basic(M::GetOk(m)) => {
                let awaits = channel.gets.remove(0);
                let what = What::Delivered { tag: m.delivery_tag, again: m.redelivered, awaits };
                self.begin(id, false, what, m.exchange.as_str(), m.routing_key.as_str());
            }
            AMQPClass::Basic(M::GetEmpty(_)) => {
                channel.gets.remove(0);
            }
            AMQPClass::Basic(M::Return(m)) => {
                self.begin(id, false, What::Returned, m.exchange.as_str(), m.routing_key.as_str());
            }
            AMQPClass::Basic(M::Ack(m)) => {
                let outcome = if channel.returned { Outcome::Error } else { Outcome::Ok };
                channel.returned = false;
                self.confirm(id, m.delivery_tag, m.multiple, outcome);
            }
            AMQPClass::Basic(M::Nack(m)) => self.confirm(id, m.delivery_tag, m.multiple, Outcome::Error),
            AMQPClass::Basic(M::RecoverOk(_)) => self.give_back(id),
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => {
                channel.confirms = true;
                channel.waiting.clear();
            }
            AMQPClass::Tx(tx::AMQPMethod::SelectOk(_)) => channel.transacts = true,
            AMQPClass::Tx(tx::AMQPMethod::CommitOk(_)) => {
                self.settled.append(&mut channel.pending);
                self.conclude(id, n_waiting, Outcome::Ok);
            }
            AMQPClass::Tx(tx::AMQPMethod::RollbackOk(_)) => {
                assert!(channel.pending.is_empty(), "nothing recorded takes confirmations back");
                self.conclude(id, n_waiting, Outcome::Error);
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                if channel.confirms {
                    self.conclude(id, n_waiting, Outcome::Error);
                }
                self.give_back(id);
                self.channels.remove(&id);
            }
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => {
                self.give_back(id);
                self.channels.remove(&id);
            }
            _ => {}
        }
    }

    /// The server confirms publications: tags count those of the channel.
    fn confirm(&mut self, id: u16, tag: u64, multiple: bool, outcome: Outcome) {
        let channel = self.channels.entry(id).or_default();
        assert!(channel.confirms);
        // Those that are confirmed leave their places, so that tags stay what they are.
        let tag = usize::try_from(tag).unwrap();
        let which = if multiple { 0..tag } else { tag - 1..tag };
        for at in channel.waiting[which].iter_mut().filter(|at| **at != usize::MAX) {
            self.published[*at].outcome = outcome;
            *at = usize::MAX;
        }
    }

    fn give_back(&mut self, id: u16) {
        for tag in std::mem::take(&mut self.channels.entry(id).or_default().open) {
            self.settled.push((handle(id, tag), Settlement::Returned));
        }
    }
}

fn refusal(requeue: bool) -> Settlement {
    if requeue { Settlement::Returned } else { Settlement::Dropped }
}

#[test]
fn methods_and_messages_are_what_amq_protocol_reads() {
    every(&SUITE, &[], read, |name, frames, told| {
        let mut talk = Conversation::default();
        for (from, frame) in frames {
            talk.frame(from, frame);
        }
        compare(name, &talk, told);
    });
}

fn compare(name: &str, talk: &Conversation, told: &Told) {
    let operations = told.by_request();
    assert_eq!(told.n_begun(), talk.requests.len(), "{name}: each of them is a request");
    for (n, verb) in talk.requests.iter().enumerate() {
        if let Some(of_it) = operations.get(&(n as u64 + 1)) {
            assert!(of_it.iter().all(|op| told.name(op.verb) == verb), "{name}: {} {verb}", n + 1);
        }
    }
    for p in &talk.published {
        let what = format!("{name}: {} {}", p.request, p.place);
        assert_eq!(operations[&p.request][0].outcome, p.outcome, "{what}");
        let message = told.published().find(|m| m.request == p.request);
        assert_eq!(message.is_some(), p.outcome != Outcome::Error, "{what}: who was refused has published nothing");
        if let Some(m) = message {
            assert!(told.shows(m.queue, &p.place), "{what}");
            assert_eq!(m.bytes, p.size, "{what}");
        }
    }
    let accepted = talk.published.iter().filter(|p| p.outcome != Outcome::Error).count();
    assert_eq!(told.published().count(), accepted, "{name}: nothing else was published");
    let delivered: Vec<_> = told.delivered().map(|d| (d.confirmation.handle(), d.message.bytes, d.again)).collect();
    let want = talk.delivered.iter();
    let want = want.map(|(handle, _, size, again, awaits)| (awaits.then_some(*handle), *size, *again));
    assert_eq!(delivered, want.collect::<Vec<_>>(), "{name}: handle if it awaits a confirmation, size, again");
    for (d, (_, place, ..)) in told.delivered().zip(&talk.delivered) {
        assert!(told.shows(d.message.queue, place), "{name}: {place}");
    }
    let settled: Vec<_> = told.settled().map(|s| (s.handle, s.how)).collect();
    assert_eq!(settled, talk.settled, "{name}");
}
