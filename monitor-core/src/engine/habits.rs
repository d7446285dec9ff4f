//! What a client makes a habit of: does it use a table only where it has bound the connection?
//!
//! A connection that is new was never used by anybody else, so that nothing left behind can be wrong about it. But where
//! its client binds every other use of the same table, an unbound one slipped through: pools that bind when a connection
//! is taken from among the idle ones forget those that were just opened.

use rustc_hash::FxHashMap;

use super::facts::ConnFacts;
use crate::model::{Fingerprint, ServiceId, Sym, TenantId, WorkloadId};

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
    pub(super) fn bound(&mut self, client: Client, table: Sym, tenant: TenantId) {
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
    pub(super) fn broken(&mut self, client: Client, table: Sym) {
        if let Some(habit) = self.clients.get_mut(&client).and_then(|tables| tables.get_mut(&table)) {
            *habit = Habit::default();
        }
    }

    /// Something that the client did was missed: it may have been anything.
    pub(super) fn missed(&mut self, client: Client) {
        self.n_tables -= self.clients.remove(&client).map_or(0, |tables| tables.len());
    }

    /// How often the client has used the table since it last did so unbound, where that is a habit.
    pub(super) fn holds(&self, client: Client, table: Sym) -> Option<u64> {
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

impl ConnFacts {
    pub(super) fn client_of_habits(&self) -> Option<Client> {
        // One tenant's own process is no pool for several.
        let shared = self.protocol.is_sql() && self.endpoint.is_none();
        let user = self.session.map(|s| (s.user, s.database));
        self.service.filter(|_| shared).map(|service| (self.client_workload, service, user))
    }
}
