//! What carries records: Produce requests and Fetch responses, read as they come.
//!
//! Memory: the messages of Produce requests until they are answered (at most [`MAX_HELD`] on a connection); of a Fetch
//! response nothing.

use smallvec::SmallVec;

use super::Core;
use super::api;
use super::bytes::{Cursor, Read};
use super::pending::{Part, Pending, What};
use super::records::{Item, Record, Records};
use super::topics::Topic;
use crate::decode::DecodeError;
use crate::decode::Sink;
use crate::decode::message::Draft;
use crate::model::queue::{Confirmation, Delivery, Message, Position, QueueEvent};
use crate::model::{Fingerprint, Nanos, Outcome};

/// Most messages of one connection that await the broker's answer.
pub(super) const MAX_HELD: usize = 8192;
/// Most headers of one record that are looked at.
const MAX_HEADERS: usize = 64;
/// Most partitions of one request.
const MAX_PARTS: usize = 4096;
/// Most aborted transactions of one partition.
const MAX_ABORTED: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Topic,
    Part,
    Records,
    PartEnd,
    TopicEnd,
    End,
}

/// What carries the records.
#[derive(Debug)]
enum Kind {
    /// A Produce request.
    Produce {
        /// What its sender wants confirmed: nothing (0), or more.
        acks: i16,
        /// Its messages.
        parts: Vec<Part>,
    },
    /// A response to Fetch.
    Fetch {
        /// Its consumer sees committed records only.
        committed: bool,
        told: Told,
        /// The broker said that something failed.
        failed: bool,
    },
}

/// Of which deliveries the operation was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    None,
    /// Those of topics before this one.
    Before,
    /// Those of this topic, too.
    This,
}

/// A Produce request or Fetch response in the reading.
#[derive(Debug)]
pub(super) struct Carrier {
    kind: Kind,
    version: i16,
    request: u64,
    state: State,
    topics: usize,
    parts: usize,
    topic: Option<Topic>,
    partition: i32,
    records: Records,
}

impl Carrier {
    fn new(kind: Kind, version: i16, request: u64) -> Self {
        Self {
            kind,
            version,
            request,
            state: State::Start,
            topics: 0,
            parts: 0,
            topic: None,
            partition: 0,
            records: Records::new(0, SmallVec::new()),
        }
    }

    /// A Produce request of this version.
    pub(super) fn produce(version: i16, request: u64) -> Self {
        Self::new(Kind::Produce { acks: 1, parts: Vec::new() }, version, request)
    }

    /// The response to a Fetch request of this version.
    pub(super) fn fetch(version: i16, committed: bool, request: u64) -> Self {
        Self::new(Kind::Fetch { committed, told: Told::None, failed: false }, version, request)
    }

    fn compact(&self) -> bool {
        let key = match self.kind {
            Kind::Produce { .. } => api::PRODUCE,
            Kind::Fetch { .. } => api::FETCH,
        };
        api::flexible(key, self.version)
    }

    /// What was read of a Produce request, to be handed to who waits for its answer.
    pub(super) fn take_produced(&mut self) -> What {
        match &mut self.kind {
            Kind::Produce { acks, parts } => What::Produce { parts: std::mem::take(parts), silent: *acks == 0 },
            Kind::Fetch { .. } => What::Plain,
        }
    }

    /// How the request ended that a response to Fetch answers, as far as that was not told of its deliveries. `whole`: all
    /// of it could be read.
    pub(super) fn outcome(&self, whole: bool) -> Option<Outcome> {
        match self.kind {
            Kind::Fetch { told: Told::Before | Told::This, .. } => None,
            _ if !whole => Some(Outcome::Unknown),
            Kind::Fetch { failed: true, .. } => Some(Outcome::Error),
            Kind::Fetch { .. } | Kind::Produce { .. } => Some(Outcome::Ok),
        }
    }

