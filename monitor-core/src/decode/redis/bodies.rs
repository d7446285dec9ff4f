//! Messages that are kept beside the queue while their id goes through it, in a hash (RQ: `HSET rq:job:ID …`, `RPUSH
//! rq:queue:default ID`) or a text (arq: `PSETEX arq:job:ID …`, `ZADD arq:queue … ID`): what was lately said of an id, on
//! whichever connection, so that the queue's message says it, too.
//!
//! Memory: 2,048 of them in all, and 16 KiB of one value that is being read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::element::identify;
use super::{arq, rq};
use crate::decode::Sink;
use crate::decode::message::{Draft, MAX_LOOKED_INTO};
use crate::model::claim::Salt;
use crate::model::queue::Message;
use crate::model::{Fingerprint, Nanos};

/// Most that are remembered.
const MAX_BODIES: usize = 2_048;
/// Shortest id.
const MIN_ID: usize = 6;
/// Longest name of a field that is kept, and longest of a queue.
const MAX_NAME: usize = 256;
/// What is longer is no status or time, but what a job is about.
const MAX_STATUS: usize = 128;

/// Words in the names of keys under which jobs are kept, and little else: whose what is there is, is worth knowing before
/// its id goes anywhere.
const JOBS: [&[u8]; 3] = [b"job", b"task", b"message"];

/// What was said of one id.
#[derive(Debug)]
struct Body {
    no: u64,
    message: Message,
    /// It is written under arq's prefix: its id comes as a member of a sorted set.
    is_arq: bool,
    /// By its key, it is a job, and so all that its message says.
    is_job: bool,
    /// The queue that its id was put into.
    queue: Vec<u8>,
}

/// What was lately said of ids.
#[derive(Debug, Default)]
struct Store {
    /// By database and fingerprint of the id.
    all: FxHashMap<(u32, u64), Body>,
    /// The oldest first.
    order: VecDeque<(u64, (u32, u64))>,
    latest: u64,
}

/// The same, as all connections of one engine share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Bodies(Rc<RefCell<Store>>);

impl Bodies {
    fn say(&self, key: (u32, u64), message: Message, is_arq: bool, is_job: bool) {
        let store = &mut *self.0.borrow_mut();
        while store.order.len() >= MAX_BODIES
            && let Some((no, oldest)) = store.order.pop_front()
        {
            // Unless it was said anew since.
            if store.all.get(&oldest).is_some_and(|b| b.no == no) {
                store.all.remove(&oldest);
            }
        }
        store.latest += 1;
        store.order.push_back((store.latest, key));
        let queue = store.all.remove(&key).map(|before| before.queue).unwrap_or_default();
        store.all.insert(key, Body { no: store.latest, message, is_arq, is_job, queue });
    }

    /// Whether this id, by its fingerprint, stands for a message; then the queue's message says what was said of it.
    pub(super) fn tell(&self, db: u32, id: u64, message: &mut Message, salt: Salt) -> bool {
        let store = self.0.borrow();
        let Some(body) = store.all.get(&(db, id)) else { return false };
        let readable = message.readable;
        message.refers_to(&body.message);
        // Of a record that a message is about, what it does not say is not missing.
        message.readable = if body.is_job { message.readable } else { readable };
        let name = named(salt, db, id);
        if !message.ids.contains(&name) {
            message.ids.push(name);
        }
        true
    }

    /// The id of a job of arq's was put into this queue. Whether it is one.
    pub(super) fn queued(&self, db: u32, id: u64, queue: &[u8]) -> bool {
        let store = &mut *self.0.borrow_mut();
        let Some(body) = store.all.get_mut(&(db, id)).filter(|b| b.is_arq && queue.len() <= MAX_NAME) else {
            return false;
        };
        body.queue.clear();
        body.queue.extend_from_slice(queue);
        true
    }

    /// The queue that the id of a job of arq's was put into.
    pub(super) fn queue_of(&self, db: u32, id: u64) -> Option<Vec<u8>> {
        self.0.borrow().all.get(&(db, id)).map(|b| b.queue.clone()).filter(|q| !q.is_empty())
    }
}

