//! Topics by name and id, and how far their partitions were read on a connection.

use std::cell::RefCell;
use std::hash::Hasher as _;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::bytes::Named;
use crate::decode::Sink;
use crate::decode::message::shown;
use crate::model::claim::Salt;
use crate::model::{Claim, Fingerprint, MarkerPlace, Sym};

/// Most topic ids kept for one engine.
const MAX_IDS: usize = 16_384;
/// Longest topic name (Apache Kafka, `Topic.MAX_NAME_LENGTH`).
const MAX_NAME: usize = 249;
/// Most topics of one connection that are kept in mind.
const MAX_TOPICS: usize = 1024;
/// Most partitions of one connection whose deliveries are followed.
const MAX_PARTITIONS: usize = 4096;

/// Names of topics by their ids, for all connections of one engine. An id is made once and for one topic (KIP-516).
#[derive(Clone, Debug, Default)]
pub(super) struct Ids(Rc<RefCell<Names>>);

type Names = FxHashMap<[u8; 16], Rc<[u8]>>;

impl Ids {
    /// A broker has told that topic `name` has this id.
    pub(super) fn learn(&self, id: [u8; 16], name: &[u8]) {
        if id == [0; 16] || name.is_empty() || name.len() > MAX_NAME {
            return;
        }
        let mut ids = self.0.borrow_mut();
        if ids.len() < MAX_IDS || ids.contains_key(&id) {
            ids.insert(id, name.into());
        }
    }

    fn name(&self, id: &[u8; 16]) -> Option<Rc<[u8]>> {
        self.0.borrow().get(id).cloned()
    }
}

/// A topic.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    /// Tells it from others: the same for its name and its id, once both are known.
    pub(super) key: Fingerprint,
    /// Its name; its id where the name is not known.
    pub(super) name: Rc<[u8]>,
    /// The name is known.
    pub(super) named: bool,
    /// What of its name may be shown.
    pub(super) shown: Sym,
    /// Whom its name names.
    pub(super) marker: Claim,
}

impl Topic {
    /// Its name as text, empty if it is not known or none.
    pub(super) fn text(&self) -> &str {
        if self.named { std::str::from_utf8(&self.name).unwrap_or("") } else { "" }
    }

    /// What identifies the record with this offset.
    pub(super) fn record(&self, salt: Salt, partition: i32, offset: i64) -> Fingerprint {
        let mut h = salt.hasher();
        h.write(b"kafka record");
        h.write_u64(self.key.0);
        h.write_i32(partition);
        h.write_i64(offset);
        Fingerprint(h.finish())
    }

    /// What identifies this partition of it.
    pub(super) fn partition(&self, salt: Salt, number: i32) -> Fingerprint {
        log(salt, self.key, number)
    }
}

/// What identifies a partition of the topic with this key.
pub(super) fn log(salt: Salt, topic: Fingerprint, number: i32) -> Fingerprint {
    let mut h = salt.hasher();
    h.write(b"kafka partition");
    h.write_u64(topic.0);
    h.write_i32(number);
    Fingerprint(h.finish())
}

/// Topics that one connection has spoken of.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: FxHashMap<Rc<[u8]>, Topic>,
}

impl Topics {
    /// The topic of this name or id.
    pub(super) fn find(&mut self, named: Named<'_>, ids: &Ids, salt: Salt, sink: &mut dyn Sink) -> Topic {
        match named {
            Named::Name(name) => self.named(name, salt, sink),
            Named::Id(id) => match ids.name(&id) {
                Some(name) => self.named(&name, salt, sink),
                None => Topic {
                    key: salt.fingerprint(&id),
                    name: Rc::from(&id[..]),
                    named: false,
                    shown: Sym::EMPTY,
                    marker: Claim::Neutral,
                },
            },
        }
    }

