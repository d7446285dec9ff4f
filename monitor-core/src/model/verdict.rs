//! What the ledger says of one data operation.

use super::{Attribution, Claim, Nanos, OpaqueId, Scope, Slot, Strength, Sym, TenantId};

/// Number of a unit of work on its connection, counted from 1; 0 is the connection's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitNo(pub u32);

/// An acknowledged binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What carries it.
    pub slot: Slot,
    /// Whom it names.
    pub claim: Claim,
    /// How long it lasts.
    pub scope: Scope,
    /// How strong it is.
    pub strength: Strength,
    /// When the operation that made it was acknowledged.
    pub at: Nanos,
    /// The unit of work that made it.
    pub unit: UnitNo,
}

/// What a data operation's connection had proved about its use-tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// An acknowledged binding to the use-tenant is in force.
    Revalidated,
    /// Only one tenant has ever used this connection, and nothing says otherwise.
    SingleTenant,
    /// A reset since the other tenant's use, but no binding: it may fall back to the start-up tenant.
    ResetOnly,
    /// Nothing since the other tenant's use.
    Unbound,
    /// A binding in force names another tenant.
    StaleBound,
    /// Not known. Never alerts, always counted.
    Indeterminate,
    /// Nobody's data: no verdict is due.
    None,
}

impl Verdict {
    /// All, in the order of metrics.
    pub const ALL: [Self; 7] = [
        Self::Revalidated,
        Self::SingleTenant,
        Self::ResetOnly,
        Self::Unbound,
        Self::StaleBound,
        Self::Indeterminate,
        Self::None,
    ];

    /// The name in operations and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Revalidated => "revalidated",
            Self::SingleTenant => "single-tenant",
            Self::ResetOnly => "reset-only",
            Self::Unbound => "unbound",
            Self::StaleBound => "stale-bound",
            Self::Indeterminate => "indeterminate",
            Self::None => "none",
        }
    }
}

/// The latest use of a connection by another tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherUse {
    /// That tenant, and how it is known.
    pub by: Attribution,
    /// Order among the connection's uses and resets ([`View::order`]).
    pub order: u32,
    /// When.
    pub at: Nanos,
    /// What it did.
    pub verb: Sym,
    /// To what.
    pub target: Sym,
}

/// The verdict, and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The verdict.
    pub verdict: Verdict,
    /// The other tenant it speaks of: whom the connection is bound to, or who used it before.
    pub other: Option<TenantId>,
    /// The binding it rests on.
    pub binding: Option<Bound>,
    /// An opaque value that this unit bound for its tenant.
    pub learned: Option<OpaqueId>,
}
