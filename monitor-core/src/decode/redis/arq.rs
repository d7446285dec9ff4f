//! arq's keys, which it fixes (arq 0.28, `constants.py`). A job is a text under its id; the id goes into a sorted set,
//! whose name the operator chooses and which every worker reads, and stays there until the job is done. Who takes a job
//! marks it first (`arq:in-progress:ID`), then reads its text; who is done with it deletes both, who will try again only
//! the mark (`worker.py`).

use super::command::Command;
use super::element::{Address, identify};
use super::pending::Reader;
use super::{MAX_BOOKED, bodies};
use crate::decode::Sink;
use crate::decode::message::Draft;
use crate::model::Nanos;
use crate::model::claim::Salt;
use crate::model::queue::{Message, Settlement};

/// The queue that jobs go to if nobody says otherwise.
pub(super) const QUEUE: &[u8] = b"arq:queue";

/// The id of the job whose text this is.
pub(super) fn job(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(b"arq:job:").filter(|id| !id.is_empty())
}

/// What names a job in work.
pub(super) fn tag(salt: Salt, db: u32, id: &[u8]) -> u64 {
    identify(salt, "arq", &[&db.to_be_bytes(), id])
}

/// The jobs that end when these keys are deleted, and how.
pub(super) fn ended<'a>(keys: impl Iterator<Item = &'a [u8]> + Clone) -> impl Iterator<Item = (&'a [u8], Settlement)> {
    let jobs = keys.clone().filter_map(job);
    let done = jobs.clone().map(|id| (id, Settlement::Done));
    let marks = keys.filter_map(|key| key.strip_prefix(b"arq:in-progress:"));
    let again = marks.filter(move |id| jobs.clone().all(|job| job != *id)).map(|id| (id, Settlement::Returned));
    done.chain(again)
}

impl Reader<'_> {
    /// The jobs that `ZADD KEY [options] SCORE MEMBER...` puts into a queue: members whose texts are known.
    pub(super) fn puts_jobs(&self, c: &Command, at: Nanos, sink: &mut dyn Sink) -> Vec<Message> {
        let Some(queue) = c.whole(1) else { return Vec::new() };
        let is_score =
            |i: &usize| c.whole(*i).is_some_and(|a| std::str::from_utf8(a).is_ok_and(|a| a.parse::<f64>().is_ok()));
        let Some(first) = (2..c.n_kept()).find(is_score) else { return Vec::new() };
        let mut jobs = Vec::new();
        for id in (first + 1..c.n_kept()).step_by(2).filter_map(|i| c.whole(i)) {
            let print = bodies::print(self.salt, id);
            if !self.shared.bodies.queued(self.db, print, queue) {
                continue;
            }
            let address = Address { kind: b"key", db: self.db, name: queue };
            let mut draft = Draft::new(self.salt, 0);
            address.tell(&mut draft, sink);
            draft.idempotency(id);
            let mut message = draft.finish(at, sink);
            message.print = None;
            self.shared.bodies.tell(self.db, print, &mut message, self.salt);
            jobs.push(message);
        }
        if !jobs.is_empty() {
            let mut sets = self.shared.sets.borrow_mut();
            if sets.len() < MAX_BOOKED {
                sets.insert(set(self.salt, self.db, queue));
            }
        }
        jobs
    }
}

/// What names a sorted set that may be a queue.
pub(super) fn set(salt: Salt, db: u32, key: &[u8]) -> u64 {
    identify(salt, "set", &[&db.to_be_bytes(), key])
}