    fn named(&mut self, name: &[u8], salt: Salt, sink: &mut dyn Sink) -> Topic {
        if let Some(topic) = self.known.get(name) {
            return topic.clone();
        }
        let text = std::str::from_utf8(name).ok().filter(|n| n.len() <= MAX_NAME);
        let topic = Topic {
            key: salt.fingerprint(name),
            name: Rc::from(name.get(..MAX_NAME).unwrap_or(name)),
            named: true,
            shown: text.map_or(Sym::EMPTY, |name| shown(name, sink)),
            marker: text.map_or(Claim::Neutral, |name| sink.marker(MarkerPlace::KeyPrefix, "", name)),
        };
        if self.known.len() < MAX_TOPICS && text.is_some() {
            self.known.insert(topic.name.clone(), topic.clone());
        }
        topic
    }

    pub(super) fn memory(&self) -> usize {
        self.known.capacity() * (size_of::<Topic>() + size_of::<Rc<[u8]>>() + MAX_NAME / 4)
    }
}

/// How far a partition was read.
#[derive(Debug)]
struct Partition {
    /// What the consumer has asked to read from.
    asked: Option<i64>,
    /// The highest offset handed out.
    highest: i64,
}

/// The partitions that are read on a connection.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: FxHashMap<(Fingerprint, i32), Partition>,
}

impl Partitions {
    fn partition(&mut self, topic: &Topic, number: i32) -> Option<&mut Partition> {
        let key = (topic.key, number);
        if self.known.len() >= MAX_PARTITIONS && !self.known.contains_key(&key) {
            return None;
        }
        let new = || Partition { asked: None, highest: -1 };
        Some(self.known.entry(key).or_insert_with(new))
    }

    /// The consumer asks for records from this offset on.
    pub(super) fn ask(&mut self, topic: &Topic, number: i32, from: i64) {
        if let Some(p) = self.partition(topic, number) {
            p.asked = Some(from);
        }
    }

    /// What was asked for is not known any more.
    pub(super) fn forget_asked(&mut self) {
        self.known.values_mut().for_each(|p| p.asked = None);
    }

    /// A record has come. `None`: the consumer passes over it, since it asked for later ones; batches are sent whole.
    /// Else whether a record with its offset or a higher one was handed out before.
    pub(super) fn deliver(&mut self, topic: &Topic, number: i32, offset: i64) -> Option<bool> {
        let Some(p) = self.partition(topic, number) else { return Some(false) };
        if p.asked.is_some_and(|from| offset < from) {
            return None;
        }
        let again = offset <= p.highest;
        p.highest = p.highest.max(offset);
        Some(again)
    }

    pub(super) fn memory(&self) -> usize {
        self.known.capacity() * (size_of::<Partition>() + 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &[u8]) -> Topic {
        let (named, shown) = (true, Sym::EMPTY);
        Topic { key: Salt(1, 2).fingerprint(name), name: name.into(), named, shown, marker: Claim::Neutral }
    }

    #[test]
    fn what_is_read_again_is_known_and_what_was_not_asked_for_is_not_told() {
        let (mut p, t) = (Partitions::default(), topic(b"jobs"));
        p.ask(&t, 0, 5);
        assert_eq!(p.deliver(&t, 0, 4), None);
        assert_eq!(p.deliver(&t, 0, 5), Some(false));
        assert_eq!(p.deliver(&t, 0, 6), Some(false));
        p.ask(&t, 0, 6);
        assert_eq!(p.deliver(&t, 0, 6), Some(true));
        assert_eq!(p.deliver(&t, 0, 7), Some(false));
        p.forget_asked();
        assert_eq!(p.deliver(&t, 0, 1), Some(true));
    }

    #[test]
    fn what_is_held_has_bounds() {
        let (mut p, t) = (Partitions::default(), topic(b"jobs"));
        for i in 0..10_000_i64 {
            p.deliver(&t, 0, i * 2);
            p.deliver(&t, i32::try_from(i).unwrap(), 0);
        }
        assert!(p.known.len() <= MAX_PARTITIONS);
        assert!(p.memory() < 3 << 20);
    }
}
