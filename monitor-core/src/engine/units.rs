//! Units of work of one connection: the one that is open, those that are over and not yet looked at, and what is known of
//! the latest ones.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::by_unit::ByUnit;
use super::concurrent::Beside;
use crate::attribute::forwarded::Origins;
use crate::attribute::through::{Borrow, Through};
use crate::ledger::View;
use crate::model::cookies::Cookies;
use crate::model::http;
use crate::model::keys::KeyUses;
use crate::model::{Attribution, ConnId, Fingerprint, Nanos, Operation, Protocol, Slot, TenantId, UnitNo};

/// A request without its answer yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) request: u64,
    pub(super) begun: Nanos,
    pub(super) print: Option<Fingerprint>,
    /// Entered into the relay's table.
    pub(super) entered: bool,
    /// The connection has ended before the answer was complete.
    pub(super) cut: bool,
}

/// An operation whose tenant is not known yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) unit: UnitNo,
    /// What the connection spoke then.
    pub(super) protocol: Protocol,
    pub(super) op: Operation,
    /// Bindings at the operation, for data.
    pub(super) view: Option<View>,
    /// What it does with keys.
    pub(super) keys: KeyUses,
    /// Cookies of its request and answer, if it is the request's first operation.
    pub(super) cookies: Option<Box<Cookies>>,
    /// What caches are judged by, where it may have been answered out of one.
    pub(super) cached: Option<Box<http::Exchange>>,
}

/// Where a unit of work's requests may have come in through a relay.
#[derive(Clone, Debug)]
pub(super) enum CameIn {
    /// Anywhere.
    Anywhere,
    /// All of them may have come in on one of these.
    OneOf(Origins),
    /// They do not agree: something is missing, and nothing can be told from what is left.
    Broken,
}

impl CameIn {
    /// One more request, which may have come in on `origins`.
    fn and(&mut self, origins: Origins) {
        match self {
            Self::Anywhere if !origins.is_empty() => *self = Self::OneOf(origins),
            Self::OneOf(before) => {
                before.retain(|o| origins.contains(o));
                if before.is_empty() {
                    *self = Self::Broken;
                }
            }
            Self::Anywhere | Self::Broken => *self = Self::Broken,
        }
    }

    pub(super) fn allows(&self, tenant: TenantId, origin: Option<ConnId>) -> bool {
        match self {
            Self::OneOf(origins) => {
                origins.iter().any(|(c, t)| *t == Some(tenant) && origin.is_none_or(|origin| origin == *c))
            }
            _ => false,
        }
    }
}

/// A unit of work that has been settled, or may yet be.
#[derive(Clone, Debug)]
pub(super) struct KnownUnit {
    pub(super) no: UnitNo,
    pub(super) came_in: CameIn,
    /// What its requests were settled to, if they agree.
    pub(super) said: Option<Attribution>,
    pub(super) contradicted: bool,
}

/// A binding for the transaction only, made in the current unit and not yet used.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalBind {
    pub(super) slot: Slot,
    pub(super) at: Nanos,
    pub(super) warned: bool,
}

/// A unit of work, or a stretch of one, that is over and not yet looked at.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) no: UnitNo,
    pub(super) ended: Nanos,
    /// It goes on as another's, from this request on; what it asked before may not be answered yet.
    pub(super) until: Option<u64>,
    pub(super) borrow: Borrow,
}

/// Whether a client has begun a transaction by a statement of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Transaction {
    /// It has not.
    #[default]
    None,
    /// It has, and did not end it yet.
    Open,
    /// It has, and the transaction has ended.
    Over,
}

/// The current unit of work: from the first request after idle to the next idle, or from where somebody else goes on
/// in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unit {
    pub(super) no: UnitNo,
    pub(super) open: bool,
    /// Its first request; a request of a lower number belongs to a stretch before it.
    pub(super) first: u64,
    /// Its latest request, and when that began.
    pub(super) latest: u64,
    pub(super) latest_at: Nanos,
    /// The server has told that a transaction is open.
    pub(super) held: bool,
    /// Some request of it may have come in through a relay.
    pub(super) forwarded: bool,
    /// Some request of it cannot.
    pub(super) unmatched: bool,
    /// The transaction that its client begins and ends itself.
    pub(super) transaction: Transaction,
    pub(super) local: Option<LocalBind>,
}

