//! Topics by name and id, and how far their partitions were read on a connection.

use std::cell::RefCell;
use std::collections::VecDeque;
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
/// Most runs of deliveries of one partition that await a commit.
const MAX_RUNS: usize = 64;
/// Most deliveries of one run.
const MAX_RUN: i64 = 65_536;

/// Names of topics by their ids, for all connections of one engine. An id is made once and for one topic (KIP-516).
#[derive(Clone, Debug, Default)]
pub(super) struct Ids(Rc<RefCell<FxHashMap<[u8; 16], Rc<[u8]>>>>);

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

/// Deliveries with consecutive offsets and handles.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: i64,
    /// The offset after the last.
    end: i64,
    handle: u64,
}

/// How far a partition was read.
#[derive(Debug)]
struct Partition {
    /// What the consumer has asked to read from.
    asked: Option<i64>,
    /// The highest offset handed out.
    highest: i64,
    runs: VecDeque<Run>,
}

/// The partitions that are read on a connection.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: FxHashMap<(Fingerprint, i32), Partition>,
    handles: u64,
    runs: usize,
}

impl Partitions {
    fn partition(&mut self, topic: &Topic, number: i32) -> Option<&mut Partition> {
        let key = (topic.key, number);
        if self.known.len() >= MAX_PARTITIONS && !self.known.contains_key(&key) {
            return None;
        }
        let new = || Partition { asked: None, highest: -1, runs: VecDeque::new() };
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
    /// Else a handle, and whether a record with its offset or a higher one was handed out before.
    pub(super) fn deliver(&mut self, topic: &Topic, number: i32, offset: i64) -> Option<(u64, bool)> {
        self.handles += 1;
        let handle = self.handles;
        let mut more = 0;
        let Some(p) = self.partition(topic, number) else { return Some((handle, false)) };
        if p.asked.is_some_and(|from| offset < from) {
            return None;
        }
        let again = offset <= p.highest;
        p.highest = p.highest.max(offset);
        match p.runs.back_mut() {
            Some(run)
                if run.end == offset
                    && run.handle.wrapping_add((run.end - run.first).cast_unsigned()) == handle
                    && run.end - run.first < MAX_RUN =>
            {
                run.end += 1;
            }
            _ => {
                if p.runs.len() >= MAX_RUNS {
                    p.runs.pop_front();
                } else {
                    more = 1;
                }
                p.runs.push_back(Run { first: offset, end: offset.saturating_add(1), handle });
            }
        }
        self.runs += more;
        Some((handle, again))
    }

    /// A commit of all records below `offset` was accepted: each that was handed out here is told.
    pub(super) fn commit(&mut self, topic: Fingerprint, number: i32, offset: i64, tell: &mut dyn FnMut(u64)) {
        let Some(p) = self.known.get_mut(&(topic, number)) else { return };
        let before = p.runs.len();
        p.runs.retain_mut(|run| {
            while run.first < run.end && run.first < offset {
                tell(run.handle);
                run.first += 1;
                run.handle += 1;
            }
            run.first < run.end
        });
        self.runs = self.runs.saturating_sub(before - p.runs.len());
    }

    pub(super) fn memory(&self) -> usize {
        self.known.capacity() * (size_of::<Partition>() + 16) + self.runs * size_of::<Run>() * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &[u8]) -> Topic {
        let (named, shown) = (true, Sym::EMPTY);
        Topic { key: Salt(1, 2).fingerprint(name), name: name.into(), named, shown, marker: Claim::Neutral }
    }

    fn committed(p: &mut Partitions, t: &Topic, number: i32, offset: i64) -> Vec<u64> {
        let mut told = Vec::new();
        p.commit(t.key, number, offset, &mut |handle| told.push(handle));
        told
    }

    #[test]
    fn a_commit_ends_what_is_below_it() {
        let (mut p, t) = (Partitions::default(), topic(b"jobs"));
        let a: Vec<u64> = (10..15).map(|o| p.deliver(&t, 0, o).unwrap().0).collect();
        let other = p.deliver(&t, 1, 10).unwrap().0;
        let b: Vec<u64> = (15..17).map(|o| p.deliver(&t, 0, o).unwrap().0).collect();
        assert_eq!(committed(&mut p, &t, 0, 12), a[..2]);
        assert!(committed(&mut p, &t, 0, 12).is_empty());
        assert_eq!(committed(&mut p, &t, 0, 16), [a[2], a[3], a[4], b[0]]);
        assert!(committed(&mut p, &topic(b"others"), 0, 99).is_empty());
        assert_eq!(committed(&mut p, &t, 1, i64::MAX), [other]);
        assert_eq!(committed(&mut p, &t, 0, i64::MAX), [b[1]]);
    }

    #[test]
    fn what_is_read_again_is_known_and_what_was_not_asked_for_is_not_told() {
        let (mut p, t) = (Partitions::default(), topic(b"jobs"));
        p.ask(&t, 0, 5);
        assert_eq!(p.deliver(&t, 0, 4), None);
        assert_eq!(p.deliver(&t, 0, 5).map(|d| d.1), Some(false));
        assert_eq!(p.deliver(&t, 0, 6).map(|d| d.1), Some(false));
        p.ask(&t, 0, 6);
        assert_eq!(p.deliver(&t, 0, 6).map(|d| d.1), Some(true));
        assert_eq!(p.deliver(&t, 0, 7).map(|d| d.1), Some(false));
        p.forget_asked();
        assert_eq!(p.deliver(&t, 0, 1).map(|d| d.1), Some(true));
    }

    #[test]
    fn what_is_held_has_bounds() {
        let (mut p, t) = (Partitions::default(), topic(b"jobs"));
        for i in 0..10_000_i64 {
            p.deliver(&t, 0, i * 2);
            p.deliver(&t, i32::try_from(i).unwrap(), 0);
        }
        assert!(p.known.len() <= MAX_PARTITIONS && p.known.values().all(|p| p.runs.len() <= MAX_RUNS));
        assert!(p.memory() < 3 << 20);
    }
}
