//! What a client makes a habit of: does it use a table only where it has bound the connection?
//!
//! A connection that is new was never used by anybody else, so that nothing left behind can be wrong about it. But where
//! its client binds every other use of the same table, an unbound one slipped through: pools that bind when a connection
//! is taken from among the idle ones forget those that were just opened.

use rustc_hash::FxHashMap;

use super::conn::{ConnState, Pending};
use super::on_conn::OnConn;
use crate::ledger::{Certainty, View};
use crate::model::{
    Attribution, Basis, Fingerprint, Nanos, Outcome, Protocol, ServiceId, Sym, TenantId, Verdict, WorkloadId,
};

/// Bound uses of a table, without an unbound one among them, that make a habit.
const ENOUGH: u64 = 16;
/// Most tables remembered over all clients.
const MAX_TABLES: usize = 16_384;

/// Whoever opens connections alike: its workload, the service, and the user and database it chooses there.
type Client = (Option<WorkloadId>, ServiceId, Option<(Fingerprint, Fingerprint)>);

/// Bound uses of one table since the last that was not, or that is not known to have been.
#[derive(Debug, Default)]
struct Habit {
    n_bound: u64,
    /// For two tenants at least: a table of one tenant's may be bound by chance.
    first: Option<TenantId>,
    several: bool,
}

/// Tables by client.
#[derive(Debug, Default)]
pub(super) struct Habits {
    clients: FxHashMap<Client, FxHashMap<Sym, Habit>>,
    n_tables: usize,
}

impl Habits {
    fn bound(&mut self, client: Client, table: Sym, tenant: TenantId) {
        let tables = self.clients.entry(client).or_default();
        if !tables.contains_key(&table) {
            if self.n_tables >= MAX_TABLES {
                return;
            }
            self.n_tables += 1;
        }
        let habit = tables.entry(table).or_default();
        habit.n_bound += 1;
        habit.several |= habit.first.is_some_and(|first| first != tenant);
        habit.first = habit.first.or(Some(tenant));
    }

    /// A use that was not bound, or may not have been.
    fn broken(&mut self, client: Client, table: Sym) {
        if let Some(habit) = self.clients.get_mut(&client).and_then(|tables| tables.get_mut(&table)) {
            *habit = Habit::default();
        }
    }

    /// Something that the client did was missed: it may have been anything.
    fn missed(&mut self, client: Client) {
        self.n_tables -= self.clients.remove(&client).map_or(0, |tables| tables.len());
    }

    /// How often the client has used the table since it last did so unbound, where that is a habit.
    fn holds(&self, client: Client, table: Sym) -> Option<u64> {
        let habit = self.clients.get(&client)?.get(&table)?;
        (habit.n_bound >= ENOUGH && habit.several).then_some(habit.n_bound)
    }

    /// Tables held.
    pub(super) fn len(&self) -> usize {
        self.n_tables
    }

    /// Most tables held.
    pub(super) fn limit() -> usize {
        MAX_TABLES
    }
}

impl ConnState {
    fn client_of_habits(&self) -> Option<Client> {
        // One tenant's own process is no pool for several.
        let shared = self.protocol == Protocol::Postgres && self.endpoint.is_none();
        let user = self.session.map(|s| (s.user, s.database));
        self.service.filter(|_| shared).map(|service| (self.client_workload, service, user))
    }
}

impl OnConn<'_> {
    /// Something of this connection was missed.
    pub(super) fn may_break_habits(&mut self) {
        if let Some(client) = self.state.client_of_habits() {
            self.parts.learned.habits.missed(client);
        }
    }

    /// Learns from a data operation, and tells how often its client has bound the use of the same table when this one,
    /// on a connection that is new, is not bound.
    pub(super) fn habit(
        &mut self,
        pending: &Pending,
        view: &View,
        whom: Option<Attribution>,
        verdict: Verdict,
    ) -> Option<u64> {
        let table = pending.op.target;
        let client = self.state.client_of_habits().filter(|_| table != Sym::EMPTY)?;
        // What a pooler passes on is judged where it came in.
        if self.state.attribution_of(pending.unit).is_some() {
            return None;
        }
        let whole = view.certainty == Certainty::Whole && pending.op.outcome == Outcome::Ok;
        match (view.live.is_empty(), whom) {
            (false, Some(a)) if whole && verdict == Verdict::Revalidated => {
                self.parts.learned.habits.bound(client, table, a.tenant);
                return None;
            }
            // Bound, for whomever.
            (false, _) if whole => return None,
            _ => {}
        }
        if whole && self.state.first_data == Some(pending.unit) {
            return self
                .parts
                .learned
                .habits
                .holds(client, table)
                .filter(|_| verdict == Verdict::SingleTenant && self.went_unbound(pending, whom));
        }
        self.parts.learned.habits.broken(client, table);
        None
    }

    /// Nothing was bound on the connection before those were answered whom the operation was for.
    fn went_unbound(&self, pending: &Pending, whom: Option<Attribution>) -> bool {
        let known = whom.is_some_and(|a| a.basis != Basis::ForwardedContent);
        if !known || self.state.mid_stream || self.state.disturbed {
            return false;
        }
        let place = self.state.leaves.and_then(|r| self.parts.attributor.places.get(&r));
        let (Some(place), Some(through)) = (place, self.state.through_of(pending.unit)) else { return false };
        let ended = |over: Option<Nanos>| over.is_some_and(|at| self.state.first_bind.is_none_or(|bind| at < bind));
        !through.requests.is_empty()
            && through.requests.iter().all(|key| ended(place.request(*key).and_then(|r| r.ended)))
    }
}
