//! What an operation does with keys of a store, and with what they hold. Content is told by salted fingerprints: who
//! receives an element that another has written is known by equality alone.

use smallvec::SmallVec;

use super::Fingerprint;

/// Fingerprints of what a key holds: its value, its members, its fields with their values.
pub type Elements = SmallVec<[Fingerprint; 1]>;

/// What one operation does with its keys, in the order in which it names them.
pub type KeyUses = SmallVec<[KeyUse; 1]>;

/// What one operation does with one key. What it receives, it receives before it changes anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Salted fingerprint of the key, and of the database it is in.
    pub key: Fingerprint,
    /// The key names whom it belongs to itself.
    pub scoped: bool,
    /// What the operation was handed of what the key holds.
    pub received: Elements,
    /// What it makes of it.
    pub change: KeyChange,
}

/// What becomes of what a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// Nothing.
    None,
    /// It holds just this from now on; nothing, if there is none.
    Holds(Elements),
    /// It holds this besides.
    Adds(Elements),
    /// What it held was added to: all of it together has this fingerprint now.
    Grows(Fingerprint),
    /// It holds something that is compared or counted, not read: a lock, a lease, a counter. That is nobody's.
    Nobodys,
    /// Nothing; but the random word that it holds is now part of another key's name: it is a name, not content, and was
    /// from the beginning.
    Names,
    /// A number or a random word, which is nobody's where the key held such a thing before; else its writer's.
    PerhapsNobodys(Elements),
    /// It holds what other keys of the operation held, by their numbers, besides its own (`adds`) or instead.
    From {
        /// Numbers of the other keys in the operation.
        keys: SmallVec<[u8; 4]>,
        /// It keeps what it held itself.
        adds: bool,
    },
    /// Something that is not known.
    Unknown,
}

impl KeyUse {
    /// Whether there is anything to tell.
    pub fn says(&self) -> bool {
        !self.received.is_empty() || self.change != KeyChange::None
    }
}