/// Most units remembered for whom they were.
pub(super) const MAX_PAST: usize = 32;
/// Most operations that wait for their tenant on one connection.
pub(super) const MAX_PENDING: usize = 4096;
/// Most requests without an answer on one connection that attribution follows.
pub(super) const MAX_OPEN: usize = 256;
/// Most tenants remembered as users of one connection.
pub(super) const MAX_USERS: usize = 32;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Units {
    pub(super) current: Unit,
    /// Number of the latest request that was read.
    pub(super) latest: u64,
    /// Requests without an answer yet.
    pub(super) open: SmallVec<[Open; 1]>,
    /// Operations that wait for their tenant.
    pub(super) pending: ByUnit<Pending>,
    /// Units that came in through a relay, oldest first.
    pub(super) known: Vec<KnownUnit>,
    /// The current unit of work, where this connection works for a shared process that is followed.
    pub(super) borrow: Option<Borrow>,
    /// The latest request of the current unit, while it is not known whether it goes on with what was before it.
    pub(super) step: Option<(u64, Borrow)>,
    /// Stretches of the current unit before this one: first request, number.
    pub(super) earlier: SmallVec<[(u64, UnitNo); 1]>,
    /// Units of work that are over and not yet looked at.
    pub(super) lent: VecDeque<Lent>,
    /// What was made of the latest ones.
    pub(super) through: Vec<(UnitNo, Through)>,
    /// Where each request is a unit of its own: those beside the current one.
    pub(super) beside: Option<Box<Beside>>,
    /// The latest unit of work whose reply was read, as far as that is told.
    pub(super) reply_read: UnitNo,
}

impl Units {
    /// Bytes held beyond the struct itself, about.
    pub(super) fn memory(&self) -> usize {
        spilled(&self.open)
            + spilled(&self.earlier)
            + self.pending.memory()
            + self.known.capacity() * size_of::<KnownUnit>()
            + self.lent.capacity() * size_of::<Lent>()
            + self.through.capacity() * size_of::<(UnitNo, Through)>()
            + self.beside.as_ref().map_or(0, |b| b.memory())
    }

    /// What the latest request carries is said of.
    pub(super) fn reads_for(&mut self) -> Option<&mut Borrow> {
        self.step.as_mut().map(|(_, step)| step).or(self.borrow.as_mut())
    }

    /// What was made of unit `no`, where a process works for many.
    pub(super) fn through_of(&self, no: UnitNo) -> Option<&Through> {
        self.through.iter().rev().find(|(n, _)| *n == no).map(|(_, t)| t)
    }

    /// What is kept of unit `no`.
    pub(super) fn known_unit(&mut self, no: UnitNo) -> Option<&mut KnownUnit> {
        self.known.iter_mut().rev().find(|u| u.no == no)
    }

    /// One more request of the current unit, which may have come in on `origins`; `None`: on any connection.
    pub(super) fn came_in_on(&mut self, origins: Option<Origins>) {
        let (no, unmatched) = (self.current.no, self.current.unmatched);
        let somewhere = origins.as_ref().is_none_or(|o| !o.is_empty());
        self.current.forwarded |= somewhere;
        if let Some(unit) = self.known_unit(no) {
            if let Some(origins) = origins {
                unit.came_in.and(origins);
            }
            return;
        }
        // Units that never came in through a relay are not worth an entry.
        if !somewhere {
            self.current.unmatched = true;
            return;
        }
        let came_in = match origins {
            _ if unmatched => CameIn::Broken,
            Some(origins) => CameIn::OneOf(origins),
            None => CameIn::Anywhere,
        };
        if self.known.len() >= if self.beside.is_some() { MAX_OPEN } else { MAX_PAST } {
            self.known.remove(0);
        }
        self.known.push(KnownUnit { no, came_in, said: None, contradicted: false });
    }

    /// A request of unit `no` was settled.
    pub(super) fn record_origin(&mut self, no: UnitNo, attribution: Attribution) {
        let Some(unit) = self.known_unit(no) else { return };
        match &mut unit.said {
            None => unit.said = Some(attribution),
            Some(said) if said.tenant != attribution.tenant => unit.contradicted = true,
            Some(said) => match (said.client, attribution.client) {
                (Some(a), Some(b)) if a != b => unit.contradicted = true,
                (None, Some(_)) => said.client = attribution.client,
                _ => {}
            },
        }
    }
}

/// Bytes of a vector that did not fit into its place.
pub(super) fn spilled<T, const N: usize>(v: &SmallVec<[T; N]>) -> usize
where
    [T; N]: smallvec::Array<Item = T>,
{
    if v.spilled() { v.capacity() * size_of::<T>() } else { 0 }
}
