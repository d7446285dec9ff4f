//! Scripts of BullMQ, told by their keys: all of them begin with the queue's prefix, and which ones there are says what
//! the script does. Seen with BullMQ 6.7; the scripts' hashes change with every version, the keys hardly.
//!
//! | Script | Keys it is known by | Arguments |
//! |---|---|---|
//! | add a job | `id`, `events`, no `stalled` | packed (prefix, own id, name), data, options |
//! | take a job | `stalled`, `limiter` | prefix, time, options |
//! | end a job | `stalled`, the job's own | id, time, …, `completed` or `failed` |
//! | try again, later | `stalled` or `active`, the job's own | prefix, time, id (or: prefix, time, command, id) |

use crate::model::queue::Settlement;

/// Most keys of a script.
const MAX_KEYS: u64 = 24;
/// Longest prefix or id.
const MAX_TEXT: usize = 256;
/// Last names of keys that are not a job's.
const OWN: &[&[u8]] = &[
    b"wait",
    b"active",
    b"paused",
    b"prioritized",
    b"events",
    b"stalled",
    b"limiter",
    b"delayed",
    b"meta",
    b"pc",
    b"marker",
    b"completed",
    b"failed",
    b"id",
    b"repeat",
    b"waiting-children",
    b"stalled-check",
    b"metrics",
];

/// What one script is told to do, as far as its arguments have come.
#[derive(Debug, Default)]
pub(super) struct Script {
    n_keys: u64,
    prefix: Vec<u8>,
    /// The id that the key of a job has.
    job: Vec<u8>,
    adds: bool,
    stalled: bool,
    limiter: bool,
    active: bool,
    ended: Option<Settlement>,
    first: First,
}

/// What the first argument was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum First {
    #[default]
    None,
    Prefix,
    Packed,
    Job,
}

impl Script {
    pub(super) fn reset(&mut self) {
        let (mut prefix, mut job) = (std::mem::take(&mut self.prefix), std::mem::take(&mut self.job));
        prefix.clear();
        job.clear();
        *self = Self { prefix, job, ..Self::default() };
    }

    /// The queue: prefix and name.
    pub(super) fn queue(&self) -> &[u8] {
        self.prefix.strip_suffix(b":").unwrap_or(&self.prefix)
    }

    /// Whether argument `index` is the data of a job that is added.
    pub(super) fn is_job(&self, index: u64) -> bool {
        self.adds && self.first == First::Packed && index == self.n_keys + 4
    }

    /// Argument `index`: 2 is the number of keys.
    pub(super) fn argument(&mut self, index: u64, text: &[u8]) {
        if index == 2 {
            self.n_keys = super::command::number(text).filter(|n| (4..=MAX_KEYS).contains(n)).unwrap_or(0);
        } else if (3..3 + self.n_keys).contains(&index) {
            self.key(text);
        } else if self.n_keys > 0 && !self.prefix.is_empty() && index == 3 + self.n_keys {
            self.first = if text == self.prefix.as_slice() {
                First::Prefix
            } else if !self.job.is_empty() && text == self.job.as_slice() {
                First::Job
            } else if self.adds && packed(text, &self.prefix) {
                First::Packed
            } else {
                First::None
            };
        } else if index == 7 + self.n_keys && self.first == First::Job {
            self.ended = match text {
                b"completed" => Some(Settlement::Done),
                b"failed" => Some(Settlement::Dropped),
                _ => None,
            };
        } else if matches!(index.checked_sub(3 + self.n_keys), Some(2..=3))
            && self.first == First::Prefix
            && self.active
            && !self.job.is_empty()
            && text == self.job.as_slice()
        {
            self.ended = Some(Settlement::Returned);
        }
    }

    fn key(&mut self, key: &[u8]) {
        let Some(at) = key.iter().rposition(|b| *b == b':') else {
            self.n_keys = 0;
            return;
        };
        let (prefix, name) = key.split_at_checked(at + 1).unwrap_or((key, &[]));
        if self.prefix.is_empty() && prefix.len() <= MAX_TEXT {
            self.prefix.extend_from_slice(prefix);
        }
        match name {
            b"id" => self.adds = true,
            b"stalled" => self.stalled = true,
            b"limiter" => self.limiter = true,
            b"active" => self.active = true,
            _ => {}
        }
        let id = key.strip_prefix(self.prefix.as_slice()).unwrap_or_default();
        let own = OWN.contains(&id) || id.starts_with(b"metrics:");
        if !own && self.job.is_empty() && (1..=MAX_TEXT).contains(&id.len()) {
            self.job.extend_from_slice(id);
        }
    }

    /// How the job with a key of its own ended, if the last argument told.
    pub(super) fn ended(&mut self) -> Option<Settlement> {
        self.ended.take()
    }

    /// The job that has a key of its own.
    pub(super) fn job(&self) -> &[u8] {
        &self.job
    }

    /// Whether a job may come back.
    pub(super) fn takes(&self) -> bool {
        self.stalled && self.limiter && matches!(self.first, First::Prefix | First::Job)
    }
}

/// Whether a packed array (MessagePack) begins with this prefix.
fn packed(text: &[u8], prefix: &[u8]) -> bool {
    let rest = match text {
        [0x90..=0x9f, rest @ ..] | [0xdc, _, _, rest @ ..] => rest,
        _ => return false,
    };
    let rest = match rest {
        [0xa0..=0xbf, rest @ ..] | [0xd9, _, rest @ ..] | [0xda, _, _, rest @ ..] => rest,
        _ => return false,
    };
    rest.starts_with(prefix)
}
