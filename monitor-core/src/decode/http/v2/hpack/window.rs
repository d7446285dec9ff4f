//! The dynamic table (RFC 7541 §2.3.2), as far as it is known: what was put into it since it is followed.
//!
//! Its indices count from the newest entry on. So every reference to what was put in since then finds exactly that, whatever
//! was in the table before, and whatever the table's size is: what the encoder has dropped by then it does not refer to. What
//! is older stays unknown.

use std::collections::VecDeque;

/// Most bytes that are kept, as the standard counts them.
pub(super) const MAX_KEPT: usize = 64 << 10;
/// What each entry counts beside its name and value (RFC 7541 §4.1).
const OVERHEAD: usize = 32;
/// The table's size before anybody has said anything (RFC 9113 §6.5.2).
const AT_FIRST: usize = 4096;

/// A field. What is `None` was said by a reference to something unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Option<Box<[u8]>>,
    pub(super) value: Option<Box<[u8]>>,
}

impl Entry {
    fn size(&self) -> usize {
        let of = |part: &Option<Box<[u8]>>| part.as_ref().map_or(0, |p| p.len());
        of(&self.name) + of(&self.value) + OVERHEAD
    }
}

/// What is known of one direction's table.
#[derive(Debug)]
pub(super) struct Window {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    /// Largest size that the encoder uses; `None` where it was not heard.
    limit: Option<usize>,
}

impl Window {
    /// Of a connection that is followed from its start, or of an older one.
    pub(super) fn new(whole: bool) -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: whole.then_some(AT_FIRST) }
    }

    /// Something was put in that was not seen: what is known of the table begins anew.
    pub(super) fn forget(&mut self) {
        *self = Self::new(false);
    }

    /// The encoder uses at most so many bytes from now on.
    pub(super) fn resize(&mut self, limit: u64) {
        self.limit = Some(usize::try_from(limit).unwrap_or(usize::MAX));
        self.evict(0);
    }

    /// The entry at `index`, if it is known; 0 is the newest.
    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// A new entry.
    pub(super) fn insert(&mut self, mut entry: Entry) {
        if entry.size() > self.most() {
            self.entries.clear();
            self.size = 0;
            // Such an entry only empties the table (RFC 7541 §4.4); unless the table is larger than what is kept of it.
            if self.limit.is_some_and(|limit| entry.size() > limit) {
                return;
            }
            entry = Entry::default();
        }
        self.evict(entry.size());
        self.size += entry.size();
        self.entries.push_front(entry);
    }

    fn most(&self) -> usize {
        self.limit.unwrap_or(MAX_KEPT).min(MAX_KEPT)
    }

    /// Drops the oldest entries until there is room for `more`.
    fn evict(&mut self, more: usize) {
        while self.size + more > self.most() {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }

    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        self.size + self.entries.capacity() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, n: usize) -> Entry {
        Entry { name: Some(name.as_bytes().into()), value: Some(vec![b'v'; n].into()) }
    }

    fn names(w: &Window) -> String {
        let name = |e: &Entry| e.name.as_ref().map_or("?".to_owned(), |n| String::from_utf8_lossy(n).into_owned());
        w.entries.iter().map(name).collect()
    }

    #[test]
    fn the_newest_comes_first_and_the_oldest_goes() {
        let mut w = Window::new(true);
        w.resize(120);
        for name in ["a", "b", "c"] {
            w.insert(entry(name, 7));
        }
        assert_eq!((names(&w), w.size), ("cba".to_owned(), 120));
        w.insert(entry("d", 7));
        assert_eq!(names(&w), "dcb");
        w.insert(entry("e", 8));
        assert_eq!(names(&w), "ed");
        w.resize(80);
        assert_eq!(names(&w), "e");
        w.insert(entry("f", 48));
        assert_eq!((names(&w), w.size), (String::new(), 0), "one that is larger than the table empties it");
        w.resize(0);
        w.insert(entry("g", 0));
        assert_eq!(names(&w), "");
    }

    #[test]
    fn what_is_kept_is_bounded_and_places_stay_right() {
        let mut w = Window::new(false);
        w.resize(10 << 20);
        for _ in 0..5000 {
            w.insert(entry("a", 100));
        }
        assert!(w.size <= MAX_KEPT && w.memory() < 2 * MAX_KEPT);
        w.insert(entry("x", MAX_KEPT - 33));
        assert_eq!(names(&w), "x");
        w.insert(entry("y", MAX_KEPT - 32));
        w.insert(entry("z", 1));
        assert_eq!(names(&w), "z?", "one that is too large to be kept has its place");
        w.forget();
        assert_eq!((names(&w), w.limit), (String::new(), None));
    }
}
