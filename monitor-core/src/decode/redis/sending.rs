//! What a command hands to a queue or takes back from one, read from its arguments as they come: elements of lists,
//! entries of streams, messages of channels, and the job that a script of BullMQ adds or ends.
//!
//! Memory: one message, and 256 that are complete.

use super::bodies::{Bodies, Reading};
use super::bull::Script;
use super::dramatiq::{Dispatch, Order};
use super::element::{Address, Element, celery_tag, dramatiq_tag, identify};
use super::entry::Entry;
use super::rq::{self, Unique};
use super::taking::handle;
use super::{Moved, Shared};
use crate::decode::Sink;
use crate::model::Nanos;
use crate::model::claim::Salt;
use crate::model::queue::{Message, Settlement};

/// Longest key, channel or option that is kept.
const MAX_TEXT: usize = 1 << 10;
/// Most messages of one command.
pub(super) const MAX_MESSAGES: usize = 256;

/// Most deliveries that one command ends.
const MAX_SETTLED: usize = 4096;

/// What a command does to messages, from its arguments alone.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Handed over, once the server says so.
    pub(super) gives: Vec<Message>,
    /// Ended, once the server says so.
    pub(super) settles: Vec<(u64, Settlement)>,
    /// A job of this queue of BullMQ's may come back.
    pub(super) bull: Option<Vec<u8>>,
    /// The reply is the id of the message in this queue of BullMQ's.
    pub(super) bull_adds: bool,
    /// What Dramatiq's script is told to do, and with which queue.
    pub(super) dramatiq: Option<(Order, Vec<u8>)>,
    /// A job of RQ's is added if there is none of its id.
    pub(super) unique: bool,
    /// More messages than are told.
    pub(super) too_many: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `KEY ELEMENT...`
    List,
    /// `KEY [options] ID FIELD VALUE...`
    Stream,
    /// `CHANNEL MESSAGE`
    Channel,
    /// `KEY COUNT ELEMENT`
    Removal,
    /// `KEY FIELD...`
    Fields,
    /// `KEY [FIELD VALUE]...`
    Hash,
    /// `KEY [option] VALUE [option]...`: where the value is.
    Text(u64),
    /// `KEY GROUP ID...`
    Acks,
    /// `KEY GROUP [option] IDS NUMBER ID...`
    AcksAfterIds,
    /// `SCRIPT NUMBER KEY... ARGUMENT...`
    Script,
}

/// How far the options before an entry's id are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Options {
    /// An option or the id comes.
    Next,
    /// So many words belong to the last option.
    Skip(u8),
    /// A limit comes, maybe behind `=` or `~`.
    Limit,
    /// Fields and values come; this argument was the id.
    Fields(u64),
}

/// Reads the arguments of one command after another.
#[derive(Debug)]
pub(super) struct Sending {
    salt: Salt,
    form: Form,
    options: Options,
    key: Vec<u8>,
    group: Vec<u8>,
    text: Vec<u8>,
    element: Option<Element>,
    entry: Option<Entry>,
    script: Script,
    dispatch: Dispatch,
    unique: Unique,
    reading: Reading,
    bodies: Bodies,
    in_work: Moved,
    sent: Sent,
}

impl Sending {
    pub(super) fn new(salt: Salt, shared: &Shared) -> Self {
        Self {
            salt,
            form: Form::List,
            options: Options::Next,
            key: Vec::new(),
            group: Vec::new(),
            text: Vec::new(),
            element: None,
            entry: None,
            script: Script::default(),
            dispatch: Dispatch::default(),
            unique: Unique::default(),
            reading: Reading::new(salt, shared.bodies.clone()),
            bodies: shared.bodies.clone(),
            in_work: shared.in_work.clone(),
            sent: Sent::default(),
        }
    }

    /// Whether the arguments of the command of this name are read here.
    pub(super) fn wants(&mut self, name: &[u8]) -> bool {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        // Most commands are none of these: their first letter says so.
        self.form = match name.first().map(u8::to_ascii_uppercase) {
            Some(b'L') if is("LPUSH") || is("LPUSHX") => Form::List,
            Some(b'L') if is("LREM") => Form::Removal,
            Some(b'R') if is("RPUSH") || is("RPUSHX") => Form::List,
            Some(b'X') if is("XADD") => Form::Stream,
            Some(b'X') if is("XACK") => Form::Acks,
            Some(b'X') if is("XACKDEL") => Form::AcksAfterIds,
            Some(b'P') if is("PUBLISH") => Form::Channel,
            Some(b'S') if is("SPUBLISH") => Form::Channel,
            Some(b'S') if is("SET") => Form::Text(2),
            Some(b'S') if is("SETEX") => Form::Text(3),
            Some(b'P') if is("PSETEX") => Form::Text(3),
            Some(b'H') if is("HDEL") => Form::Fields,
            Some(b'H') if is("HSET") || is("HMSET") => Form::Hash,
            Some(b'E') if is("EVALSHA") || is("EVAL") => Form::Script,
            _ => return false,
        };
        self.reset();
        true
    }

