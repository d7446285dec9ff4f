//! The vocabulary every room shares. Imports no room.

pub mod attribution;
pub mod claim;
pub mod cookies;
pub mod event;
pub mod finding;
pub mod http;
pub mod identity;
pub mod ids;
pub mod intern;
pub mod keys;
pub mod local;
pub mod mcp;
pub mod missed;
pub mod operation;
pub mod queue;
pub mod service;
pub mod settings;
pub mod shown;
pub mod sides;
pub mod steps;
pub mod time;
pub mod tls;
pub mod token;
pub mod verdict;
pub mod words;

pub use attribution::{Answer, Attribution, Bases, Basis};
pub use claim::{BindPolicy, Claim, OpaqueId, Salt, TenantTable};
pub use event::{CloseReason, Direction, Event, LossStage, Role, Segment};
pub use finding::{
    Evidence, EvidenceClass, Finding, FlowRef, OwnerRef, ServiceRef, Severity, Suppressed, TenantPair, WorkloadRef,
};
pub use identity::{Directory, Owner, ServiceRole, Workload};
pub use ids::{
    CgroupId, ConnId, FlowId, ProcessId, RequestKey, RequestNo, ServiceId, SocketCookie, TenantId, ThreadId, WorkloadId,
};
pub use intern::{Interner, Sym};
pub use missed::{Missed, Unseen, Where};
pub use operation::{
    Effect, Fingerprint, Ids, MarkerPlace, OpKind, Operation, Outcome, Protocol, ResetScope, Scope, Side, Slot,
    Strength, Tables, TxStatus,
};
pub use service::{Regulars, Service, TenantUse};
pub use settings::{BasisPolicy, HeaderPolicy, Settings};
pub use sides::Sides;
pub use time::Nanos;
pub use tls::{HandshakeSecret, Secret, SecretLabel};
pub use verdict::{Bound, OtherUse, Ruling, UnitNo, Verdict};
