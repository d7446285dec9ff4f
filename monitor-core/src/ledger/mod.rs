//! The ledger: what has this connection proved about the tenant it is used for?
//!
//! One [`Ledger`] per connection, driven by acknowledged operations. It keeps every slot's start-up, session and
//! transaction value, undoes what a rollback undoes, and answers one question: which bindings are live at this data
//! operation? [`judge`] turns that answer and the use-tenant into a verdict (`docs/domain.md#verdicts`).

mod judge;
mod slots;

pub use judge::{CredentialOwner, Question, Standing, judge};

use smallvec::SmallVec;

use slots::Slots;

use crate::model::{Bound, Claim, Effect, Nanos, ResetScope, Scope, Slot, Strength, Sym, TxStatus, UnitNo};

/// Why the state of a connection is not fully known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Everything since the connection's start was seen.
    Fully,
    /// Something was missed and nothing has been acknowledged since.
    Nothing,
    /// Something was missed; a binding has been acknowledged since, so what is live now is known, but not what lies
    /// beneath it.
    SinceBinding,
}

/// What a rollback returns to.
#[derive(Clone, Debug)]
struct Saved {
    slots: Slots,
    known: Known,
}

/// Most savepoints remembered in one transaction; beyond that the connection is not known until its next binding.
const MAX_SAVEPOINTS: usize = 32;

/// What a connection has proved.
#[derive(Debug)]
pub struct Ledger {
    slots: Slots,
    /// Start-up values were seen.
    start_known: bool,
    known: Known,
    /// The slots as they were before the open transaction changed them.
    before: Option<Box<Saved>>,
    savepoints: Vec<(Sym, Saved)>,
    failed: bool,
    /// Number of the last data operation or reset, to order them.
    clock: u32,
    last_reset: Option<u32>,
    /// Every request proves itself anew (HTTP): what was missed before it hardly matters.
    per_request: bool,
}

/// The bindings that were live at one data operation.
#[derive(Clone, Debug)]
pub struct View {
    /// Live bindings that say something about a tenant.
    pub live: SmallVec<[Bound; 2]>,
    /// Values in force that say something only where each tenant goes with its own ([`Claim::Chosen`]).
    pub chosen: SmallVec<[Bound; 1]>,
    /// Whether the answer is whole.
    pub certainty: Certainty,
    /// Order of this operation among the connection's uses and resets.
    pub order: u32,
    /// Order of the last reset, if there was one.
    pub last_reset: Option<u32>,
}

/// How far a [`View`] can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Nothing was missed that matters.
    Whole,
    /// Live bindings are known; where there is none, an older one that was not seen may still hold.
    OnlyWhatIsLive,
    /// Nothing is known.
    None,
}

impl Ledger {
    /// A ledger for a connection seen from its start.
    pub fn new() -> Self {
        Self {
            slots: Slots::default(),
            start_known: true,
            known: Known::Fully,
            before: None,
            savepoints: Vec::new(),
            failed: false,
            clock: 0,
            last_reset: None,
            per_request: false,
        }
    }

    /// From now on, for a protocol whose every request proves itself anew.
    pub fn judge_per_request(&mut self) {
        self.per_request = true;
    }

    /// Something was missed: nothing is known until the next acknowledged binding. `start_missed` when the
    /// connection's beginning was.
    pub fn disturb(&mut self, start_missed: bool) {
        // A connection may still have been authenticated as a whole, out of our sight.
        self.known = if self.per_request { Known::SinceBinding } else { Known::Nothing };
        self.start_known &= !start_missed;
        self.slots.forget();
        self.before = None;
        self.savepoints.clear();
        self.failed = false;
    }

    /// A request was answered that nothing before it can bear upon: what was missed before matters no more, where every
    /// request proves itself anew. The caller knows that the connection serves one alone and that its client does not
    /// authenticate connections as a whole.
    pub fn begin_again(&mut self) {
        if self.per_request && self.known == Known::SinceBinding {
            self.known = Known::Fully;
        }
    }

    /// What counts as a binding is decided otherwise from now on: bindings in slots that `keep` still counts stay, and
    /// where none is in force, one that did not count when it was made may be. Nothing was missed, so what is known of
    /// start and transaction stays.
    pub fn decide_anew(&mut self, keep: &dyn Fn(Slot) -> bool) {
        let doubt = if self.per_request { Known::SinceBinding } else { Known::Nothing };
        let before = self.before.iter_mut().map(|saved| &mut **saved);
        let saved = self.savepoints.iter_mut().map(|(_, saved)| saved);
        for Saved { slots, known } in before.chain(saved) {
            slots.retain(keep);
            *known = doubt;
        }
        self.slots.retain(keep);
        self.known = doubt;
    }

