//! What is known of tokens seen before, so that each is verified once and not per request.

use rustc_hash::FxHashMap;

use crate::model::{Fingerprint, Nanos};

/// Most tokens of one generation; two are kept.
const GENERATION: usize = 4096;
/// A generation is closed after so long at the latest: what is not used for twice as long is forgotten.
const TURN: Nanos = Nanos::secs(600);

/// A bounded map in two generations: what is used moves to the young one, and the old one goes as a whole.
#[derive(Debug)]
pub(super) struct Cache<T> {
    young: FxHashMap<Fingerprint, T>,
    old: FxHashMap<Fingerprint, T>,
    turned: Nanos,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), turned: Nanos(0) }
    }
}

impl<T> Cache<T> {
    /// What is kept for `key`, made by `make` if nothing is.
    pub(super) fn get(&mut self, key: Fingerprint, now: Nanos, make: impl FnOnce() -> T) -> &T {
        if self.young.len() >= GENERATION || now.since(self.turned) >= TURN {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        let old = &mut self.old;
        self.young.entry(key).or_insert_with(|| old.remove(&key).unwrap_or_else(make))
    }

    /// Whether something is kept for `key`.
    pub(super) fn holds(&self, key: Fingerprint) -> bool {
        self.young.contains_key(&key) || self.old.contains_key(&key)
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(super) fn limit() -> usize {
        2 * GENERATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = Cache::default();
        let hot = Fingerprint(u64::MAX);
        let mut n_made = 0;
        for i in 0..20_000 {
            cache.get(Fingerprint(i), Nanos(0), || 0);
            cache.get(hot, Nanos(0), || {
                n_made += 1;
                0
            });
            assert!(cache.len() <= Cache::<u32>::limit());
        }
        assert_eq!(n_made, 1, "made once");
        cache.get(Fingerprint(1), Nanos::secs(700), || 0);
        cache.get(Fingerprint(1), Nanos::secs(1400), || 0);
        assert!(!cache.holds(hot), "not used for two turns");
    }
}
