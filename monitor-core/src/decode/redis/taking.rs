//! What a reply hands over: messages inside lists, streams, pub/sub and BullMQ's scripts, read element by element as
//! they come.
//!
//! Memory: one message, and 512 that are complete.

mod roles;

use smallvec::SmallVec;

use super::arq;
use super::bodies::Bodies;
use super::element::{Address, Element, identify};
use super::entry::{self, Entry};
use super::reply::Kind;
use super::rq;
use super::sending::moved;
use crate::decode::Sink;
use crate::model::claim::Salt;
use crate::model::queue::{Confirmation, Delivery, QueueEvent, Settled, Settlement};
use crate::model::{Fingerprint, Nanos};

/// Longest key or id that is kept.
const MAX_TEXT: usize = 1 << 10;
/// Deepest element that is told apart.
const MAX_DEPTH: usize = 6;
/// Most events that wait for the reply's end.
const MAX_WAITING: usize = 512;

/// What a command's reply may hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    /// The id of the entry that was added to this stream.
    EntryId(Vec<u8>),
    /// The id of the job that was added to this queue of BullMQ's.
    JobId(Vec<u8>),
    /// Elements of this list: one, or an array of them. `to`: they were moved to that list.
    Elements { key: Vec<u8>, to: Option<Vec<u8>>, back: bool },
    /// A list's name, then an element or an array of them.
    Named,
    /// Entries of streams by their names. `old`: hashes of the streams whose entries were delivered before.
    Streams { group: Vec<u8>, awaits: bool, old: SmallVec<[u64; 2]> },
    /// Entries of this stream, delivered before; `auto`: behind a cursor.
    Claimed { key: Vec<u8>, group: Vec<u8>, auto: bool },
    /// A message of pub/sub.
    Message,
    /// A job of this queue of BullMQ's.
    Job(Vec<u8>),
    /// The text of this job of arq's.
    Body { queue: Vec<u8>, id: Vec<u8> },
}

/// What an element of the reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Skip,
    Word,
    Key,
    Content,
    Id,
    Name,
    Value,
    /// A field's name, and a value, of a job of BullMQ's.
    JobName,
    JobValue,
}

/// Whose reply is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// That of a command outside of a transaction.
    Alone,
    /// That of EXEC, which holds those of the transaction's commands.
    Exec,
    /// That of the transaction's command of this number, inside that of EXEC.
    Queued(usize),
}

impl Whose {
    /// Which command of a transaction it is.
    pub(super) fn number(self) -> usize {
        match self {
            Self::Queued(number) => number,
            Self::Alone | Self::Exec => 0,
        }
    }

    /// The next command of the transaction.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Queued(number) => Self::Queued(number + 1),
            Self::Alone | Self::Exec => Self::Queued(0),
        }
    }

    /// Depth of the reply's own beginning.
    fn base(self) -> usize {
        match self {
            Self::Alone => 0,
            Self::Exec | Self::Queued(_) => 1,
        }
    }
}

/// Reads one reply after another.
#[derive(Debug)]
pub(super) struct Taking {
    salt: Salt,
    bodies: Bodies,
    db: u32,
    expects: Option<Expects>,
    /// How many elements are complete, by depth below the base.
    index: [u32; MAX_DEPTH],
    /// The outermost element is a map: names and values take turns where arrays nest.
    map: bool,
    role: Role,
    key: Vec<u8>,
    text: Vec<u8>,
    id: Vec<u8>,
    element: Option<Element>,
    entry: Option<Entry>,
    again: bool,
    /// Which command of a transaction, and what it handed over.
    pub(super) events: Vec<(usize, QueueEvent)>,
    /// The id that was given to what was added.
    pub(super) given: Option<Vec<u8>>,
    /// Which word pub/sub said, for the operation's name.
    pub(super) word: &'static str,
    pub(super) too_many: bool,
    pub(super) whose: Whose,
}

impl Taking {
    pub(super) fn new(salt: Salt, bodies: &Bodies) -> Self {
        Self {
            salt,
            bodies: bodies.clone(),
            db: 0,
            expects: None,
            index: [0; MAX_DEPTH],
            map: false,
            role: Role::Skip,
            key: Vec::new(),
            text: Vec::new(),
            id: Vec::new(),
            element: None,
            entry: None,
            again: false,
            events: Vec::new(),
            given: None,
            word: "message",
            too_many: false,
            whose: Whose::Alone,
        }
    }

    /// A reply begins from which this is expected.
    pub(super) fn begin(&mut self, expects: Option<Expects>, db: u32, whose: Whose) {
        self.expects = expects;
        self.db = db;
        self.whose = whose;
        self.index = [0; MAX_DEPTH];
        self.map = false;
        self.role = Role::Skip;
        self.key.clear();
        self.text.clear();
        self.id.clear();
        self.element = None;
        self.entry = None;
        self.again = false;
        self.given = None;
        self.word = "";
    }