    /// Forgets what is not complete.
    pub(super) fn reset(&mut self) {
        self.options = Options::Next;
        self.key.clear();
        self.group.clear();
        self.text.clear();
        self.element = None;
        self.entry = None;
        self.script.reset();
        self.dispatch.reset();
        self.unique.reset();
        self.reading.reset();
        self.sent = Sent::default();
    }

    /// What the command did, which is complete.
    pub(super) fn take(&mut self) -> Sent {
        std::mem::take(&mut self.sent)
    }

    /// More of argument `index`.
    pub(super) fn piece(&mut self, index: u64, bytes: &[u8]) {
        match (self.form, index) {
            (Form::Script, 1) => {}
            (Form::Hash, 2..) => self.reading.piece(index.is_multiple_of(2), bytes),
            (Form::Text(value), 2..) => {
                if index == value {
                    self.reading.piece(false, bytes);
                }
            }
            (Form::Script, _) if self.unique.field(index).is_some() => {
                self.reading.piece(self.unique.field(index) == Some(true), bytes);
            }
            (Form::Script, _) if self.script.is_job(index) || self.dispatch.is_job(index) => {
                self.element.get_or_insert_with(|| Element::new(self.salt)).piece(bytes);
            }
            (Form::List | Form::Channel, 2..) | (Form::Removal, 3) => {
                self.element.get_or_insert_with(|| Element::new(self.salt)).piece(bytes);
            }
            (Form::Stream, _) => match self.options {
                Options::Fields(id) => {
                    let entry = self.entry.get_or_insert_with(|| Entry::new(self.salt));
                    if (index - id) % 2 == 1 { entry.name_piece(bytes) } else { entry.value_piece(bytes) }
                }
                _ => self.keep(bytes),
            },
            _ => self.keep(bytes),
        }
    }

    /// `n` bytes of the argument are missing here.
    pub(super) fn missing(&mut self, n: u64) {
        self.reading.missing();
        if let Some(element) = &mut self.element {
            element.missing(n);
        } else if let Some(entry) = &mut self.entry {
            entry.missing(n);
        } else {
            // Too much of it: it is nothing that is known.
            self.text.resize(MAX_TEXT + 1, 0);
        }
    }

    /// Argument `index` has ended.
    pub(super) fn ends(&mut self, index: u64, db: u32, at: Nanos, sink: &mut dyn Sink) {
        self.argument(index, db, at, sink);
        self.text.clear();
    }

    fn argument(&mut self, index: u64, db: u32, at: Nanos, sink: &mut dyn Sink) {
        match (self.form, index) {
            (Form::Script, _) => self.script_argument(index, db, at, sink),
            (Form::Hash, 1) => self.reading.begins(&self.text),
            (Form::Hash, _) if index % 2 == 1 => self.reading.value_ends(sink),
            (Form::Text(_), 1) => self.reading.begins_text(&self.text),
            (Form::Text(value), _) if index == value => self.reading.value_ends(sink),
            (_, 1) => std::mem::swap(&mut self.key, &mut self.text),
            (Form::List, _) => self.message(b"key", db, at, sink),
            (Form::Channel, _) => self.message(b"channel", 0, at, sink),
            (Form::Removal, 3) => {
                let address = Address { kind: b"key", db, name: &self.key };
                let element = self.element.take().unwrap_or_else(|| Element::new(self.salt));
                let Some(print) = element.print() else { return };
                match rq::queue(&self.key).map(|queue| rq::tag(self.salt, db, queue, print)) {
                    // It goes from the queue into work: that is not its end.
                    Some(tag) if self.in_work.borrow().contains(&tag) => {}
                    Some(tag) => self.settles(tag, Settlement::Done),
                    None => self.settles(moved(self.salt, address, print), Settlement::Done),
                }
            }
            // Celery keeps what is not confirmed in a hash of this name, by delivery tag.
            (Form::Fields, _) if self.key.ends_with(b"unacked") => {
                let tag = celery_tag(self.salt, &self.text);
                self.settles(tag, Settlement::Done);
            }
            (Form::Acks | Form::AcksAfterIds, 2) => std::mem::swap(&mut self.group, &mut self.text),
            (Form::Acks, _) => self.acknowledges(db),
            (Form::AcksAfterIds, _) => match self.options {
                Options::Fields(_) => self.acknowledges(db),
                Options::Skip(_) => self.options = Options::Fields(index),
                _ if self.text.eq_ignore_ascii_case(b"IDS") => self.options = Options::Skip(1),
                _ => {}
            },
            (Form::Stream, _) => self.stream_argument(index, sink),
            _ => {}
        }
    }

    fn acknowledges(&mut self, db: u32) {
        let handle = handle(self.salt, db, &self.key, &self.group, &self.text);
        self.settles(handle, Settlement::Done);
    }

