//! What waits in a row and is called up by a key: requests by the id of their answer, deliveries by their tag.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::steps::step;

/// Things in the order of their coming, found by key without a walk. Several may have the same key: the earliest counts.
#[derive(Debug)]
pub(super) struct Fifo<K, V> {
    things: BTreeMap<u64, (K, V)>,
    by_key: BTreeSet<(K, u64)>,
    n_made: u64,
}

impl<K, V> Default for Fifo<K, V> {
    fn default() -> Self {
        Self { things: BTreeMap::new(), by_key: BTreeSet::new(), n_made: 0 }
    }
}

impl<K: Copy + Ord, V> Fifo<K, V> {
    /// One more, behind the others.
    pub(super) fn push(&mut self, key: K, thing: V) {
        self.n_made += 1;
        self.things.insert(self.n_made, (key, thing));
        self.by_key.insert((key, self.n_made));
    }

    fn place(&self, key: K) -> Option<u64> {
        step();
        self.by_key.range((key, 0)..=(key, u64::MAX)).next().map(|(_, place)| *place)
    }

    /// The earliest with this key.
    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.things.get(&self.place(key)?).map(|(_, thing)| thing)
    }

    /// Whether one with this key waits.
    pub(super) fn contains(&self, key: K) -> bool {
        self.place(key).is_some()
    }

    /// Takes the earliest with this key.
    pub(super) fn take(&mut self, key: K) -> Option<V> {
        let place = self.place(key)?;
        self.by_key.remove(&(key, place));
        self.things.remove(&place).map(|(_, thing)| thing)
    }

    /// The one that waits longest.
    pub(super) fn front(&self) -> Option<&V> {
        self.things.first_key_value().map(|(_, (_, thing))| thing)
    }

    /// All, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &V> {
        self.things.values().map(|(_, thing)| thing)
    }

    /// The one that came last.
    pub(super) fn back_mut(&mut self) -> Option<&mut V> {
        self.things.last_entry().map(|entry| &mut entry.into_mut().1)
    }

    /// Takes the one that waits longest, with its key.
    pub(super) fn pop_front(&mut self) -> Option<(K, V)> {
        let (place, (key, thing)) = self.things.pop_first()?;
        self.by_key.remove(&(key, place));
        Some((key, thing))
    }

    /// Takes all, in their order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (K, V)> + use<K, V> {
        std::mem::take(self).things.into_values()
    }

    pub(super) fn len(&self) -> usize {
        self.things.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        self.len() * (size_of::<(K, V)>() + size_of::<(K, u64)>() + 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_of_a_key_is_taken_and_the_rest_keep_their_order() {
        let mut all = Fifo::default();
        for (key, thing) in [(7, 'a'), (8, 'b'), (7, 'c'), (9, 'd')] {
            all.push(key, thing);
        }
        assert_eq!((all.take(7), all.take(6), all.contains(7)), (Some('a'), None, true));
        assert_eq!((all.front(), all.get(7), all.len()), (Some(&'b'), Some(&'c'), 3));
        assert_eq!(all.back_mut(), Some(&mut 'd'));
        assert_eq!(all.pop_front(), Some((8, 'b')));
        assert_eq!(all.take_all().collect::<Vec<_>>(), [(7, 'c'), (9, 'd')]);
        assert!(all.is_empty() && !all.contains(7) && all.memory() == 0);
    }
}
