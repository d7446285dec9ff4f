//! Messages of queues by what identifies them: joins publication and delivery.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::attribute::forwarded::Relay;
use crate::attribute::through::{RequestKey, Whom};
use crate::detect::Handed;
use crate::model::queue::Message;
use crate::model::{Attribution, Basis, Fingerprint, Nanos};

/// Most messages remembered.
const MAX_MESSAGES: usize = 65_536;

/// Whose a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) whom: Whom,
    pub(super) basis: Option<Basis>,
}

impl Origin {
    pub(super) const NOT_YET: Self = Self { whom: Whom::NotYet, basis: None };
    pub(super) const NOBODY: Self = Self { whom: Whom::Nobody, basis: None };

    pub(super) fn of(a: &Attribution) -> Self {
        Self { whom: Whom::Tenant(a.tenant, a.class), basis: Some(a.basis) }
    }

    /// As rules are told; `None`: nobody can say, or not yet.
    pub(super) fn attribution(self) -> Option<Attribution> {
        match self {
            Self { whom: Whom::Tenant(tenant, class), basis } => {
                Some(Attribution { class, ..Attribution::new(tenant, basis.unwrap_or(Basis::Marker)) })
            }
            _ => None,
        }
    }
}

/// One message.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// Its publication was seen; else only a delivery.
    pub(super) published: bool,
    /// When either was.
    pub(super) at: Nanos,
    /// It was handed to these, which want to hear whose it is.
    pub(super) given: SmallVec<[(Relay, RequestKey); 1]>,
    /// Deliveries to be judged once that is known.
    pub(super) later: Vec<Handed>,
    /// Places it was handed to before.
    pub(super) to: SmallVec<[Option<Relay>; 1]>,
    pub(super) ids: SmallVec<[(u32, Fingerprint); 2]>,
    content: Option<(u32, Fingerprint, Fingerprint)>,
}

/// Messages by what identifies them.
#[derive(Debug, Default)]
pub(super) struct Messages {
    entries: FxHashMap<u64, Entry>,
    order: VecDeque<u64>,
    by_id: FxHashMap<(u32, Fingerprint), u64>,
    by_content: FxHashMap<(u32, Fingerprint, Fingerprint), SmallVec<[u64; 1]>>,
    latest: u64,
    /// Jobs whose end is not known: until when they count.
    pub(super) lingering: VecDeque<(Nanos, Relay, RequestKey)>,
    /// Deliveries whose publication has not been seen yet: until when it may still come.
    pub(super) unpublished: VecDeque<(Nanos, u64)>,
}

impl Messages {
    /// The message of this number.
    pub(super) fn get(&self, no: u64) -> Option<&Entry> {
        self.entries.get(&no)
    }

    /// The same, to change.
    pub(super) fn get_mut(&mut self, no: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&no)
    }

    /// Messages held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Most messages held.
    pub(super) fn limit() -> usize {
        MAX_MESSAGES
    }

    /// A message that was not known; gives its number.
    pub(super) fn make(&mut self, broker: u32, m: &Message, origin: Origin, published: bool) -> u64 {
        while self.entries.len() >= MAX_MESSAGES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forget(oldest);
        }
        self.latest += 1;
        let ids: SmallVec<[_; 2]> = m.ids.iter().map(|id| (broker, *id)).collect();
        let content = m.print.map(|print| (broker, m.place, print));
        for id in &ids {
            self.by_id.insert(*id, self.latest);
        }
        if let Some(content) = content {
            self.by_content.entry(content).or_default().push(self.latest);
        }
        let entry = Entry {
            origin,
            published,
            at: m.at,
            given: SmallVec::new(),
            later: Vec::new(),
            to: SmallVec::new(),
            ids,
            content,
        };
        self.entries.insert(self.latest, entry);
        self.order.push_back(self.latest);
        self.latest
    }

    /// A message that is no longer of interest.
    pub(super) fn forget(&mut self, no: u64) {
        let Some(entry) = self.entries.remove(&no) else { return };
        for id in &entry.ids {
            if self.by_id.get(id) == Some(&no) {
                self.by_id.remove(id);
            }
        }
        if let Some(content) = entry.content
            && let Some(same) = self.by_content.get_mut(&content)
        {
            same.retain(|n| *n != no);
            if same.is_empty() {
                self.by_content.remove(&content);
            }
        }
    }

    /// The message that `m` is; `Err`: several may be, and they are not one tenant's.
    pub(super) fn find(&self, broker: u32, m: &Message, published: bool) -> Result<Option<u64>, ()> {
        let is = |no: &u64| self.entries.get(no).is_some_and(|e| e.published == published);
        if let Some(no) = m.ids.iter().find_map(|id| self.by_id.get(&(broker, *id)).filter(|no| is(no))) {
            return Ok(Some(*no));
        }
        let Some(print) = m.print else { return Ok(None) };
        let Some(same) = self.by_content.get(&(broker, m.place, print)) else { return Ok(None) };
        // A message that is named otherwise is another one with the same content.
        let mut fitting = same.iter().copied().filter(|no| is(no) && self.may_be(*no, broker, m));
        let Some(first) = fitting.next() else { return Ok(None) };
        let origin = |no: u64| self.entries.get(&no).map(|e| e.origin.whom);
        if fitting.all(|no| origin(no) == origin(first)) { Ok(Some(first)) } else { Err(()) }
    }

    fn may_be(&self, no: u64, broker: u32, m: &Message) -> bool {
        self.entries.get(&no).is_some_and(|e| {
            e.ids.is_empty() || m.ids.is_empty() || m.ids.iter().any(|id| e.ids.contains(&(broker, *id)))
        })
    }
}
