//! For whom an operation is, and how that is known.

use super::{ConnId, EvidenceClass, TenantId};

/// How an attribution is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Basis {
    /// The watched socket's own container is labelled.
    OwnContainer,
    /// The peer's container or address is labelled.
    PeerContainer,
    /// The same request bytes entered the relay from a labelled container.
    ForwardedContent,
    /// The operation carries the trace or request id of exactly one request that its process was working on.
    TraceId,
    /// The only request in flight in the whole process when the work began, in a process known to be quiet when idle.
    Bracketed,
    /// A signed claim in the message, verified against a configured key.
    SignedClaim,
    /// The operation's own unit of work bound the connection, and the server acknowledged it.
    Binding,
    /// A rare value of exactly one request in flight reappears in the operation.
    ValueFlow,
    /// The thread that did the work is the one that answered exactly one request in flight.
    SameThread,
    /// The job that was confirmed next, in a process that does one job after the other.
    SettleOrder,
    /// The request whose turn it was, in the order in which the process takes up its work.
    Succession,
    /// Every request in flight was one tenant's.
    OnlyTenant,
    /// The operation names the tenant itself: key prefix, header, predicate, comment.
    Marker,
}

impl Basis {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::OwnContainer,
        Self::PeerContainer,
        Self::ForwardedContent,
        Self::TraceId,
        Self::Bracketed,
        Self::SignedClaim,
        Self::Binding,
        Self::ValueFlow,
        Self::SameThread,
        Self::SettleOrder,
        Self::Succession,
        Self::OnlyTenant,
        Self::Marker,
    ];

    /// The name in findings and operations.
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnContainer => "own-container",
            Self::PeerContainer => "peer-container",
            Self::ForwardedContent => "forwarded-content",
            Self::TraceId => "trace-id",
            Self::Bracketed => "bracketed",
            Self::SignedClaim => "signed-claim",
            Self::Binding => "binding",
            Self::ValueFlow => "value-flow",
            Self::SameThread => "same-thread",
            Self::SettleOrder => "settle-order",
            Self::Succession => "succession",
            Self::OnlyTenant => "only-tenant",
            Self::Marker => "marker",
        }
    }

    /// The evidence class it belongs to.
    pub fn class(self) -> EvidenceClass {
        match self {
            Self::OwnContainer | Self::PeerContainer | Self::Bracketed => EvidenceClass::Endpoint,
            Self::ForwardedContent | Self::TraceId | Self::SignedClaim | Self::Binding => EvidenceClass::Wire,
            Self::ValueFlow
            | Self::SameThread
            | Self::SettleOrder
            | Self::Succession
            | Self::OnlyTenant
            | Self::Marker => EvidenceClass::Inferred,
        }
    }
}

/// A set of bases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bases(u16);

impl Bases {
    /// With `basis` as well.
    #[must_use]
    pub fn with(self, basis: Basis) -> Self {
        Self(self.0 | 1 << basis as u16)
    }

    /// Whether `basis` is among them.
    pub fn has(self, basis: Basis) -> bool {
        self.0 & 1 << basis as u16 != 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Basis> {
        Basis::ALL.into_iter().filter(move |b| self.has(*b))
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }
}

/// For whom an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// The tenant.
    pub tenant: TenantId,
    /// How it is known: the best basis.
    pub basis: Basis,
    /// How well: the basis's class, or less where the request it leads to is itself known less well.
    pub class: EvidenceClass,
    /// All bases that say so.
    pub bases: Bases,
    /// The relay's client connection it came in on, where one connection was singled out.
    pub client: Option<ConnId>,
}

impl Attribution {
    /// To `tenant`, by `basis` alone.
    pub fn new(tenant: TenantId, basis: Basis) -> Self {
        Self { tenant, basis, class: basis.class(), bases: Bases::default().with(basis), client: None }
    }

    /// Known by at least two bases that do not rest on each other.
    pub fn corroborated(&self) -> bool {
        self.bases.count() >= 2
    }
}

/// What a basis, or all of them together, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This tenant.
    Tenant(Attribution),
    /// Several are possible and nothing tells them apart.
    Several,
    /// No basis applies.
    Unknown,
}

impl Answer {
    /// The attribution, if there is one.
    pub fn attribution(self) -> Option<Attribution> {
        match self {
            Self::Tenant(a) => Some(a),
            Self::Several | Self::Unknown => None,
        }
    }
}
