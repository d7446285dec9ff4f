//! Messages of queues by what identifies them: joins publication and delivery.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::attribute::forwarded::Relay;
use crate::attribute::through::Whom;
use crate::detect::Handed;
use crate::model::queue::Message;
use crate::model::steps::step;
use crate::model::{Attribution, Basis, Fingerprint, Nanos, RequestKey, ServiceId};

/// Most messages remembered.
const MAX_MESSAGES: usize = 65_536;

/// Whose ids and topics they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Broker {
    /// Any of a Kafka cluster, whose brokers share their topics.
    Kafka,
    /// One service: its ids are its own.
    At(ServiceId),
}

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
    /// Who wrote what it says, if that was before and beside the queue.
    pub(super) before: Origin,
    is_body: bool,
    /// Its publication was seen; else only a delivery.
    pub(super) published: bool,
    /// When either was.
    pub(super) at: Nanos,
    /// It was handed to these, which want to hear whose it is.
    pub(super) given: SmallVec<[(Relay, RequestKey); 1]>,
    /// Deliveries to be judged once that is known.
    pub(super) later: Vec<Handed>,
    /// Workers that it was handed to before.
    pub(super) to: SmallVec<[Option<Relay>; 1]>,
    pub(super) ids: SmallVec<[(Broker, Fingerprint); 2]>,
    content: Option<Content>,
}

impl Entry {
    /// Where it stands among those with the same content.
    fn alike(&self, no: u64) -> Option<Alike> {
        self.content.map(|content| (content, self.published, !self.ids.is_empty(), self.origin.whom, no))
    }
}

/// Broker, address and content.
type Content = (Broker, Fingerprint, Fingerprint);

/// A message by its content, whether it was published and has a name, whose it is, and its number. In this order, the
/// first and the last of those alike tell whether all are one's.
type Alike = (Content, bool, bool, Whom, u64);

/// Who waits to hear whose a message is: requests that it is, and deliveries to be judged.
pub(super) type Waiting = (SmallVec<[(Relay, RequestKey); 1]>, Vec<Handed>);

/// Which of the messages that are known another one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// None.
    None,
    /// The one of this number.
    One(u64),
    /// Several may be it, and they are not one tenant's.
    Several,
}

/// Messages by what identifies them.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// By their numbers, the oldest first.
    entries: BTreeMap<u64, Entry>,
    by_id: FxHashMap<(Broker, Fingerprint), u64>,
    by_content: BTreeSet<Alike>,
    latest: u64,
}

impl Messages {
    /// The message of this number.
    pub(super) fn get(&self, no: u64) -> Option<&Entry> {
        self.entries.get(&no)
    }