    /// Applies what an acknowledged operation of unit `unit` changed.
    pub fn apply(&mut self, effect: &Effect, at: Nanos, unit: UnitNo) {
        match *effect {
            Effect::None | Effect::Check => {}
            Effect::Bind { slot, claim, scope, strength } => {
                self.remember();
                if claim == Claim::Unreadable {
                    self.disturb(false);
                    return;
                }
                // A value that names no tenant replaces one that does. That resets the slot and proves nothing more.
                let says = matches!(claim, Claim::Tenant(_) | Claim::Opaque(_));
                if !says && scope != Scope::Startup && self.slots.named(slot).is_some_and(|before| before != claim) {
                    self.reset_now();
                }
                self.slots.bind(Bound { slot, claim, scope, strength, at, unit });
                match (scope, self.known) {
                    // A start-up value is part of the beginning, not a proof after a gap.
                    (Scope::Startup, _) | (_, Known::Fully) => {}
                    // A value that names no tenant is no binding, either.
                    _ if !says => {}
                    (Scope::Session, _) if self.start_known => self.known = Known::Fully,
                    _ => self.known = Known::SinceBinding,
                }
            }
            Effect::Reset { what, scope } => {
                self.remember();
                if scope != Scope::Transaction {
                    self.reset_now();
                }
                match what {
                    ResetScope::Slot(slot) => self.slots.reset(slot, scope),
                    ResetScope::Settings => self.slots.reset_settings(true),
                    ResetScope::Variables => self.slots.reset_settings(false),
                    ResetScope::Everything => self.slots.reset_all(),
                }
                // What it returns to was never seen.
                if !self.start_known {
                    self.known = Known::Nothing;
                }
            }
            // A transaction's extent is told by its end: what changes before that is undone or kept then.
            Effect::Begin => {}
            Effect::Commit => self.end(false),
            Effect::Rollback => self.end(true),
            Effect::Savepoint(name) => {
                self.remember();
                if self.savepoints.len() < MAX_SAVEPOINTS {
                    let saved = self.saved();
                    self.savepoints.push((name, saved));
                } else {
                    self.disturb(false);
                }
            }
            Effect::RollbackTo(name) => {
                self.failed = false;
                match self.savepoints.iter().rposition(|(n, _)| *n == name) {
                    Some(at) => {
                        self.savepoints.truncate(at + 1);
                        if let Some((_, saved)) = self.savepoints.last() {
                            self.slots = saved.slots.clone();
                            self.known = saved.known;
                        }
                    }
                    // Set before we looked: what it undoes is not known.
                    None => self.disturb(false),
                }
            }
            Effect::Release(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|(n, _)| *n == name) {
                    self.savepoints.truncate(at);
                }
            }
            Effect::Unknown => self.disturb(false),
        }
    }

    /// Bindings that unit `unit` has made since `since` were made by `by`, as has turned out.
    pub fn made_by(&mut self, unit: UnitNo, since: Nanos, by: UnitNo) {
        let before = self.before.iter_mut().map(|saved| &mut saved.slots);
        let saved = self.savepoints.iter_mut().map(|(_, saved)| &mut saved.slots);
        for slots in std::iter::once(&mut self.slots).chain(before).chain(saved) {
            slots.made_by(unit, since, by);
        }
    }

    /// An operation failed: what the open transaction changed will be undone.
    pub fn failed(&mut self) {
        self.failed = true;
    }

    /// The server told the transaction's state.
    pub fn status(&mut self, status: TxStatus) {
        match status {
            // An implicit transaction (several statements up to one Sync) ends here; an explicit one has ended with
            // its COMMIT or ROLLBACK already, and this is a second, empty end.
            TxStatus::Idle => {
                let undo = self.failed;
                self.end(undo);
            }
            TxStatus::Open => {}
            TxStatus::Failed => self.failed = true,
        }
    }

    fn reset_now(&mut self) {
        self.clock += 1;
        self.last_reset = Some(self.clock);
    }

    /// Order of the latest use or reset.
    pub fn order(&self) -> u32 {
        self.clock
    }

    /// The slots before the transaction's first change, for its rollback.
    fn remember(&mut self) {
        if self.before.is_none() {
            self.before = Some(Box::new(self.saved()));
        }
    }

    fn saved(&self) -> Saved {
        Saved { slots: self.slots.clone(), known: self.known }
    }

    fn end(&mut self, undo: bool) {
        if let Some(before) = self.before.take()
            && undo
        {
            self.slots = before.slots;
            self.known = before.known;
        }
        self.slots.end_transaction();
        self.savepoints.clear();
        self.failed = false;
    }

    /// Bindings in force of at least this strength, without a use.
    pub fn bindings(&self, minimum: Strength) -> SmallVec<[Bound; 2]> {
        self.slots.live().filter(|b| b.strength >= minimum).collect()
    }

    /// What is live for a data operation happening now. Counts it among the connection's uses.
    pub fn view(&mut self, minimum: Strength) -> View {
        self.clock += 1;
        View {
            live: self.slots.live().filter(|b| b.strength >= minimum).collect(),
            chosen: self.slots.chosen().collect(),
            certainty: match self.known {
                Known::Fully => Certainty::Whole,
                Known::SinceBinding => Certainty::OnlyWhatIsLive,
                Known::Nothing => Certainty::None,
            },
            order: self.clock,
            last_reset: self.last_reset,
        }
    }

    /// Bytes held beyond the struct itself, about.
    pub fn memory(&self) -> usize {
        self.slots.memory()
            + self.before.as_ref().map_or(0, |b| size_of::<Saved>() + b.slots.memory())
            + self.savepoints.capacity() * size_of::<(Sym, Saved)>()
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
