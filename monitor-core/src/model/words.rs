//! Words that many requests share: the words of programs, not of their data.
//!
//! A word counts where it stands: `orders` at `/api/…` is not `orders` at `/users/…`. It is shared once enough requests
//! that the server accepted have carried it there, and, where tenants are known, those of more than one. At a place where
//! most different words are *not* shared, data stands (`/users/alice`): there even a popular one is not shown, nor where
//! ids are usual. A table's, tool's or setting's name stands at no such place: it is given by a program.
//!
//! Memory is bounded: what has not been used for long makes room. Forgetting a word hides it until it is learned again.

use rustc_hash::FxHashMap;

use super::TenantId;

/// Requests that must have carried a word.
const REQUESTS: u16 = 8;
/// Of these, requests that must have been of other tenants than the first one's, and of the first one's.
const OF_EACH: u16 = 2;
/// Requests that are enough on a single connection, where no tenants are known.
const ON_ONE_CONNECTION: u16 = 32;
/// Most words that are counted.
const MAX_WORDS: usize = 16_384;
/// Most places.
const MAX_PLACES: usize = 4_096;
/// How many words are looked at, at most, to make room for one.
const LOOKS: usize = 8;

/// A part of a name, by keyed hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The word at its place; `None` for what has not the form of a word.
    pub word: Option<u64>,
    /// The place, where data may stand at it.
    pub place: Option<u64>,
}

#[derive(Debug)]
struct Word {
    key: u64,
    place: Option<u64>,
    n: u16,
    /// The first tenant that used it, and how often it and others did.
    first: Option<TenantId>,
    n_first: u16,
    n_others: u16,
    conn: u64,
    several_conns: bool,
    shared: bool,
    /// Used since somebody last looked for room.
    fresh: bool,
}

#[derive(Debug, Default)]
struct PlaceUse {
    /// Different words seen here.
    n_words: u32,
    /// Of these, shared ones.
    n_shared: u32,
    /// Requests that had a word here, and that had an id.
    with_word: u32,
    with_id: u32,
    fresh: bool,
}

