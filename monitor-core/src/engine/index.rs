//! Which connections somebody takes part in: by cgroup, by workload, and by the relay that their requests enter.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::attribute::forwarded::Relay;
use crate::model::steps::walk;
use crate::model::{CgroupId, ConnId, WorkloadId};

/// Somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Party {
    /// A watched socket at one of its ends is in this cgroup.
    Cgroup(CgroupId),
    /// This workload is at one of its ends.
    Workload(WorkloadId),
    /// Its requests go in here.
    Enters(Relay),
}

/// All who take part in one connection, each once.
pub(super) type Parties = SmallVec<[Party; 5]>;

/// Connections by who takes part in them. Holds at most five entries of each.
#[derive(Debug, Default)]
pub(super) struct Index(FxHashMap<Party, BTreeSet<ConnId>>);

impl Index {
    /// The connections of `party`, in order.
    pub(super) fn of(&self, party: Party) -> Vec<ConnId> {
        self.0.get(&party).map(|all| walk(all).copied().collect()).unwrap_or_default()
    }

    /// Whether `party` takes part in any.
    pub(super) fn has(&self, party: Party) -> bool {
        self.0.contains_key(&party)
    }

    /// `id` had these parties `before`, and has others `now`.
    pub(super) fn update(&mut self, id: ConnId, before: &Parties, now: &Parties) {
        for gone in before.iter().filter(|p| !now.contains(p)) {
            let Entry::Occupied(mut all) = self.0.entry(*gone) else { continue };
            all.get_mut().remove(&id);
            if all.get().is_empty() {
                all.remove();
            }
        }
        for new in now.iter().filter(|p| !before.contains(p)) {
            self.0.entry(*new).or_default().insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_found_by_its_parties_of_now() {
        let mut index = Index::default();
        let (a, b) = (Party::Workload(WorkloadId(1)), Party::Cgroup(CgroupId(1)));
        let of = |parties: &[Party]| parties.iter().copied().collect::<Parties>();
        index.update(ConnId(2), &Parties::new(), &of(&[a]));
        index.update(ConnId(1), &Parties::new(), &of(&[a, b]));
        assert_eq!((index.of(a), index.of(b)), (vec![ConnId(1), ConnId(2)], vec![ConnId(1)]));
        index.update(ConnId(1), &of(&[a, b]), &of(&[b]));
        index.update(ConnId(2), &of(&[a]), &Parties::new());
        assert_eq!((index.of(a), index.of(b), index.0.len()), (vec![], vec![ConnId(1)], 1));
    }
}