    /// Forgets the reply, which was cut short.
    pub(super) fn reset(&mut self) {
        self.begin(None, 0, Whose::Alone);
        self.events.clear();
        self.too_many = false;
    }

    /// Where a depth of the reply lies below its own beginning.
    fn below(&self, depth: usize) -> Option<usize> {
        depth.checked_sub(self.whose.base()).filter(|d| *d < MAX_DEPTH)
    }

    fn at(&self, depth: usize) -> u32 {
        self.index.get(depth).copied().unwrap_or(u32::MAX)
    }

    /// An array or map begins.
    pub(super) fn open(&mut self, depth: usize, map: bool) {
        let Some(below) = self.below(depth) else { return };
        if below == 0 {
            self.map = map;
        }
        if let Some(index) = self.index.get_mut(below + 1) {
            *index = 0;
        }
    }

    /// A string begins.
    pub(super) fn starts(&mut self, depth: usize) {
        self.role = self.below(depth).map_or(Role::Skip, |d| self.role(d));
        self.text.clear();
        match self.role {
            Role::Content => self.element = Some(Element::new(self.salt)),
            Role::Name | Role::Value => {
                self.entry.get_or_insert_with(|| Entry::new(self.salt));
            }
            Role::JobValue if self.key == b"data" => self.element = Some(Element::new(self.salt)),
            _ => {}
        }
    }