impl PlaceUse {
    fn holds_data(&self) -> bool {
        self.n_words.saturating_sub(self.n_shared) > self.n_shared || self.with_id > self.with_word / 4
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Words {
    words: Vec<Word>,
    by_key: FxHashMap<u64, usize>,
    places: FxHashMap<u64, PlaceUse>,
    hand: usize,
    /// Goes up whenever what is shared may have changed.
    epoch: u32,
}

impl Words {
    /// Goes up whenever what is shared may have changed.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Words that are counted.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Most words that are counted.
    pub fn limit() -> usize {
        MAX_WORDS
    }

    /// Whether many requests share the word, and it stands where data does not.
    pub fn is_shared(&self, part: &Part) -> bool {
        let word = part.word.and_then(|key| self.by_key.get(&key)).and_then(|at| self.words.get(*at));
        word.is_some_and(|w| w.shared)
            && part.place.is_none_or(|place| self.places.get(&place).is_some_and(|p| !p.holds_data()))
    }

    /// An accepted request of `tenant` on connection `conn` carried `part`. `tenants`: some tenants are known at all.
    pub fn note(&mut self, part: &Part, tenant: Option<TenantId>, conn: u64, tenants: bool) {
        let before = part.place.map(|place| {
            if !self.places.contains_key(&place) && !self.room_for_a_place() {
                return None;
            }
            let p = self.places.entry(place).or_default();
            p.fresh = true;
            let n = if part.word.is_some() { &mut p.with_word } else { &mut p.with_id };
            let held = *n == u32::MAX;
            *n = n.saturating_add(1);
            if held {
                (p.with_word, p.with_id) = (p.with_word / 2, p.with_id / 2);
            }
            Some(p.holds_data())
        });
        // Where there is no room to know what a place holds, nothing is learned.
        if before == Some(None) {
            return;
        }
        if let Some(at) = part.word.and_then(|key| self.word(key, part.place)) {
            self.count(at, tenant, conn, tenants);
        }
        if let Some(p) = part.place.and_then(|place| self.places.get(&place))
            && p.n_shared > 0
            && before.flatten() != Some(p.holds_data())
        {
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    fn count(&mut self, at: usize, tenant: Option<TenantId>, conn: u64, tenants: bool) {
        let Some(w) = self.words.get_mut(at) else { return };
        w.fresh = true;
        if w.n == 0 {
            w.conn = conn;
        }
        w.n = w.n.saturating_add(1);
        w.several_conns |= w.conn != conn;
        if let Some(tenant) = tenant {
            let of = if *w.first.get_or_insert(tenant) == tenant { &mut w.n_first } else { &mut w.n_others };
            *of = of.saturating_add(1);
        }
        let enough = if tenants {
            w.n >= REQUESTS && w.n_first >= OF_EACH && w.n_others >= OF_EACH
        } else {
            w.n >= REQUESTS && w.several_conns || w.n >= ON_ONE_CONNECTION
        };
        if enough && !w.shared {
            w.shared = true;
            self.epoch = self.epoch.wrapping_add(1);
            if let Some(p) = w.place.and_then(|place| self.places.get_mut(&place)) {
                p.n_shared = p.n_shared.saturating_add(1);
            }
        }
    }

    /// Where the word is counted; `None`: there is no room.
    fn word(&mut self, key: u64, place: Option<u64>) -> Option<usize> {
        if let Some(&at) = self.by_key.get(&key) {
            return Some(at);
        }
        if let Some(p) = place.and_then(|place| self.places.get_mut(&place)) {
            p.n_words = p.n_words.saturating_add(1);
        }
        let word = Word {
            key,
            place,
            n: 0,
            first: None,
            n_first: 0,
            n_others: 0,
            conn: 0,
            several_conns: false,
            shared: false,
            fresh: true,
        };
        if self.words.len() < MAX_WORDS {
            self.words.push(word);
            self.by_key.insert(key, self.words.len() - 1);
            return Some(self.words.len() - 1);
        }
        // The hand of a clock: who was not used since it last came by goes.
        for _ in 0..LOOKS {
            let at = self.hand;
            self.hand = (self.hand + 1) % MAX_WORDS;
            let old = self.words.get_mut(at)?;
            if std::mem::take(&mut old.fresh) {
                continue;
            }
            let old = std::mem::replace(old, word);
            self.by_key.remove(&old.key);
            self.by_key.insert(key, at);
            if old.shared {
                // It counts as seen still, so that no place is taken for one of words because its data is forgotten.
                self.epoch = self.epoch.wrapping_add(1);
                if let Some(p) = old.place.and_then(|place| self.places.get_mut(&place)) {
                    p.n_shared = p.n_shared.saturating_sub(1);
                    p.n_words = p.n_words.saturating_sub(1);
                }
            }
            return Some(at);
        }
        None
    }

    fn room_for_a_place(&mut self) -> bool {
        if self.places.len() < MAX_PLACES {
            return true;
        }
        // At most once for as many new places as this makes room for; a place in use is never forgotten.
        let before = self.places.len();
        self.places.retain(|_, p| std::mem::take(&mut p.fresh) || p.n_shared > 0);
        self.epoch = self.epoch.wrapping_add(u32::from(self.places.len() < before));
        self.places.len() < MAX_PLACES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(word: u64, place: u64) -> Part {
        Part { word: Some(word), place: Some(place) }
    }

    #[test]
    fn many_means_requests_of_more_than_one_tenant() {
        let shared = |uses: &[(u32, usize)], tenants: bool| {
            let mut words = Words::default();
            for &(t, n) in uses {
                (0..n).for_each(|_| words.note(&part(1, 2), (t > 0).then_some(TenantId(t)), u64::from(t), tenants));
            }
            words.is_shared(&part(1, 2))
        };
        assert!(shared(&[(1, 6), (2, 2)], true) && shared(&[(1, 2), (2, 2), (3, 4)], true));
        assert!(!shared(&[(1, 5), (2, 2)], true), "too few");
        assert!(!shared(&[(1, 1000)], true) && !shared(&[(1, 1000), (2, 1)], true) && !shared(&[(0, 1000)], true));
        assert!(shared(&[(0, 32)], false) && !shared(&[(0, 31)], false), "one connection");
    }

    #[test]
    fn memory_is_bounded_and_what_is_in_use_stays() {
        let mut words = Words::default();
        let both = |words: &mut Words, part: &Part| {
            for t in [1, 2] {
                (0..4).for_each(|_| words.note(part, Some(TenantId(t)), 0, true));
            }
        };
        let (path, table) = (part(1, 2), Part { word: Some(7), place: None });
        for key in 0..60_000u64 {
            if key % 500 == 0 {
                both(&mut words, &path);
                both(&mut words, &table);
            }
            words.note(&part(1000 + key, 100_000 + key), Some(TenantId(1)), key, true);
        }
        assert!(
            words.len() <= MAX_WORDS && words.by_key.len() == words.words.len() && words.places.len() <= MAX_PLACES
        );
        assert!(words.is_shared(&path) && words.is_shared(&table));
        let mut words = Words::default();
        both(&mut words, &table);
        for key in 0..60_000u64 {
            words.note(&Part { word: Some(1000 + key), place: None }, None, 0, true);
        }
        assert!(!words.is_shared(&table), "what nobody uses any more is forgotten");
    }

    #[test]
    fn where_ids_or_many_words_stand_nothing_is_shared() {
        let mut words = Words::default();
        for t in [1, 2] {
            (0..100).for_each(|_| words.note(&part(1, 2), Some(TenantId(t)), 0, true));
        }
        assert!(words.is_shared(&part(1, 2)));
        let before = words.epoch();
        for key in 10..12 {
            words.note(&part(key, 2), Some(TenantId(1)), 0, true);
        }
        assert!(!words.is_shared(&part(1, 2)) && words.epoch() != before);
        let mut words = Words::default();
        for t in [1, 2] {
            (0..100).for_each(|_| words.note(&part(1, 2), Some(TenantId(t)), 0, true));
        }
        (0..51).for_each(|_| words.note(&Part { word: None, place: Some(2) }, Some(TenantId(1)), 0, true));
        assert!(!words.is_shared(&part(1, 2)));
    }
}
