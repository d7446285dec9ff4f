//! Well-kept codecs, written by others, over the recordings: what each reads of both directions by itself is compared with
//! what our decoder tells. The goldens were blessed by the decoder under test; these facts were not.
//!
//! A codec is only asked what it is made for, which is whole frames. What it cannot read is listed beside it, by name and
//! with the reason, and has to stay unreadable: what can be read is compared.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics fails")]

mod amqp;
#[path = "../common/mod.rs"]
mod common;
mod http2;
mod kafka;
mod mqtt;
mod nats;
mod postgres;
mod redis;

use std::collections::BTreeMap;

use bytes::BytesMut;
use common::{Recorder, Segments, Suite};
use monitor_core::decode::WireEvent;
use monitor_core::model::queue::{Delivery, Message, QueueEvent, Settled};
use monitor_core::model::{Operation, Side, Sym};

/// What a codec reads, in the order of the wire; or what it says that it cannot read.
type Frames<T> = Result<Vec<(Side, T)>, String>;

/// A recording that a codec cannot read: its name, what the codec says, why that is.
type Unreadable = (&'static str, &'static str, &'static str);

/// Feeds both directions to a codec: `next` takes one frame off the bytes of its side, if they are a whole one.
fn frames<T>(segments: &Segments, mut next: impl FnMut(Side, &mut BytesMut) -> Result<Option<T>, String>) -> Frames<T> {
    let (mut client, mut server, mut all) = (BytesMut::new(), BytesMut::new(), Vec::new());
    for (from, bytes) in segments {
        let buffer = if *from == Side::Client { &mut client } else { &mut server };
        buffer.extend_from_slice(bytes);
        while !buffer.is_empty()
            && let Some(frame) = next(*from, buffer)?
        {
            all.push((*from, frame));
        }
    }
    let left = (client.len(), server.len());
    if left == (0, 0) { Ok(all) } else { Err(format!("{left:?} bytes are no whole frame")) }
}

/// Compares what a codec reads of each recording with what our decoder tells of it before the connection ends.
fn every<T>(
    suite: &Suite,
    unreadable: &[Unreadable],
    read: impl Fn(&Segments) -> Result<T, String>,
    compare: impl Fn(&str, T, &Told),
) {
    let mut listed: BTreeMap<&str, &Unreadable> = unreadable.iter().map(|u| (u.0, u)).collect();
    for (name, segments) in suite.recordings() {
        match (read(&segments), listed.remove(name.as_str())) {
            (Ok(said), None) => {
                let recorder = suite.listen(false, common::harm::steps(&segments), false);
                compare(&name, said, &Told(recorder));
            }
            (Err(error), Some((_, says, why))) => assert!(error.contains(says), "{name} ({why}): {error}"),
            (Ok(_), Some((_, _, why))) => panic!("{name} can be read by now, and is listed as if not: {why}"),
            (Err(error), None) => panic!("{name} cannot be read: {error}"),
        }
    }
    assert!(listed.is_empty(), "there are no such recordings: {listed:?}");
}

/// What our decoder tells of a recording.
struct Told(Recorder);

impl Told {
    fn name(&self, name: Sym) -> &str {
        self.0.name(name)
    }

    fn events(&self) -> impl Iterator<Item = &WireEvent> {
        self.0.events.iter()
    }

    fn n_begun(&self) -> usize {
        self.events().filter(|e| matches!(e, WireEvent::Begun { .. })).count()
    }

    fn n_answered(&self) -> usize {
        self.events().filter(|e| matches!(e, WireEvent::Answered { .. })).count()
    }

    fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.events().filter_map(|e| if let WireEvent::Done(op) = e { Some(op) } else { None })
    }

    /// The operations of each request. Of 0: what nobody asked for.
    fn by_request(&self) -> BTreeMap<u64, Vec<&Operation>> {
        let mut all: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for op in self.operations() {
            all.entry(op.request).or_default().push(op);
        }
        all
    }

    fn queue(&self) -> impl Iterator<Item = &QueueEvent> {
        self.events().filter_map(|e| if let WireEvent::Queue(event) = e { Some(&**event) } else { None })
    }

    fn published(&self) -> impl Iterator<Item = &Message> {
        self.queue().filter_map(|e| if let QueueEvent::Published(m) = e { Some(m) } else { None })
    }

    fn delivered(&self) -> impl Iterator<Item = &Delivery> {
        self.queue().filter_map(|e| if let QueueEvent::Delivered(d) = e { Some(d) } else { None })
    }

    fn settled(&self) -> impl Iterator<Item = &Settled> {
        self.queue().filter_map(|e| if let QueueEvent::Settled(s) = e { Some(s) } else { None })
    }

    /// Whether a name as it is shown may stand for one as it was sent: what looks like an id is left out of it.
    fn shows(&self, shown: Sym, sent: &str) -> bool {
        fits(self.name(shown), sent)
    }
}

/// Whether `{id}` in `shown` may stand for what is there in `sent`.
fn fits(shown: &str, sent: &str) -> bool {
    let Some((before, after)) = shown.split_once("{id}") else { return shown == sent };
    let rest = sent.strip_prefix(before);
    rest.is_some_and(|rest| (1..=rest.len()).any(|n| rest.is_char_boundary(n) && fits(after, &rest[n..])))
}
