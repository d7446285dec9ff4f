//! Which commands hand messages to a queue, take some from one, or say that they are done with them.
//!
//! Every list is told as if it were a queue: whether it is one shows when somebody else takes what was put there.

use smallvec::SmallVec;

use super::command::Command;
use super::dramatiq::Order;
use super::element::identify;
use super::sending::Sent;
use super::taking::{Expects, stream_hash};
use super::{MAX_BOOKED, MAX_MOVED, Shared, arq, bodies, rq};
use crate::model::OpKind;
use crate::model::claim::Salt;
use crate::model::queue::{Message, Settlement};

/// Keys under which Celery's workers keep what is not confirmed.
const BOOKS: &[&[u8]] = &[b"unacked", b"unacked_index", b"unacked_mutex"];

/// Most keys looked at of those that one command deletes.
const MAX_DELETED: usize = 64;

/// What a command does to messages.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) db: u32,
    /// What its reply hands over.
    pub(super) expects: Option<Expects>,
    /// What it hands over itself, once the server says so.
    pub(super) gives: Vec<Message>,
    /// What it is done with, once the server says so.
    pub(super) settles: Vec<(u64, Settlement)>,
    /// The answer 0 means that nothing was done.
    pub(super) nothing_is_zero: bool,
}

/// What a command is told from.
pub(super) struct Asked<'a> {
    pub(super) salt: Salt,
    pub(super) db: u32,
    /// Its name, in upper case.
    pub(super) name: &'a str,
    pub(super) command: &'a Command,
    pub(super) shared: &'a Shared,
}

