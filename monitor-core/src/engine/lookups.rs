//! What is looked up before anybody can be bound: the tables of domains, of keys, of sessions.
//!
//! To learn for whom a request is, an application reads before it binds. Such a read is no use of what the connection
//! was left with, if its unit goes on to bind its tenant, and if the table is one that tenants read before they bind
//! and not as their data. That is learned per service; see `docs/decisions/0017-what-a-binding-decides.md`.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::{Operation, Outcome, ServiceId, Slot, Sym, TenantId};

/// Most tables remembered over all services. Beyond, what is new stays unknown.
const MAX_TABLES: usize = 16_384;
/// Tenants who must have read a table before they bound.
const SEVERAL: usize = 2;
/// A table is tenants' data where at least one of so many reads of it is made bound.
const SHARE: u32 = 4;
/// Reads before a binding that any one loss may have hidden.
const HIDDEN: u32 = 8;

/// Uses of a service after a loss, none of them bound, that show that nobody binds there.
const ENOUGH: u32 = 16;
/// Reads amid a tenant's work, and none at its beginning, that make a table tenants' data.
const AMID: u32 = 4;

/// What a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Read before binding, by units of several tenants, and nothing else since anything was last missed.
    Directory,
    /// Used by units that had bound their tenant.
    Data,
    /// Not known.
    Unknown,
}

#[derive(Clone, Debug, Default)]
struct Table {
    /// Reads followed by a binding of the reader's tenant.
    before: u32,
    /// Uses under a binding that their unit had made.
    bound: u32,
    /// Reads in the midst of statements that say themselves for whom they are.
    amid: u32,
    /// Written where nobody was bound.
    written: bool,
    /// Losses of the service when what follows was last cleared.
    losses: u32,
    /// Tenants who read it before they bound, since.
    tenants: SmallVec<[TenantId; 2]>,
    /// Used bound, since.
    bound_since: bool,
}

/// How a service is used as a whole.
#[derive(Clone, Copy, Debug, Default)]
struct Habits {
    /// Bindings that name tenants were seen.
    binds: bool,
    /// … by schema.
    by_schema: bool,
    /// … by the path that a name without a schema is looked for in.
    by_path: bool,
    /// … by anything else that a connection is bound by.
    otherwise: bool,
    /// Times something was missed on a connection to it.
    losses: u32,
    /// Uses since then.
    seen: u32,
}

/// What is known of tables and of the services they are in.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    tables: FxHashMap<(ServiceId, Sym), Table>,
    services: FxHashMap<ServiceId, Habits>,
}

/// Whether an operation only reads what its text names, so that it may be a look-up.
pub(super) fn reads(op: &Operation) -> bool {
    let reads = op.tables.is_some_and(|t| !t.writes && !t.more);
    reads && op.outcome == Outcome::Ok && op.target != Sym::EMPTY && op.target != Sym::OTHER
}

/// Whether an operation wrote what its text names, all of it.
pub(super) fn writes(op: &Operation) -> bool {
    let writes = op.tables.is_some_and(|t| t.writes && !t.more);
    writes && op.outcome == Outcome::Ok && op.target != Sym::EMPTY && op.target != Sym::OTHER
}

/// The tables that an operation names.
fn targets(op: &Operation) -> impl Iterator<Item = Sym> {
    let also = op.tables.map_or([Sym::EMPTY; 3], |t| t.also);
    std::iter::once(op.target).chain(also).filter(|t| *t != Sym::EMPTY)
}

impl Lookups {
    fn table(&mut self, service: ServiceId, name: Sym) -> Option<&mut Table> {
        if self.tables.len() >= MAX_TABLES && !self.tables.contains_key(&(service, name)) {
            return None;
        }
        let losses = self.habits(service).losses;
        let table = self.tables.entry((service, name)).or_default();
        if table.losses != losses {
            *table = Table { losses, tenants: SmallVec::new(), bound_since: false, ..*table };
        }
        Some(table)
    }

    fn habits(&self, service: ServiceId) -> Habits {
        self.services.get(&service).copied().unwrap_or_default()
    }

    /// An operation was followed by the binding of its tenant.
    pub(super) fn read_before(&mut self, service: ServiceId, op: &Operation, tenant: TenantId) {
        for name in targets(op) {
            let Some(table) = self.table(service, name) else { continue };
            table.before = table.before.saturating_add(1);
            if table.tenants.len() < SEVERAL && !table.tenants.contains(&tenant) {
                table.tenants.push(tenant);
            }
        }
    }