    /// The command is complete.
    pub(super) fn command_ends(&mut self, db: u32, at: Nanos, sink: &mut dyn Sink) {
        if let Some(body) = self.reading.ends(db, at) {
            self.gives(body);
        }
        if let Some((queue, id)) = self.unique.queued().filter(|_| self.form == Form::Script) {
            (self.sent.unique, self.key) = (true, queue.to_vec());
            self.element.get_or_insert_with(|| Element::new(self.salt)).piece(id);
            self.message(b"key", db, at, sink);
        }
        if let Some(order) = self.dispatch.order().filter(|_| self.form == Form::Script) {
            self.sent.dramatiq = Some((order, self.dispatch.queue().to_vec()));
        }
        if let Some(entry) = self.entry.take() {
            let address = Address { kind: b"key", db, name: &self.key };
            let message = entry.finish(address, None, at, sink);
            self.gives(message);
        }
    }

    fn script_argument(&mut self, index: u64, db: u32, at: Nanos, sink: &mut dyn Sink) {
        if self.script.is_job(index) {
            let element = self.element.take().unwrap_or_else(|| Element::new(self.salt));
            let address = Address { kind: b"bull", db, name: self.script.queue() };
            let message = element.finish(address, None, at, sink).message;
            self.sent.bull_adds = true;
            self.sent.bull = Some(self.script.queue().to_vec());
            self.gives(message);
            return;
        }
        if self.dispatch.is_job(index) {
            let element = self.element.take().unwrap_or_else(|| Element::new(self.salt));
            let address = Address { kind: b"key", db, name: self.dispatch.queue() };
            let message = element.finish(address, None, at, sink).message;
            self.gives(message);
            return;
        }
        if let Some(is_name) = self.unique.field(index) {
            if !is_name {
                self.reading.value_ends(sink);
            }
            return;
        }
        let text = std::mem::take(&mut self.text);
        if self.unique.argument(index, &text) {
            self.reading.begins(self.unique.job());
        }
        if let Some(how) = self.dispatch.ends(index) {
            self.settles(dramatiq_tag(self.salt, &text), how);
        }
        self.dispatch.argument(index, &text);
        self.script.argument(index, &text);
        let salt = self.salt;
        if let Some(how) = self.script.ended() {
            let parts = [&db.to_be_bytes()[..], self.script.queue(), self.script.job()];
            self.settles(identify(salt, "bull", &parts), how);
        }
        if self.script.takes() {
            self.sent.bull = Some(self.script.queue().to_vec());
        }
        self.text = text;
    }

    fn stream_argument(&mut self, index: u64, sink: &mut dyn Sink) {
        let is = |other: &str| self.text.eq_ignore_ascii_case(other.as_bytes());
        self.options = match self.options {
            Options::Fields(id) => {
                let entry = self.entry.get_or_insert_with(|| Entry::new(self.salt));
                if (index - id) % 2 == 1 {
                    entry.name_ends()
                } else {
                    entry.value_ends(sink)
                }
                return;
            }
            Options::Next if is("NOMKSTREAM") || is("KEEPREF") || is("DELREF") || is("ACKED") => Options::Next,
            Options::Next if is("MAXLEN") || is("MINID") => Options::Limit,
            Options::Next if is("LIMIT") || is("IDMPAUTO") => Options::Skip(1),
            Options::Next if is("IDMP") => Options::Skip(2),
            Options::Next => Options::Fields(index),
            Options::Limit if is("=") || is("~") => Options::Skip(1),
            Options::Limit => Options::Next,
            Options::Skip(n) if n > 1 => Options::Skip(n - 1),
            Options::Skip(_) => Options::Next,
        };
    }

    fn message(&mut self, kind: &'static [u8], db: u32, at: Nanos, sink: &mut dyn Sink) {
        let element = self.element.take().unwrap_or_else(|| Element::new(self.salt));
        if self.sent.gives.len() >= MAX_MESSAGES {
            self.sent.too_many = true;
            return;
        }
        let address = Address { kind, db, name: &self.key };
        let read = element.finish(address, None, at, sink);
        let mut message = read.message;
        if let Some(id) = read.element {
            self.bodies.tell(db, id, &mut message, self.salt);
        }
        self.gives(message);
    }

    fn gives(&mut self, message: Message) {
        if self.sent.gives.len() < MAX_MESSAGES {
            self.sent.gives.push(message);
        } else {
            self.sent.too_many = true;
        }
    }

    fn settles(&mut self, handle: u64, how: Settlement) {
        if self.sent.settles.len() < MAX_SETTLED {
            self.sent.settles.push((handle, how));
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        // One byte more than allowed is kept, so that what is too long is never taken for something shorter.
        let room = (MAX_TEXT + 1).saturating_sub(self.text.len());
        self.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    pub(super) fn memory(&self) -> usize {
        let open = usize::from(self.element.is_some() || self.entry.is_some()) * (32 << 10);
        self.key.capacity()
            + self.text.capacity()
            + open
            + (self.sent.gives.capacity() * size_of::<Message>())
            + self.sent.settles.capacity() * 16
            + self.reading.memory()
    }
}

/// What names an element that was moved to the list at `address`, to be removed there when it is done.
pub(super) fn moved(salt: Salt, address: Address<'_>, element: u64) -> u64 {
    identify(salt, "moved", &[&address.db.to_be_bytes(), address.name, &element.to_be_bytes()])
}