    /// The same, to change all but what it is found by.
    pub(super) fn get_mut(&mut self, no: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&no)
    }

    /// Its publication was seen.
    pub(super) fn record_published(&mut self, no: u64) {
        self.change(no, |e| e.published = true);
    }

    /// It is now known whose it is, or that nobody can say: who waited to hear it. `None`: that was known before.
    pub(super) fn identify(&mut self, no: u64, origin: Origin) -> Option<Waiting> {
        self.entries.get(&no).filter(|e| e.origin.whom == Whom::NotYet)?;
        self.change(no, |e| {
            e.origin = origin;
            (std::mem::take(&mut e.given), std::mem::take(&mut e.later))
        })
    }

    fn change<T>(&mut self, no: u64, f: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&no)?;
        let before = entry.alike(no);
        let result = f(entry);
        let after = entry.alike(no);
        if before != after {
            before.map(|alike| self.by_content.remove(&alike));
            self.by_content.extend(after);
        }
        Some(result)
    }

    /// Messages held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Most messages held.
    pub(super) fn limit() -> usize {
        MAX_MESSAGES
    }

    /// Who wrote what goes through a queue by one of the names that `m` has.
    pub(super) fn named(&self, broker: Broker, m: &Message) -> Option<Origin> {
        let named = |id: &Fingerprint| self.by_id.get(&(broker, *id)).and_then(|no| self.entries.get(no));
        let written = |e: &&Entry| e.is_body || e.before != Origin::NOBODY;
        m.ids.iter().find_map(named).filter(written).map(|e| match e.origin.whom {
            Whom::Tenant(..) => e.origin,
            _ => e.before,
        })
    }

    /// A message that was not known; gives its number.
    pub(super) fn make(&mut self, broker: Broker, m: &Message, origin: Origin, published: bool) -> u64 {
        while self.entries.len() >= MAX_MESSAGES {
            let Some((&oldest, _)) = self.entries.first_key_value() else { break };
            self.forget(oldest);
        }
        self.latest += 1;
        let ids: SmallVec<[_; 2]> = m.ids.iter().map(|id| (broker, *id)).collect();
        let content = m.print.map(|print| (broker, m.address, print));
        for id in &ids {
            self.by_id.insert(*id, self.latest);
        }
        let entry = Entry {
            origin,
            before: Origin::NOBODY,
            is_body: m.body,
            published,
            at: m.at,
            given: SmallVec::new(),
            later: Vec::new(),
            to: SmallVec::new(),
            ids,
            content,
        };
        self.by_content.extend(entry.alike(self.latest));
        self.entries.insert(self.latest, entry);
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
        if let Some(alike) = entry.alike(no) {
            self.by_content.remove(&alike);
        }
    }

    /// The message that `m` is.
    pub(super) fn find(&self, broker: Broker, m: &Message, published: bool) -> Found {
        let is = |no: &u64| self.entries.get(no).is_some_and(|e| e.published == published);
        if let Some(no) = m.ids.iter().find_map(|id| self.by_id.get(&(broker, *id)).filter(|no| is(no))) {
            return Found::One(*no);
        }
        let Some(print) = m.print else { return Found::None };
        let content = (broker, m.address, print);
        // A message that is named otherwise is another one with the same content.
        let named = if m.ids.is_empty() { &[false, true][..] } else { &[false][..] };
        let mut ends = named.iter().flat_map(|named| {
            let of = |whom, no| (content, published, *named, whom, no);
            let mut all = self.by_content.range(of(Whom::FIRST, 0)..=of(Whom::LAST, u64::MAX));
            let first = all.next();
            let last = all.next_back().or(first);
            [first, last].into_iter().flatten()
        });
        let Some(&(.., whom, first)) = ends.next() else { return Found::None };
        let mut first = first;
        for &(.., other, no) in ends {
            step();
            if other != whom {
                return Found::Several;
            }
            first = first.min(no);
        }
        Found::One(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::steps::tests::assert_flat;
    use crate::model::{Claim, EvidenceClass, Sym, TenantId};

    fn message(id: Option<u64>, content: u64) -> Message {
        Message { ids: id.map(Fingerprint).into_iter().collect(), print: Some(Fingerprint(content)), ..a_message() }
    }

    fn a_message() -> Message {
        Message {
            request: 0,
            at: Nanos(1),
            queue: Sym::EMPTY,
            address: Fingerprint(1),
            ids: SmallVec::new(),
            print: None,
            bytes: 0,
            marker: Claim::Neutral,
            labelled: false,
            signed: false,
            proved: None,
            readable: true,
            chore: false,
            body: false,
            lane: None,
            idempotency: None,
            traces: SmallVec::new(),
            values: SmallVec::new(),
        }
    }

    const HERE: Broker = Broker::At(ServiceId(0));

    fn of(tenant: u32) -> Origin {
        Origin { whom: Whom::Tenant(TenantId(tenant), EvidenceClass::Endpoint), basis: None }
    }

    #[test]
    fn equal_content_is_one_message_while_it_is_one_tenants() {
        let mut all = Messages::default();
        let (m, named) = (message(None, 5), message(Some(9), 5));
        assert_eq!(all.find(HERE, &m, true), Found::None);
        let first = all.make(HERE, &m, of(1), true);
        let second = all.make(HERE, &m, of(1), true);
        assert_eq!(all.find(HERE, &m, true), Found::One(first), "whichever: they are one tenant's");
        assert_eq!(all.find(HERE, &m, false), Found::None);
        let third = all.make(HERE, &named, Origin::NOT_YET, true);
        assert_eq!((all.find(HERE, &m, true), all.find(HERE, &named, true)), (Found::Several, Found::One(third)));
        assert_eq!(all.find(HERE, &message(Some(10), 5), true), Found::One(first), "that one is named otherwise");
        all.identify(third, of(1)).unwrap();
        assert!(all.identify(third, of(2)).is_none(), "it is known already");
        assert_eq!(all.find(HERE, &m, true), Found::One(first));
        all.forget(first);
        assert_eq!(all.find(HERE, &m, true), Found::One(second));
        for no in [second, third] {
            all.forget(no);
        }
        assert!(all.by_content.is_empty() && all.by_id.is_empty());
    }

    #[test]
    fn a_delivery_that_was_quicker_is_found_until_its_publication() {
        let mut all = Messages::default();
        let no = all.make(HERE, &message(None, 5), Origin::NOT_YET, false);
        assert_eq!(all.find(HERE, &message(None, 5), false), Found::One(no));
        all.record_published(no);
        assert_eq!(all.find(HERE, &message(None, 5), false), Found::None);
        assert_eq!(all.find(HERE, &message(None, 5), true), Found::One(no));
    }

    #[test]
    fn messages_of_equal_content_are_not_walked() {
        assert_flat("equal messages", 500, |n| {
            let mut all = Messages::default();
            for i in 0..n {
                let m = message(None, 5);
                all.make(HERE, &m, of(u32::from(i % 2 == 0)), true);
                assert!(all.find(HERE, &m, false) == Found::None);
            }
        });
    }
}
