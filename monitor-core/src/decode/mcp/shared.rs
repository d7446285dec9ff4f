//! What the MCP readers of one engine share: sessions and requests outlive the connection they began on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::Hash;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::exchange::Asked;
use super::rpc::{Budget, Id};
use crate::decode::shape::Shapes;
use crate::model::mcp::Revision;
use crate::model::{Fingerprint, Nanos, Sym};

/// Most sessions, and most servers, that are remembered.
const MAX_SESSIONS: usize = 8192;
/// Most requests whose answer is to come on another stream.
const MAX_WAITING: usize = 2048;
/// Most of them under one id: a client that numbers from 1 in a session of several has no more at once.
const MAX_ALIKE: usize = 8;
/// Most tools whose mirrored parameters are known.
const MAX_TOOLS: usize = 2048;

/// A map that forgets what was put in first.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    map: FxHashMap<K, V>,
    order: VecDeque<K>,
    limit: usize,
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { map: FxHashMap::default(), order: VecDeque::new(), limit }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        // What was taken out is still in the queue: that counts, too, so that the queue is bounded.
        while self.order.len() > self.limit {
            if let Some(old) = self.order.pop_front() {
                self.map.remove(&old);
            }
        }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.map.remove(key)
    }
}

/// What is known of a session, or of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) revision: Revision,
    /// Name and version.
    pub(super) server: Option<(Sym, Sym)>,
}

/// A header that repeats an argument: its name after `Mcp-Param-`, in lower case, and the argument's path.
pub(super) type Mirror = Vec<(String, Vec<String>)>;

/// What readers remember.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) sessions: Bounded<Fingerprint, Known>,
    /// By host and path.
    pub(super) by_address: Bounded<Fingerprint, Known>,
    /// HTTP+SSE endpoints that a server has handed out.
    pub(super) endpoints: Bounded<Fingerprint, ()>,
    /// Requests whose answer comes on another stream, by session and id. Several under one, if nobody keeps them apart.
    waiting: Bounded<(Fingerprint, Id), SmallVec<[Box<Asked>; 1]>>,
    /// By address and tool.
    pub(super) mirrors: Bounded<(Fingerprint, Sym), Mirror>,
}

impl Memory {
    /// The answer to a request is to come on another stream.
    pub(super) fn wait(&mut self, key: (Fingerprint, Id), asked: Box<Asked>) {
        match self.waiting.get_mut(&key) {
            Some(all) if all.len() < MAX_ALIKE => all.push(asked),
            Some(_) => {}
            None => self.waiting.insert(key, SmallVec::from_elem(asked, 1)),
        }
    }

    /// The request of this id that began then has been refused.
    pub(super) fn wait_no_more(&mut self, key: &(Fingerprint, Id), begun: Nanos) {
        let Some(all) = self.waiting.get_mut(key) else { return };
        all.retain(|a| a.exchange.begun != begun);
        if all.is_empty() {
            self.waiting.remove(key);
        }
    }
}

/// Shared by the readers of one engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared {
    pub(super) shapes: Shapes,
    pub(super) budget: Budget,
    pub(super) memory: Rc<RefCell<Memory>>,
}

impl Shared {
    /// Whether a request of this id waits for its answer.
    pub(super) fn waits(&self, key: &(Fingerprint, Id)) -> bool {
        self.memory.borrow().waiting.get(key).is_some()
    }

    /// The request that an answer of this id is to: the earliest that it `fits`. And whether it fits no other.
    pub(super) fn take_waiting(
        &self,
        key: &(Fingerprint, Id),
        fits: impl Fn(&Asked) -> bool,
    ) -> Option<(Box<Asked>, bool)> {
        let mut memory = self.memory.borrow_mut();
        let all = memory.waiting.get_mut(key)?;
        let mut fitting = all.iter().enumerate().filter(|(_, a)| fits(a)).map(|(i, _)| i);
        let (first, alone) = (fitting.next()?, fitting.next().is_none());
        let asked = all.remove(first);
        if all.is_empty() {
            memory.waiting.remove(key);
        }
        Some((asked, alone))
    }
}

impl Default for Shared {
    fn default() -> Self {
        let memory = Memory {
            sessions: Bounded::new(MAX_SESSIONS),
            by_address: Bounded::new(MAX_SESSIONS),
            endpoints: Bounded::new(MAX_SESSIONS),
            waiting: Bounded::new(MAX_WAITING),
            mirrors: Bounded::new(MAX_TOOLS),
        };
        Self { shapes: Shapes::default(), budget: Budget::default(), memory: Rc::new(RefCell::new(memory)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut map = Bounded::new(2);
        for k in 0..3 {
            map.insert(k, k);
        }
        assert_eq!((map.get(&0), map.get(&1), map.get(&2)), (None, Some(&1), Some(&2)));
        for k in 0..100 {
            map.insert(k, k);
            map.remove(&k);
        }
        assert!(map.order.len() <= 2 && map.map.is_empty());
    }
}