/// What names the message that goes through a queue by this id, on every connection.
pub(super) fn named(salt: Salt, db: u32, id: u64) -> Fingerprint {
    Fingerprint(identify(salt, "body", &[&db.to_be_bytes(), &id.to_be_bytes()]))
}

/// Reads what one command after another says of an id.
#[derive(Debug)]
pub(super) struct Reading {
    salt: Salt,
    bodies: Bodies,
    /// The one that is being read: its id, whether it is one of arq's, and what its fields have said.
    open: Option<(u64, bool, Draft)>,
    /// A value was more than a status.
    full: bool,
    /// By its key, it is a job.
    is_job: bool,
    name: Vec<u8>,
    value: Vec<u8>,
    /// All of the value is there.
    whole: bool,
}

impl Reading {
    pub(super) fn new(salt: Salt, bodies: Bodies) -> Self {
        Self { salt, bodies, open: None, full: false, is_job: false, name: Vec::new(), value: Vec::new(), whole: true }
    }

    /// Forgets the one that is being read.
    pub(super) fn reset(&mut self) {
        self.open = None;
        (self.full, self.is_job) = (false, false);
        self.name.clear();
        self.value.clear();
        self.whole = true;
    }

    /// The hash at this key is written. Only one that is called by an id can be a message's.
    pub(super) fn begins(&mut self, key: &[u8]) {
        self.reset();
        let id = rq::job(key).or_else(|| {
            let id = key.get(memchr::memrchr(b':', key)? + 1..)?;
            (id.len() >= MIN_ID && id.iter().any(u8::is_ascii_digit)).then_some(id)
        });
        self.open = id.map(|id| (print(self.salt, id), false, Draft::new(self.salt, 0)));
        self.is_job = JOBS.iter().any(|word| memchr::memmem::find(key, word).is_some());
    }

    /// The text at this key is written.
    pub(super) fn begins_text(&mut self, key: &[u8]) {
        self.reset();
        self.open = arq::job(key).map(|id| (print(self.salt, id), true, Draft::new(self.salt, 0)));
        self.is_job = self.open.is_some();
    }

    /// More of a field's name, or of its value.
    pub(super) fn piece(&mut self, is_name: bool, bytes: &[u8]) {
        if self.open.is_none() {
            return;
        }
        let (to, most) = if is_name { (&mut self.name, MAX_NAME) } else { (&mut self.value, MAX_LOOKED_INTO) };
        let room = most.saturating_sub(to.len());
        to.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        self.whole &= bytes.len() <= room;
    }

    /// Something is missing.
    pub(super) fn missing(&mut self) {
        self.whole = false;
        self.full |= self.open.is_some();
    }

    /// A value has ended.
    pub(super) fn value_ends(&mut self, sink: &mut dyn Sink) {
        if let Some((_, _, draft)) = &mut self.open {
            let name = std::str::from_utf8(&self.name).unwrap_or_default();
            draft.part(name, self.whole.then_some(self.value.as_slice()), sink);
            self.full |= self.value.len() > MAX_STATUS || std::str::from_utf8(&self.value).is_err();
        }
        self.name.clear();
        self.value.clear();
        self.whole = true;
    }

    /// The command is complete: what it said of an id, to be told once the server has it. What says no more than how
    /// far a job is leaves what was said before.
    pub(super) fn ends(&mut self, db: u32, at: Nanos) -> Option<Message> {
        let (id, is_arq, draft) = self.open.take()?;
        let full = std::mem::take(&mut self.full) || is_arq;
        if !full && self.bodies.0.borrow().all.contains_key(&(db, id)) {
            return None;
        }
        let mut message = draft.finish_parts(at);
        message.body = true;
        message.ids.push(named(self.salt, db, id));
        self.bodies.say((db, id), message.clone(), is_arq, self.is_job);
        (full && self.is_job).then_some(message)
    }

    pub(super) fn memory(&self) -> usize {
        self.name.capacity() + self.value.capacity()
    }
}

/// Fingerprint of an id, as of an element that is just that.
pub(super) fn print(salt: Salt, id: &[u8]) -> u64 {
    use std::hash::Hasher as _;
    let mut h = salt.hasher();
    h.write(id);
    h.finish()
}