    /// An operation worked under a binding that its unit had made.
    pub(super) fn used_bound(&mut self, service: ServiceId, op: &Operation) {
        for name in targets(op) {
            let Some(table) = self.table(service, name) else { continue };
            table.bound = table.bound.saturating_add(1);
            table.bound_since = true;
        }
    }

    /// An operation read in the midst of statements that say themselves for whom they are, and did not.
    pub(super) fn read_amid(&mut self, service: ServiceId, op: &Operation) {
        for name in targets(op) {
            if let Some(table) = self.table(service, name) {
                table.amid = table.amid.saturating_add(1);
            }
        }
    }

    /// An operation wrote where nobody was bound.
    pub(super) fn wrote_unbound(&mut self, service: ServiceId, op: &Operation) {
        for name in targets(op) {
            if let Some(table) = self.table(service, name) {
                table.written = true;
            }
        }
    }

    /// A binding named a tenant.
    pub(super) fn bound_by(&mut self, service: ServiceId, slot: Slot) {
        let habits = self.services.entry(service).or_default();
        habits.binds = true;
        habits.by_path |= slot == Slot::SearchPath;
        if matches!(slot, Slot::SearchPath | Slot::Schema) {
            habits.by_schema = true;
        } else if slot != Slot::Marker {
            habits.otherwise = true;
        }
    }

    /// Something was missed on a connection to the service: what was learned of its tables may be the half of it.
    pub(super) fn missed(&mut self, service: ServiceId) {
        let habits = self.services.entry(service).or_default();
        habits.losses = habits.losses.saturating_add(1);
        habits.seen = 0;
    }

    /// The service was used for somebody.
    pub(super) fn used(&mut self, service: ServiceId) {
        let habits = self.services.entry(service).or_default();
        habits.seen = habits.seen.saturating_add(1);
    }

    /// Whether a read is certainly no look-up: of data, or on a service where nobody is ever bound.
    pub(super) fn is_no_look_up(&self, service: ServiceId, op: &Operation) -> bool {
        let habits = self.habits(service);
        // The bindings may be what was missed.
        let never_binds = !habits.binds && (habits.losses == 0 || habits.seen >= ENOUGH);
        never_binds || self.kind(service, op) == Kind::Data
    }

    /// Whether a service is divided by schemas, and by nothing else. `schemas`: tenants were seen to go with schemas of
    /// their own.
    pub(super) fn by_schema_only(&self, service: ServiceId, schemas: bool) -> bool {
        let habits = self.habits(service);
        (habits.by_schema || schemas) && !habits.otherwise
    }

    /// Whether connections are bound for tenants there.
    pub(super) fn binds_connections(&self, service: ServiceId) -> bool {
        let habits = self.habits(service);
        habits.by_schema || habits.otherwise
    }

    /// Whether tenants are bound by the path that a name without a schema is looked for in.
    pub(super) fn by_path(&self, service: ServiceId) -> bool {
        self.habits(service).by_path
    }

    /// Whether what an operation writes is looked up by others before they bind: it notes that it did (the time of a
    /// session's last use), or keeps what is looked up.
    pub(super) fn is_looked_up(&self, service: ServiceId, op: &Operation) -> bool {
        targets(op).all(|name| self.tables.get(&(service, name)).is_some_and(|t| t.before > 0))
    }

    /// What an operation reads: the worst of its tables counts.
    pub(super) fn kind(&self, service: ServiceId, op: &Operation) -> Kind {
        let losses = self.habits(service).losses;
        let kind = |name| {
            let Some(t) = self.tables.get(&(service, name)) else { return Kind::Unknown };
            let hidden = losses.saturating_mul(HIDDEN);
            // A look-up may be the first operation of a unit of work.
            if t.before == 0 && t.amid >= AMID.saturating_add(hidden) {
                return Kind::Data;
            }
            if t.bound > 0 && t.bound.saturating_mul(SHARE) >= t.before.saturating_add(hidden) {
                return Kind::Data;
            }
            let sure = t.losses == losses && t.tenants.len() >= SEVERAL && !t.bound_since && !t.written;
            if sure { Kind::Directory } else { Kind::Unknown }
        };
        targets(op).fold(Kind::Directory, |worst, name| match (worst, kind(name)) {
            (Kind::Data, _) | (_, Kind::Data) => Kind::Data,
            (Kind::Unknown, _) | (_, Kind::Unknown) => Kind::Unknown,
            _ => Kind::Directory,
        })
    }

    /// Tables held, and most of them.
    pub(super) fn level(&self) -> (usize, usize) {
        (self.tables.len(), MAX_TABLES)
    }
}