    /// More of it.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        match (self.role, &mut self.element, &mut self.entry) {
            (Role::Skip, ..) => {}
            (Role::Content, Some(element), _) => element.piece(bytes),
            (Role::JobValue, Some(element), _) if self.key == b"data" => element.piece(bytes),
            (Role::Name, _, Some(entry)) => entry.name_piece(bytes),
            (Role::Value, _, Some(entry)) => entry.value_piece(bytes),
            _ => {
                let room = (MAX_TEXT + 1).saturating_sub(self.text.len());
                self.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
            }
        }
    }

    /// `n` bytes of it are missing here.
    pub(super) fn missing(&mut self, n: u64) {
        match (self.role, &mut self.element, &mut self.entry) {
            (Role::Content | Role::JobValue, Some(element), _) => element.missing(n),
            (Role::Name | Role::Value, _, Some(entry)) => entry.missing(n),
            // Keys and ids that are not known make what belongs to them unknown.
            _ => self.expects = None,
        }
    }

    /// A single value has ended.
    pub(super) fn value(&mut self, depth: usize, kind: Kind, at: Nanos, sink: &mut dyn Sink) {
        let role = std::mem::replace(&mut self.role, Role::Skip);
        let null = matches!(kind, Kind::Null | Kind::Error);
        match role {
            _ if null => self.element = None,
            Role::Skip => {}
            Role::Word => {
                self.word = match self.text.as_slice() {
                    b"message" => "message",
                    b"pmessage" => "pmessage",
                    b"smessage" => "smessage",
                    _ => "",
                }
            }
            Role::Key | Role::JobName => std::mem::swap(&mut self.key, &mut self.text),
            Role::Id => self.identified(at, sink),
            Role::Content => self.content(at, sink),
            Role::Name => self.entry.iter_mut().for_each(Entry::name_ends),
            Role::Value => self.entry.iter_mut().for_each(|e| e.value_ends(sink)),
            Role::JobValue => match self.key.as_slice() {
                b"atm" => self.again |= self.text != b"0",
                b"ats" => self.again |= self.text != b"1" && self.text != b"0",
                _ => {}
            },
        }
        self.ended(depth);
    }

    /// An array or map has ended.
    pub(super) fn close(&mut self, depth: usize, at: Nanos, sink: &mut dyn Sink) {
        if let Some(below) = self.below(depth) {
            self.entry_ends(below, at, sink);
        }
        self.ended(depth);
    }

    fn ended(&mut self, depth: usize) {
        if let Some(index) = self.below(depth).and_then(|d| self.index.get_mut(d)) {
            *index = index.saturating_add(1);
        }
    }

    /// An id is complete.
    fn identified(&mut self, at: Nanos, sink: &mut dyn Sink) {
        match &self.expects {
            Some(Expects::EntryId(_) | Expects::JobId(_)) => self.given = Some(std::mem::take(&mut self.text)),
            Some(Expects::Job(queue)) => {
                let Some(element) = self.element.take() else { return };
                let address = Address { kind: b"bull", db: self.db, name: queue };
                let read = element.finish(address, Some(("bull", &self.text)), at, sink);
                let handle = identify(self.salt, "bull", &[&self.db.to_be_bytes(), queue, &self.text]);
                let (message, again) = (read.message, self.again);
                self.delivered(Delivery { message, again, confirmation: Confirmation::Anywhere(handle) });
            }
            _ => std::mem::swap(&mut self.id, &mut self.text),
        }
    }

    /// A list's element or a channel's message is complete.
    fn content(&mut self, at: Nanos, sink: &mut dyn Sink) {
        let Some(element) = self.element.take() else { return };
        if let Some(Expects::Body { queue, id }) = &self.expects {
            let mut message =
                element.finish(Address { kind: b"key", db: self.db, name: queue }, None, at, sink).message;
            let handle = arq::tag(self.salt, self.db, id);
            self.bodies.tell(self.db, super::bodies::print(self.salt, id), &mut message, self.salt);
            let confirmation = Confirmation::Anywhere(handle);
            return self.delivered(Delivery { message, again: false, confirmation });
        }
        let (kind, name, db): (&'static [u8], _, _) = match &self.expects {
            Some(Expects::Elements { key, .. }) => (b"key", key, self.db),
            Some(Expects::Message) => (b"channel", &self.key, 0),
            _ => (b"key", &self.key, self.db),
        };
        // What the server itself tells about keys is no message.
        if kind == b"channel" && (name.starts_with(b"__key") || name.starts_with(b"__redis__")) {
            return;
        }
        let mut read = element.finish(Address { kind, db, name }, None, at, sink);
        let mut confirmation = Confirmation::None;
        let of_rq = rq::queue(name).filter(|_| kind == b"key").zip(read.element);
        let of_rq = of_rq.map(|(queue, id)| rq::tag(self.salt, db, queue, id));
        if let Some(id) = read.element {
            self.bodies.tell(db, id, &mut read.message, self.salt);
        }
        if let Some(Expects::Elements { key, to, back }) = &self.expects
            && let Some(print) = read.element
        {
            let taken = of_rq.unwrap_or_else(|| moved(self.salt, Address { kind, db, name: key }, print));
            if *back {
                return self.event(QueueEvent::Settled(Settled { handle: taken, at, how: Settlement::Returned }));
            }
            if let Some(to) = to {
                confirmation = Confirmation::Anywhere(moved(self.salt, Address { kind, db, name: to }, print));
            }
        }
        if let (Some(tag), false) = (read.tag, kind == b"channel") {
            confirmation = Confirmation::Anywhere(tag);
        }
        if let Some(of_rq) = of_rq {
            confirmation = Confirmation::Anywhere(of_rq);
        }
        self.delivered(Delivery { message: read.message, again: read.again, confirmation });
    }

    /// An array has ended at this depth, which may be that of an entry.
    fn entry_ends(&mut self, below: usize, at: Nanos, sink: &mut dyn Sink) {
        let (stream, group, awaited, again) = match &self.expects {
            Some(Expects::Streams { group, awaits, old }) if below == 2 + usize::from(!self.map) => {
                (&self.key, group, *awaits, old.contains(&stream_hash(self.salt, &self.key)))
            }
            Some(Expects::Claimed { key, group, auto }) if below == 1 + usize::from(*auto) => (key, group, true, true),
            _ => return,
        };
        // An entry that was deleted has no fields.
        let Some(entry) = self.entry.take() else { return };
        let id = entry::id(self.salt, self.db, stream, &self.id);
        let address = Address { kind: b"key", db: self.db, name: stream };
        let message = entry.finish(address, Some(id), at, sink);
        let confirmation = match awaited {
            true => Confirmation::Anywhere(handle(self.salt, self.db, stream, group, &self.id)),
            false => Confirmation::None,
        };
        self.delivered(Delivery { message, again, confirmation });
    }

    fn delivered(&mut self, delivery: Delivery) {
        self.event(QueueEvent::Delivered(delivery));
    }

    fn event(&mut self, event: QueueEvent) {
        if self.events.len() < MAX_WAITING {
            self.events.push((self.whose.number(), event));
        } else {
            self.too_many = true;
        }
    }

    /// The id of what was added, as its message has it.
    pub(super) fn given_id(&self) -> Option<Fingerprint> {
        let id = self.given.as_deref()?;
        match self.expects.as_ref()? {
            Expects::EntryId(stream) => Some(entry::id(self.salt, self.db, stream, id)),
            Expects::JobId(queue) => {
                Some(Fingerprint(identify(self.salt, "bull", &[&self.db.to_be_bytes(), queue, id])))
            }
            _ => None,
        }
    }

    pub(super) fn memory(&self) -> usize {
        let open = usize::from(self.element.is_some() || self.entry.is_some()) * (32 << 10);
        self.key.capacity()
            + self.text.capacity()
            + self.id.capacity()
            + open
            + self.events.capacity() * size_of::<(usize, QueueEvent)>()
    }
}

/// What names a stream among those of one command.
pub(super) fn stream_hash(salt: Salt, stream: &[u8]) -> u64 {
    identify(salt, "old", &[stream])
}

/// What names the delivery of an entry to a group, on every connection.
pub(super) fn handle(salt: Salt, db: u32, stream: &[u8], group: &[u8], id: &[u8]) -> u64 {
    identify(salt, "group", &[&db.to_be_bytes(), stream, group, id])
}