    /// Reads one thing from `bytes`, what has come of the frame. How many bytes that took; `None` at the end.
    /// `fetch` is the request that is answered.
    pub(super) fn step(
        &mut self,
        bytes: &[u8],
        fetch: Option<&Pending>,
        core: &mut Core,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Read<Option<usize>> {
        let mut c = Cursor::new(bytes);
        let compact = self.compact();
        match self.state {
            State::Start => {
                self.start(&mut c, compact)?;
                self.state = if self.topics > 0 { State::Topic } else { State::End };
            }
            State::Topic => {
                let named = c.topic(self.version >= 13, compact)?;
                self.parts = c.count(compact)?;
                self.topic = Some(core.topics.find(named, &core.shared.ids, core.salt, sink));
                if let Kind::Fetch { told, .. } = &mut self.kind
                    && *told == Told::This
                {
                    *told = Told::Before;
                }
                self.state = if self.parts > 0 { State::Part } else { State::TopicEnd };
            }
            State::Part => {
                let aborted = self.part(&mut c, compact)?;
                let len = c.length(compact)?.unwrap_or(0);
                self.records = Records::new(len, aborted);
                if let Kind::Produce { parts, .. } = &mut self.kind
                    && parts.len() < MAX_PARTS
                    && let Some(topic) = &self.topic
                {
                    let (topic, partition) = (topic.clone(), self.partition);
                    parts.push(Part { topic, partition, messages: Vec::new(), count: 0 });
                }
                self.state = State::Records;
            }
            State::Records => {
                if self.records.is_done() {
                    self.state = State::PartEnd;
                    return Ok(Some(0));
                }
                return self.with_records(core, fetch, at, sink, |r, tell| r.step(bytes, tell)).map(Some);
            }
            State::PartEnd => {
                c.tags(compact)?;
                self.parts -= 1;
                self.state = if self.parts > 0 { State::Part } else { State::TopicEnd };
            }
            State::TopicEnd => {
                c.tags(compact)?;
                self.topics -= 1;
                self.state = if self.topics > 0 { State::Topic } else { State::End };
            }
            State::End => return Ok(None),
        }
        Ok(Some(c.read()))
    }

    /// The rest will not come, or cannot be read: records that are known to be there are told of.
    pub(super) fn abandon(&mut self, fetch: Option<&Pending>, core: &mut Core, at: Nanos, sink: &mut dyn Sink) {
        if self.state == State::Records {
            self.with_records(core, fetch, at, sink, |r, tell| r.abandon(tell));
        }
        self.state = State::End;
    }

    fn start(&mut self, c: &mut Cursor<'_>, compact: bool) -> Read<()> {
        match &mut self.kind {
            Kind::Produce { acks, .. } => {
                if self.version >= 3 {
                    c.string(compact)?;
                }
                let said = c.i16()?;
                c.i32()?;
                self.topics = c.count(compact)?;
                *acks = said;
            }
            Kind::Fetch { failed, .. } => {
                if self.version >= 1 {
                    c.i32()?;
                }
                if self.version >= 7 {
                    let error = c.i16()?;
                    c.i32()?;
                    *failed = error != 0;
                }
                self.topics = c.count(compact)?;
            }
        }
        Ok(())
    }

    /// What stands before a partition's records.
    fn part(&mut self, c: &mut Cursor<'_>, compact: bool) -> Read<SmallVec<[(i64, i64); 2]>> {
        let mut aborted = SmallVec::new();
        self.partition = c.i32()?;
        let Kind::Fetch { committed, failed, .. } = &mut self.kind else { return Ok(aborted) };
        let error = c.i16()?;
        c.i64()?;
        if self.version >= 4 {
            c.i64()?;
        }
        if self.version >= 5 {
            c.i64()?;
        }
        if self.version >= 4 {
            for _ in 0..c.count(compact)? {
                let transaction = (c.i64()?, c.i64()?);
                c.tags(compact)?;
                if *committed && aborted.len() < MAX_ABORTED {
                    aborted.push(transaction);
                }
            }
        }
        if self.version >= 11 {
            c.i32()?;
        }
        *failed |= error != 0;
        Ok(aborted)
    }

    fn with_records<T>(
        &mut self,
        core: &mut Core,
        fetch: Option<&Pending>,
        at: Nanos,
        sink: &mut dyn Sink,
        run: impl FnOnce(&mut Records, &mut dyn FnMut(Item<'_>)) -> T,
    ) -> T {
        let mut records = std::mem::replace(&mut self.records, Records::new(0, SmallVec::new()));
        let result = run(&mut records, &mut |item| match fetch {
            Some(fetch) => self.fetched(item, fetch, core, at, sink),
            None => self.produced(item, core, at, sink),
        });
        self.records = records;
        result
    }

    fn produced(&mut self, item: Item<'_>, core: &mut Core, at: Nanos, sink: &mut dyn Sink) {
        if let Item::Lost(why) = item {
            sink.decode_error(why);
            return;
        }
        let Kind::Produce { parts, .. } = &mut self.kind else { return };
        let Some(part) = parts.last_mut() else { return };
        let place = part.count;
        part.count += 1;
        if core.held >= MAX_HELD {
            if place == 0 || core.held == MAX_HELD {
                sink.decode_error(DecodeError::TooManyMessages);
            }
            core.held = MAX_HELD + 1;
            return;
        }
        core.held += 1;
        let message = message(core, (&part.topic, part.partition), item, self.request, at, sink);
        part.messages.push((place, message));
    }

    fn fetched(&mut self, item: Item<'_>, fetch: &Pending, core: &mut Core, at: Nanos, sink: &mut dyn Sink) {
        let offset = match item {
            Item::Record(r) => r.offset,
            Item::Unread(offset, _) => offset,
            Item::Lost(why) => {
                sink.decode_error(why);
                return;
            }
        };
        let Some(topic) = &self.topic else { return };
        let Some(again) = core.partitions.deliver(topic, self.partition, offset) else { return };
        if let Kind::Fetch { told, .. } = &mut self.kind
            && *told != Told::This
        {
            *told = Told::This;
            let mut op = fetch.operation(at, Outcome::Ok, sink);
            (op.target, op.marker) = (topic.shown, topic.marker);
            sink.done(&op);
        }
        let mut message = message(core, (topic, self.partition), item, self.request, at, sink);
        message.ids.push(topic.record(core.salt, self.partition, offset));
        let confirmation = Confirmation::Past(Position { log: topic.partition(core.salt, self.partition), offset });
        sink.queue(QueueEvent::Delivered(Delivery { message, again, confirmation }));
    }
}

/// A message from a record, the same for producer and consumer.
fn message(
    core: &Core,
    (topic, partition): (&Topic, i32),
    item: Item<'_>,
    request: u64,
    at: Nanos,
    sink: &mut dyn Sink,
) -> Message {
    let mut draft = Draft::new(core.salt, request);
    draft.address(&[&topic.name], topic.text(), sink);
    let mut key = None;
    draft.lane(&partition.to_be_bytes());
    match item {
        Item::Record(record) => {
            content(&record, &mut draft, sink);
            key = record.key;
            if let Some(key) = key {
                draft.lane(key);
            }
        }
        Item::Unread(_, n) => draft.missing(n),
        Item::Lost(_) => {}
    }
    let mut message = draft.finish(at, sink);
    // The key is part of what is handed on; by itself it says nothing of the content's layout.
    if let (Some(print), Some(key)) = (message.print, key) {
        let key = core.salt.fingerprint(key);
        message.print = Some(Fingerprint(print.0 ^ key.0.rotate_left(23)));
    }
    message
}

fn content(record: &Record<'_>, draft: &mut Draft, sink: &mut dyn Sink) {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    for (name, value) in record.headers().take(MAX_HEADERS) {
        if let (Some(name), Some(value)) = (text(name), text(value)) {
            draft.header(name, value, sink);
        }
    }
    if let Some(key) = record.key.and_then(text) {
        draft.key(key, sink);
    }
    draft.content(record.value.unwrap_or_default());
}
