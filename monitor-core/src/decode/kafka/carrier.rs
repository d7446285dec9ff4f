//! What carries records: Produce requests and Fetch responses, read as they come.
//!
//! Memory: the messages of Produce requests until they are answered (at most [`MAX_HELD`] on a connection); of a Fetch
//! response nothing.

use smallvec::SmallVec;

use super::Core;
use super::api;
use super::bytes::{Cursor, Read};
use super::pending::{Part, Pending};
use super::records::{Item, Record, Records};
use super::topics::Topic;
use crate::decode::DecodeError;
use crate::decode::Sink;
use crate::decode::message::Draft;
use crate::model::queue::{Confirmed, Delivery, Message, Position, QueueEvent};
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

/// A Produce request or Fetch response in the reading.
#[derive(Debug)]
pub(super) struct Carrier {
    produce: bool,
    version: i16,
    /// Consumers see committed records only.
    committed: bool,
    request: u64,
    state: State,
    topics: usize,
    parts: usize,
    topic: Option<Topic>,
    partition: i32,
    records: Records,
    /// What the client wants confirmed: nothing (0), or more.
    pub(super) acks: i16,
    /// Messages of a Produce request.
    pub(super) produced: Vec<Part>,
    /// Deliveries of this topic were told.
    told: bool,
    /// Deliveries were told.
    pub(super) any: bool,
    /// The broker said that something failed.
    pub(super) failed: bool,
}

impl Carrier {
    fn new(produce: bool, version: i16, committed: bool, request: u64) -> Self {
        Self {
            produce,
            version,
            committed,
            request,
            state: State::Start,
            topics: 0,
            parts: 0,
            topic: None,
            partition: 0,
            records: Records::new(0, SmallVec::new()),
            acks: 1,
            produced: Vec::new(),
            told: false,
            any: false,
            failed: false,
        }
    }

    /// A Produce request of this version.
    pub(super) fn produce(version: i16, request: u64) -> Self {
        Self::new(true, version, false, request)
    }

    /// The response to a Fetch request of this version.
    pub(super) fn fetch(version: i16, committed: bool, request: u64) -> Self {
        Self::new(false, version, committed, request)
    }

    fn compact(&self) -> bool {
        api::flexible(if self.produce { api::PRODUCE } else { api::FETCH }, self.version)
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
                self.told = false;
                self.state = if self.parts > 0 { State::Part } else { State::TopicEnd };
            }
            State::Part => {
                let aborted = self.part(&mut c, compact)?;
                let len = c.length(compact)?.unwrap_or(0);
                self.records = Records::new(len, aborted);
                if self.produce
                    && self.produced.len() < MAX_PARTS
                    && let Some(topic) = &self.topic
                {
                    let (topic, partition) = (topic.clone(), self.partition);
                    self.produced.push(Part { topic, partition, messages: Vec::new(), count: 0 });
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
        if self.produce {
            if self.version >= 3 {
                c.string(compact)?;
            }
            let acks = c.i16()?;
            c.i32()?;
            self.topics = c.count(compact)?;
            self.acks = acks;
            return Ok(());
        }
        if self.version >= 1 {
            c.i32()?;
        }
        if self.version >= 7 {
            let error = c.i16()?;
            c.i32()?;
            self.failed = error != 0;
        }
        self.topics = c.count(compact)?;
        Ok(())
    }

    /// What stands before a partition's records.
    fn part(&mut self, c: &mut Cursor<'_>, compact: bool) -> Read<SmallVec<[(i64, i64); 2]>> {
        let mut aborted = SmallVec::new();
        self.partition = c.i32()?;
        if self.produce {
            return Ok(aborted);
        }
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
                if self.committed && aborted.len() < MAX_ABORTED {
                    aborted.push(transaction);
                }
            }
        }
        if self.version >= 11 {
            c.i32()?;
        }
        self.failed |= error != 0;
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
        let Some(part) = self.produced.last_mut() else { return };
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
        let Some((handle, again)) = core.partitions.deliver(topic, self.partition, offset) else { return };
        if !self.told {
            self.told = true;
            self.any = true;
            let mut op = fetch.operation(at, Outcome::Ok, sink);
            (op.target, op.marker) = (topic.shown, topic.marker);
            sink.done(&op);
        }
        let mut message = message(core, (topic, self.partition), item, self.request, at, sink);
        message.ids.push(topic.record(core.salt, self.partition, offset));
        let confirmed = Confirmed::Past(Position { log: topic.partition(core.salt, self.partition), offset });
        sink.queue(QueueEvent::Delivered(Delivery { message, handle, awaits_ack: true, again, confirmed }));
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