impl Asked<'_> {
    fn arg(&self, i: usize) -> Option<&[u8]> {
        self.command.whole(i)
    }

    fn owned(&self, i: usize) -> Option<Vec<u8>> {
        self.arg(i).map(<[u8]>::to_vec)
    }

    fn list(&self, key: &[u8]) -> u64 {
        identify(self.salt, "list", &[&self.db.to_be_bytes(), key])
    }

    /// What kind of operation it is and what it does to messages; `None` if it has nothing to do with queues.
    pub(super) fn read(&self, sent: Sent) -> Option<(OpKind, Option<Box<Work>>)> {
        let takes = |expects: Option<Expects>| {
            let work = Work { db: self.db, expects, gives: Vec::new(), settles: Vec::new(), nothing_is_zero: false };
            Some((OpKind::Deliver, Some(Box::new(work))))
        };
        match self.name {
            "LPUSH" | "RPUSH" | "LPUSHX" | "RPUSHX" | "PUBLISH" | "SPUBLISH" => {
                Some(self.sent(OpKind::Publish, None, sent))
            }
            "XADD" => Some(self.sent(OpKind::Publish, self.owned(1).map(Expects::EntryId), sent)),
            "XACK" | "XACKDEL" | "XDEL" => Some(self.sent(OpKind::Ack, None, sent)),
            "LREM" => {
                let kind = if self.moved_there(1) { OpKind::Ack } else { OpKind::Data };
                let sent = if kind == OpKind::Ack { sent } else { Sent::default() };
                Some(self.sent(kind, None, sent))
            }
            "HSET" | "HMSET" | "SET" | "SETEX" | "PSETEX" if !sent.gives.is_empty() => {
                Some(self.sent(OpKind::Data, None, sent))
            }
            "ZADD" if !sent.gives.is_empty() => Some(self.sent(OpKind::Publish, None, sent)),
            "ZADD" | "ZREM" if self.arg(1).is_some_and(|key| rq::in_work(key).is_some()) => {
                Some(self.jobs_of_rq(self.name == "ZREM"))
            }
            "GET" if self.arg(1).is_some_and(|key| arq::job(key).is_some()) => takes(self.job_of_arq()),
            "DEL" | "UNLINK" if self.arg(1).is_some_and(|key| key.starts_with(b"arq:")) => self.ends_of_arq(sent),
            "HDEL" if !sent.settles.is_empty() => Some(self.sent(OpKind::Ack, None, sent)),
            "HSET" | "HGET" | "HDEL" | "ZADD" | "ZREM" | "ZREVRANGEBYSCORE" if self.celery() => {
                Some((OpKind::Control, None))
            }
            "EVAL" | "EVALSHA" => self.script(sent),
            "LPOP" | "RPOP" => takes(self.owned(1).map(|key| Expects::Elements { key, to: None, back: false })),
            "BLPOP" | "BRPOP" | "LMPOP" | "BLMPOP" => takes(Some(Expects::Named)),
            "RPOPLPUSH" | "BRPOPLPUSH" | "LMOVE" | "BLMOVE" => self.moves(),
            // What BullMQ's workers wait for is no message.
            "BZPOPMIN" if self.arg(1).is_some_and(|k| k.ends_with(b":marker")) => Some((OpKind::Control, None)),
            "XREADGROUP" => takes(self.streams(true)),
            "XREAD" => takes(self.streams(false)),
            "XCLAIM" | "XAUTOCLAIM" => takes(self.claims()),
            _ if self.books() || self.is_set() => Some((OpKind::Control, None)),
            _ => None,
        }
    }

    fn sent(&self, kind: OpKind, expects: Option<Expects>, sent: Sent) -> (OpKind, Option<Box<Work>>) {
        let Sent { gives, settles, unique, .. } = sent;
        if gives.is_empty() && settles.is_empty() && expects.is_none() {
            return (kind, None);
        }
        // A message of a channel is sent although nobody listens, a hash gets values though no new fields, and to scripts
        // 0 means that all went well, to most of them.
        let nothing_is_zero =
            unique || !matches!(self.name, "PUBLISH" | "SPUBLISH" | "EVAL" | "EVALSHA" | "HSET" | "HMSET");
        (kind, Some(Box::new(Work { db: self.db, expects, gives, settles, nothing_is_zero })))
    }

    fn script(&self, mut sent: Sent) -> Option<(OpKind, Option<Box<Work>>)> {
        if let Some((order, queue)) = sent.dramatiq.take() {
            return Some(match order {
                Order::Add => self.sent(OpKind::Publish, None, sent),
                Order::Take => {
                    self.sent(OpKind::Deliver, Some(Expects::Elements { key: queue, to: None, back: false }), sent)
                }
                Order::End(_) => self.sent(OpKind::Ack, None, sent),
                Order::Other => (OpKind::Control, None),
            });
        }
        if sent.unique {
            return Some(self.sent(OpKind::Publish, None, sent));
        }
        let Some(queue) = sent.bull.clone() else {
            if !sent.settles.is_empty() {
                return Some(self.sent(OpKind::Ack, None, sent));
            }
            // What keeps locks of BullMQ's jobs alive begins with this key.
            let chore = self.books() || self.arg(3).is_some_and(|key| key.ends_with(b":stalled"));
            return chore.then_some((OpKind::Control, None));
        };
        let (kind, expects) = match (sent.bull_adds, sent.settles.is_empty()) {
            (true, _) => (OpKind::Publish, Expects::JobId(queue)),
            (false, false) => (OpKind::Ack, Expects::Job(queue)),
            (false, true) => (OpKind::Deliver, Expects::Job(queue)),
        };
        Some(self.sent(kind, Some(expects), sent))
    }

    /// Whether it is about what Celery's workers have not confirmed: the job is what counts, not the keeping of books.
    fn celery(&self) -> bool {
        self.arg(1).is_some_and(|key| BOOKS.iter().any(|b| key.ends_with(b)))
    }

    /// Whether a key is one of those that Celery (kombu) keeps for itself.
    fn books(&self) -> bool {
        let key = self.arg(if self.name.starts_with("EVAL") { 3 } else { 1 });
        key.is_some_and(|k| BOOKS.contains(&k) || k.starts_with(b"_kombu.binding"))
    }

    /// Whether it is about a queue of arq's: who looks whether there is work has not touched any job.
    pub(super) fn is_set(&self) -> bool {
        let sets = self.shared.sets.borrow();
        !sets.is_empty() && self.arg(1).is_some_and(|key| sets.contains(&arq::set(self.salt, self.db, key)))
    }

    /// Jobs of RQ's go into work, or it is over.
    fn jobs_of_rq(&self, over: bool) -> (OpKind, Option<Box<Work>>) {
        let queue = self.arg(1).and_then(rq::in_work).unwrap_or_default();
        let members = (2..self.command.n_kept()).filter_map(|i| self.arg(i));
        let tags = members.map(|member| rq::tag_of_member(self.salt, self.db, queue, member));
        let mut in_work = self.shared.in_work.borrow_mut();
        if !over {
            if in_work.len() >= MAX_BOOKED {
                in_work.clear();
            }
            // Scores and options are no ids of anything.
            in_work.extend(tags);
            return (OpKind::Control, None);
        }
        let settles: Vec<_> = tags.map(|tag| (tag, Settlement::Done)).collect();
        for (tag, _) in &settles {
            in_work.remove(tag);
        }
        self.sent(OpKind::Ack, None, Sent { settles, ..Sent::default() })
    }

    fn job_of_arq(&self) -> Option<Expects> {
        let id = self.arg(1).and_then(arq::job)?;
        let queue = self.shared.bodies.queue_of(self.db, bodies::print(self.salt, id));
        Some(Expects::Body { queue: queue.unwrap_or_else(|| arq::QUEUE.to_vec()), id: id.to_vec() })
    }

    /// The keys of jobs of arq's are deleted.
    fn ends_of_arq(&self, mut sent: Sent) -> Option<(OpKind, Option<Box<Work>>)> {
        let keys = (1..self.command.n_kept().min(MAX_DELETED)).filter_map(|i| self.arg(i));
        sent.settles.extend(arq::ended(keys).map(|(id, how)| (arq::tag(self.salt, self.db, id), how)));
        (!sent.settles.is_empty()).then(|| self.sent(OpKind::Ack, None, sent))
    }

    fn moved_there(&self, i: usize) -> bool {
        self.arg(i).is_some_and(|key| self.shared.moved.borrow().contains(&self.list(key)))
    }

    fn moves(&self) -> Option<(OpKind, Option<Box<Work>>)> {
        let (key, to) = (self.owned(1)?, self.owned(2)?);
        let back = self.moved_there(1);
        if !back && key != to {
            let mut moved = self.shared.moved.borrow_mut();
            if moved.len() < MAX_MOVED {
                moved.insert(self.list(&to));
            }
        }
        let to = (key != to).then_some(to);
        let expects = Some(Expects::Elements { key, to, back });
        let kind = if back { OpKind::Ack } else { OpKind::Deliver };
        Some((
            kind,
            Some(Box::new(Work {
                db: self.db,
                expects,
                gives: Vec::new(),
                settles: Vec::new(),
                nothing_is_zero: false,
            })),
        ))
    }

    fn word(&self, i: usize, word: &str) -> bool {
        self.arg(i).is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn streams(&self, group: bool) -> Option<Expects> {
        let n = self.command.n_kept();
        let at = (1..n).find(|i| self.word(*i, "STREAMS"))?;
        let name = match group {
            true => self.owned((1..at).find(|i| self.word(*i, "GROUP"))? + 1)?,
            false => Vec::new(),
        };
        let awaits = group && !(1..at).any(|i| self.word(i, "NOACK"));
        let half = (n - at - 1) / 2;
        let old: SmallVec<[u64; 2]> = (at + 1..=at + half)
            .filter(|i| group && self.arg(i + half) != Some(b">"))
            .filter_map(|i| Some(stream_hash(self.salt, self.arg(i)?)))
            .collect();
        Some(Expects::Streams { group: name, awaits, old })
    }

    fn claims(&self) -> Option<Expects> {
        if (5..self.command.n_kept()).any(|i| self.word(i, "JUSTID")) {
            return None;
        }
        Some(Expects::Claimed { key: self.owned(1)?, group: self.owned(2)?, auto: self.name == "XAUTOCLAIM" })
    }
}
