//! What rules remember: a map with a fixed number of places, from which the oldest entry goes first.

use std::collections::VecDeque;
use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::tables::{Table, hashed, part};

/// A map of at most `limit` entries. When it is full, the entry that was made first makes room.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    map: FxHashMap<K, (u64, V)>,
    /// Keys in the order of their making. A removed key stays until it is met, or until there are too many of them.
    order: VecDeque<(u64, K)>,
    limit: usize,
    /// Its limit where memory is not short.
    most: usize,
    n_made: u64,
}

impl<K: Copy + Eq + Hash, V> Table for Recent<K, V> {
    fn memory(&self) -> usize {
        hashed(self.map.capacity(), size_of::<(K, (u64, V))>()) + self.order.capacity() * size_of::<(u64, K)>()
    }

    fn bound(&mut self, most: usize) {
        self.limit = part(self.most, most);
    }
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    /// An empty map for `limit` entries, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        let most = limit.max(1);
        Self { map: FxHashMap::default(), order: VecDeque::new(), limit: most, most, n_made: 0 }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key).map(|(_, value)| value)
    }

    /// Puts `value` in; an entry that is there already keeps its age.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some((_, old)) = self.map.get_mut(&key) {
            *old = value;
            return;
        }
        self.make_room();
        self.n_made += 1;
        self.map.insert(key, (self.n_made, value));
        self.order.push_back((self.n_made, key));
    }

    /// The entry of `key`, made by `new` if there is none.
    pub(crate) fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> Option<&mut V> {
        if !self.map.contains_key(&key) {
            self.insert(key, new());
        }
        self.get_mut(&key)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.map.remove(key).map(|(_, value)| value)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Forgets what `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.map.retain(|key, (_, value)| keep(key, value));
    }

    /// Everything, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter().map(|(key, (_, value))| (key, value))
    }

    fn make_room(&mut self) {
        while self.map.len() >= self.limit {
            let Some((made, key)) = self.order.pop_front() else { return };
            if self.is(made, &key) {
                self.map.remove(&key);
            }
        }
        if self.order.len() >= self.limit.saturating_mul(2) {
            let order = std::mem::take(&mut self.order);
            self.order = order.into_iter().filter(|(made, key)| self.is(*made, key)).collect();
        }
    }

    fn is(&self, made: u64, key: &K) -> bool {
        self.map.get(key).is_some_and(|(n, _)| *n == made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::new(2);
        for n in 0..3 {
            recent.insert(n, n);
        }
        assert_eq!((recent.get(&0), recent.get(&1), recent.get(&2)), (None, Some(&1), Some(&2)));
        // Written again, it is no younger.
        recent.insert(1, 10);
        recent.insert(3, 3);
        assert_eq!((recent.get(&1), recent.get(&3)), (None, Some(&3)));
    }

    #[test]
    fn what_was_removed_takes_no_place_and_comes_back_young() {
        let mut recent = Recent::new(4);
        for round in 0..100 {
            recent.insert(1, round);
            assert_eq!(recent.remove(&1), Some(round));
        }
        assert!(recent.order.len() <= 8, "{}", recent.order.len());
        for n in [2, 3, 1, 4, 5] {
            recent.insert(n, n);
        }
        assert_eq!((recent.get(&2), recent.get(&1)), (None, Some(&1)));
    }
}
