//! What was missed: lost, cut at capture, unreadable, or before the start. Whoever takes something for not having
//! happened because it was not seen asks here whether it could have been seen.

use rustc_hash::FxHashMap;

use super::{Nanos, ServiceId, TenantId, WorkloadId};

/// Most places told apart; beyond, what is missed counts as missed everywhere.
const MAX_KEYS: usize = 65_536;

/// Where something would have been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Where {
    /// In what a service was asked or answered, for whomever.
    Service(ServiceId),
    /// The same, for this tenant or for nobody known.
    ServedTo(ServiceId, TenantId),
    /// In an answer of a service's that was waited for and not seen.
    Answered(ServiceId),
    /// The same, waited for by this tenant or by nobody known.
    AnsweredTo(ServiceId, TenantId),
    /// In what a process sent to others, or was answered by them.
    SentBy(WorkloadId),
    /// In what a service was ever asked or answered, also before the first look at it.
    EverAt(ServiceId),
}

/// Something that was not seen, on whose absence a statement rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Where it would have been seen.
    pub place: Where,
    /// From when on it may have happened.
    pub since: Nanos,
}

/// One entry of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Anywhere,
    Service(ServiceId),
    Served(ServiceId, Option<TenantId>),
    Answered(ServiceId),
    AnsweredTo(ServiceId, Option<TenantId>),
    Sent(Option<WorkloadId>),
    Before(ServiceId),
}

/// When something was last missed, by place.
#[derive(Debug, Default)]
pub struct Missed(FxHashMap<Key, Nanos>);

impl Missed {
    /// Something was missed and nobody can say where.
    pub fn anywhere(&mut self, at: Nanos) {
        self.note(Key::Anywhere, at);
    }

    /// Something was missed of a connection to `service`, which `sender` opened; for `tenant`, where that is known.
    pub fn on(&mut self, service: Option<ServiceId>, tenant: Option<TenantId>, sender: Option<WorkloadId>, at: Nanos) {
        if let Some(service) = service {
            self.note(Key::Service(service), at);
            self.note(Key::Served(service, tenant), at);
        }
        self.note(Key::Sent(sender), at);
    }

    /// The beginning of a connection to `service` was not seen, or nobody can read it.
    pub fn before(&mut self, service: ServiceId, at: Nanos) {
        self.note(Key::Before(service), at);
    }

    /// A request to `service` was not answered, as far as was seen.
    pub fn unanswered(&mut self, service: ServiceId, tenant: Option<TenantId>, at: Nanos) {
        self.note(Key::Answered(service), at);
        self.note(Key::AnsweredTo(service, tenant), at);
    }

    /// How many places are told apart, and bytes of one.
    pub fn level(&self) -> (usize, usize) {
        (self.0.len(), size_of::<(Key, Nanos)>())
    }

    fn note(&mut self, place: Key, at: Nanos) {
        let place = if self.0.len() < MAX_KEYS || self.0.contains_key(&place) { place } else { Key::Anywhere };
        let last = self.0.entry(place).or_insert(at);
        *last = at.max(*last);
    }

    /// Whether what `unseen` speaks of may have happened all the same.
    pub fn may_hide(&self, unseen: &Unseen) -> bool {
        let since = |place: Key| self.0.get(&place).is_some_and(|at| *at >= unseen.since);
        let there = match unseen.place {
            Where::Service(s) => since(Key::Service(s)),
            Where::ServedTo(s, t) => since(Key::Served(s, Some(t))) || since(Key::Served(s, None)),
            Where::Answered(s) => since(Key::Answered(s)),
            Where::AnsweredTo(s, t) => since(Key::AnsweredTo(s, Some(t))) || since(Key::AnsweredTo(s, None)),
            Where::SentBy(w) => since(Key::Sent(Some(w))) || since(Key::Sent(None)),
            Where::EverAt(s) => since(Key::Service(s)) || since(Key::Before(s)),
        };
        there || since(Key::Anywhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: ServiceId = ServiceId(1);
    const T: TenantId = TenantId(1);
    const U: TenantId = TenantId(2);

    fn at(place: Where, second: u64) -> Unseen {
        Unseen { place, since: Nanos::secs(second) }
    }

    #[test]
    fn what_was_missed_hides_what_may_have_been_there() {
        let mut missed = Missed::default();
        missed.on(Some(S), Some(T), Some(WorkloadId(7)), Nanos::secs(5));
        for (place, hides) in [
            (Where::Service(S), true),
            (Where::Service(ServiceId(2)), false),
            (Where::ServedTo(S, T), true),
            (Where::ServedTo(S, U), false),
            (Where::Answered(S), false),
            (Where::AnsweredTo(S, T), false),
            (Where::SentBy(WorkloadId(7)), true),
            (Where::SentBy(WorkloadId(8)), false),
        ] {
            assert_eq!(missed.may_hide(&at(place, 5)), hides, "{place:?}");
            assert!(!missed.may_hide(&at(place, 6)), "{place:?}");
        }
        // Before the first look is never, but for who asks for it.
        missed.before(S, Nanos::secs(6));
        assert!(missed.may_hide(&at(Where::EverAt(S), 6)) && !missed.may_hide(&at(Where::Service(S), 6)));
        assert!(!missed.may_hide(&at(Where::EverAt(ServiceId(2)), 0)));
        // What was missed of an unknown tenant may be of any tenant.
        missed.on(Some(S), None, None, Nanos::secs(7));
        missed.unanswered(S, None, Nanos::secs(7));
        for place in [Where::ServedTo(S, U), Where::Answered(S), Where::AnsweredTo(S, U), Where::SentBy(WorkloadId(8))]
        {
            assert!(missed.may_hide(&at(place, 6)), "{place:?}");
        }
        missed.anywhere(Nanos::secs(9));
        assert!(missed.may_hide(&at(Where::Service(ServiceId(2)), 8)));
    }

    #[test]
    fn the_record_is_bounded_and_errs_on_the_side_of_doubt() {
        let mut missed = Missed::default();
        for n in 0..100_000 {
            missed.unanswered(ServiceId(n), Some(T), Nanos::secs(1));
        }
        assert!(missed.0.len() <= MAX_KEYS + 1);
        assert!(missed.may_hide(&at(Where::AnsweredTo(ServiceId(99_999), T), 1)));
        assert!(!missed.may_hide(&at(Where::AnsweredTo(ServiceId(99_999), T), 2)));
    }
}
