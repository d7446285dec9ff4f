//! RQ's keys and its one script. A job's id goes from `rq:queue:NAME` to the worker, in newer versions by way of
//! `rq:queue:NAME:intermediate`, which it leaves again before the work. Where it stays until the work is done is the
//! sorted set `rq:wip:NAME`, alone or with the number of the attempt behind it (RQ 1.16, 2.0 and 3.0, `queue.py`,
//! `registry.py`, `executions.py`, `worker/base.py`, `scripts.py`).

use super::bodies;
use super::element::identify;
use crate::model::claim::Salt;

/// Longest name or id that is kept.
const MAX_TEXT: usize = 1 << 10;
/// Where the fields of a job begin that is added only if there is none of its id.
const FIELDS: u64 = 8;

/// The id of the job whose hash this is.
pub(super) fn job(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(b"rq:job:").filter(|id| !id.is_empty() && !id.contains(&b':'))
}

/// The queue that this list is, or belongs to.
pub(super) fn queue(key: &[u8]) -> Option<&[u8]> {
    let name = key.strip_prefix(b"rq:queue:")?;
    Some(name.strip_suffix(b":intermediate").unwrap_or(name))
}

/// The queue whose jobs in work this set holds.
pub(super) fn in_work(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(b"rq:wip:")
}

/// What names a job, by its id's fingerprint, that a worker has taken from `queue`.
pub(super) fn tag(salt: Salt, db: u32, queue: &[u8], id: u64) -> u64 {
    identify(salt, "rq", &[&db.to_be_bytes(), queue, &id.to_be_bytes()])
}

/// The same, of a member of the set of jobs in work.
pub(super) fn tag_of_member(salt: Salt, db: u32, queue: &[u8], member: &[u8]) -> u64 {
    let id = member.split(|b| *b == b':').next().unwrap_or(member);
    tag(salt, db, queue, bodies::print(salt, id))
}

/// A call of the script that adds a job if there is none of its id, as far as its arguments have come: two keys, the
/// job's and the queue's; the id, on which side of the queue it is put, for how long it is kept; then fields and values.
#[derive(Debug, Default)]
pub(super) struct Unique {
    keys: [Vec<u8>; 2],
    id: Vec<u8>,
    is: bool,
    queued: bool,
}

impl Unique {
    pub(super) fn reset(&mut self) {
        self.keys.iter_mut().for_each(Vec::clear);
        self.id.clear();
        (self.is, self.queued) = (false, false);
    }

    /// Argument `index`: 2 is the number of keys. Whether it is now known to be this script.
    pub(super) fn argument(&mut self, index: u64, text: &[u8]) -> bool {
        let [job, queue] = &mut self.keys;
        match index {
            2 => self.is = text == b"2",
            3 if self.is && text.len() <= MAX_TEXT => job.extend_from_slice(text),
            4 if self.is && text.len() <= MAX_TEXT => queue.extend_from_slice(text),
            5 if text.len() <= MAX_TEXT => self.id.extend_from_slice(text),
            6 => {
                self.is &= matches!(text, b"L" | b"R" | b"N")
                    && self::queue(queue).is_some()
                    && self::job(job) == Some(self.id.as_slice());
                self.queued = text != b"N";
                return self.is;
            }
            _ => {}
        }
        false
    }

    /// The job's key.
    pub(super) fn job(&self) -> &[u8] {
        let [job, _] = &self.keys;
        job
    }

    /// Whether argument `index` is a field's name, or its value; `None` if it is neither.
    pub(super) fn field(&self, index: u64) -> Option<bool> {
        (self.is && index >= FIELDS).then(|| index.is_multiple_of(2))
    }

    /// The queue and the id, if it is put there.
    pub(super) fn queued(&self) -> Option<(&[u8], &[u8])> {
        let [_, queue] = &self.keys;
        (self.is && self.queued).then_some((queue, &self.id))
    }
}
