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
    /// The operation's own unit of work bound the connection, and the server acknowledged it.
    Binding,
}

impl Basis {
    /// The name in findings and operations.
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnContainer => "own-container",
            Self::PeerContainer => "peer-container",
            Self::ForwardedContent => "forwarded-content",
            Self::Binding => "binding",
        }
    }

    /// The evidence class it belongs to.
    pub fn class(self) -> EvidenceClass {
        match self {
            Self::OwnContainer | Self::PeerContainer => EvidenceClass::Endpoint,
            Self::ForwardedContent | Self::Binding => EvidenceClass::Wire,
        }
    }
}

/// For whom an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// The tenant.
    pub tenant: TenantId,
    /// How it is known.
    pub basis: Basis,
    /// The relay's client connection it came in on, where one connection was singled out.
    pub client: Option<ConnId>,
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
