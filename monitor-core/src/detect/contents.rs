//! What the keys of stores hold, piece by piece, and who wrote each: values, members, fields, entries, texts that were put
//! together, and keys that took another's content over. Bounded; what is oldest is forgotten first.

use smallvec::SmallVec;

use super::recent::Recent;
use crate::model::keys::{KeyChange, KeyUse};
use crate::model::{Attribution, Fingerprint, Nanos, ServiceId, Sym};

/// Most keys remembered as written.
const MAX_KEYS: usize = 65_536;
/// Most elements remembered, of all keys.
const MAX_ELEMENTS: usize = 131_072;
/// Most keys that one key's content was taken from.
const MAX_SOURCES: usize = 4;
/// Most tenants told apart that added to one text.
const MAX_AUTHORS: usize = 4;

pub(super) type Key = (ServiceId, Fingerprint);

/// Who wrote something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// `None`: nobody known.
    pub(super) by: Option<Attribution>,
    pub(super) at: Nanos,
    pub(super) verb: Sym,
    pub(super) target: Sym,
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Counts how often its content was replaced: what was written before is gone.
    generation: u32,
    /// It holds something that is compared or counted.
    nobodys: bool,
    /// It holds a word that is part of other keys' names.
    names: bool,
    /// Who wrote the pieces of the text that it holds.
    authors: SmallVec<[Written; 1]>,
    /// Keys, as of their generation, whose content it took over.
    sources: SmallVec<[(Fingerprint, u32); 1]>,
}

/// Who wrote what each key holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) keys: Recent<Key, Held>,
    pub(super) elements: Recent<(Key, u32, Fingerprint), Written>,
    /// Generations are not used twice, so that a key that was forgotten does not find older elements again.
    n_generations: u32,
}

impl Default for Contents {
    fn default() -> Self {
        Self { keys: Recent::new(MAX_KEYS), elements: Recent::new(MAX_ELEMENTS), n_generations: 0 }
    }
}

impl Contents {
    /// Whoever else than `by` wrote something of what was received from the key of `u`.
    pub(super) fn anothers(&self, service: ServiceId, by: &Attribution, u: &KeyUse) -> Option<Written> {
        let key = (service, u.key);
        let held = self.keys.get(&key)?;
        let own = std::iter::once((u.key, held.generation));
        let places: SmallVec<[_; 4]> = own.chain(held.sources.iter().copied()).collect();
        let foreign = |w: &Written| w.by.is_some_and(|a| a.tenant != by.tenant);
        for element in &u.received {
            for (key, generation) in &places {
                let Some(w) = self.elements.get(&((service, *key), *generation, *element)) else { continue };
                if foreign(w) {
                    return Some(*w);
                }
                // A text that was put together is everybody's who added to it.
                if held.authors.len() > 1
                    && let Some(other) = held.authors.iter().find(|w| foreign(w))
                {
                    return Some(*other);
                }
                break;
            }
        }
        None
    }

    /// Whether the key holds a word that is part of other keys' names.
    pub(super) fn names(&self, key: &Key) -> bool {
        self.keys.get(key).is_some_and(|held| held.names)
    }

    /// The key's content is replaced by nothing.
    fn empties(&mut self, key: Key) -> Option<&mut Held> {
        self.n_generations = self.n_generations.wrapping_add(1);
        let generation = self.n_generations;
        let held = self.keys.entry(key, Held::default)?;
        held.generation = generation;
        held.authors.clear();
        held.sources.clear();
        Some(held)
    }

    fn writes(&mut self, key: Key, elements: &[Fingerprint], by: Written) {
        if self.keys.get(&key).is_none() {
            self.empties(key);
        }
        let Some(generation) = self.keys.get(&key).map(|held| held.generation) else { return };
        for element in elements {
            self.elements.insert((key, generation, *element), by);
        }
    }

    /// What `u`, one of the `uses` of one operation, does to its key.
    pub(super) fn changes(&mut self, service: ServiceId, uses: &[KeyUse], u: &KeyUse, by: Written) {
        let key = (service, u.key);
        match &u.change {
            KeyChange::None => {}
            KeyChange::Unknown => {
                self.keys.remove(&key);
            }
            KeyChange::Names => {
                if let Some(held) = self.empties(key) {
                    (held.nobodys, held.names) = (true, true);
                }
            }
            KeyChange::Nobodys => {
                if let Some(held) = self.empties(key) {
                    held.nobodys = true;
                }
            }
            KeyChange::PerhapsNobodys(_) if self.keys.get(&key).is_some_and(|held| held.nobodys) => {
                self.empties(key);
            }
            KeyChange::Holds(elements) | KeyChange::PerhapsNobodys(elements) => {
                if let Some(held) = self.empties(key)
                    && !elements.is_empty()
                {
                    (held.nobodys, held.names) = (false, false);
                    held.authors.push(by);
                }
                self.writes(key, elements, by);
            }
            KeyChange::Adds(elements) => self.writes(key, elements, by),
            KeyChange::Grows(whole) => {
                let mut authors = self.keys.get(&key).map(|held| held.authors.clone()).unwrap_or_default();
                let tenant = |w: &Written| w.by.map(|a| a.tenant);
                if authors.len() < MAX_AUTHORS && authors.iter().all(|w| tenant(w) != tenant(&by)) {
                    authors.push(by);
                }
                if let Some(held) = self.empties(key) {
                    held.authors = authors;
                }
                self.writes(key, &[*whole], by);
            }
            KeyChange::From { keys, adds } => {
                let taken: SmallVec<[_; 4]> = keys
                    .iter()
                    .filter_map(|i| uses.get(usize::from(*i)))
                    .filter_map(|from| Some((from.key, self.keys.get(&(service, from.key))?)))
                    .flat_map(|(key, held)| std::iter::once((key, held.generation)).chain(held.sources.iter().copied()))
                    .take(MAX_SOURCES)
                    .collect();
                if (!adds || self.keys.get(&key).is_none()) && self.empties(key).is_none() {
                    return;
                }
                if let Some(held) = self.keys.get_mut(&key) {
                    for source in taken {
                        if held.sources.len() < MAX_SOURCES && !held.sources.contains(&source) {
                            held.sources.push(source);
                        }
                    }
                }
            }
        }
    }

    /// Keys and elements held, and most of them.
    #[cfg(test)]
    pub(super) fn level(&self) -> [(usize, usize); 2] {
        [(self.keys.len(), MAX_KEYS), (self.elements.len(), MAX_ELEMENTS)]
    }
}
