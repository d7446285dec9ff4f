//! Plain counters of the engine. The agent turns them into metrics; nothing here formats or locks.

use rustc_hash::FxHashMap;

use crate::decode::DecodeError;
use crate::model::tls::Unread;
use crate::model::{Basis, EvidenceClass, LossStage, OpKind, Protocol, ServiceId, Severity, TenantId, Verdict};

/// What hits are counted by: rule, severity, class, service, use-tenant, and whom the connection was bound to.
pub type HitLabels = (&'static str, Severity, EvidenceClass, Option<ServiceId>, Option<TenantId>, Option<TenantId>);

/// Counters and levels, all since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Operations by service, protocol, kind and verdict.
    pub operations: FxHashMap<(ServiceId, Protocol, OpKind, Verdict), u64>,
    /// Data operations whose tenant differs from the connection's previous one, by service, protocol and verdict.
    pub switches: FxHashMap<(ServiceId, Protocol, Verdict), u64>,
    /// Hits by rule, severity, class, service and both tenants, suppressed ones left out.
    pub findings: FxHashMap<HitLabels, u64>,
    /// Malformed input by protocol and kind.
    pub decode_errors: FxHashMap<(Protocol, DecodeError), u64>,
    /// Disturbances of connection state by kind.
    pub disturbances: FxHashMap<&'static str, u64>,
    /// Lost events by stage and reason.
    pub lost: FxHashMap<(LossStage, &'static str), u64>,
    /// Times a rule had not enough to tell, by rule and reason.
    pub insufficient: FxHashMap<(&'static str, &'static str), u64>,
    /// What bases said, where a process works for many: basis, and "spoke" or why it abstained.
    pub bases: FxHashMap<(Basis, &'static str), u64>,
    /// Live connections that a decoder reads.
    pub flows_decoded: u64,
    /// Live connections that nobody can read.
    pub flows_opaque: u64,
    /// Live connections not yet told apart.
    pub flows_undecided: u64,
    /// Live connections older than the agent (also counted as decoded or opaque).
    pub flows_mid_stream: u64,
    /// Bytes a decoder has read.
    pub bytes_decoded: u64,
    /// Bytes nobody can read.
    pub bytes_opaque: u64,
    /// Bytes cut at capture.
    pub bytes_truncated: u64,
    /// Bytes lost.
    pub bytes_lost: u64,
    /// Connections dropped because a bound was reached.
    pub flows_evicted: u64,
    /// Segments and reads of sockets that are not followed: never announced, or dropped to make room.
    pub orphans: u64,
    /// Secrets of TLS handshakes that were told.
    pub tls_secrets: u64,
    /// Connections whose TLS is read, or was.
    pub tls_read: u64,
    /// Those whose TLS is not, by why.
    pub tls_unread: FxHashMap<Unread, u64>,
    /// Bytes of those: a part of what nobody can read.
    pub bytes_tls_unread: FxHashMap<Unread, u64>,
    /// Bytes of those segments.
    pub bytes_unfollowed: u64,
    /// Bytes of streams that were followed: of each a decoder has read them, nobody can, they were cut, or lost.
    pub bytes_seen: u64,
}

/// A bounded table: entries and limit, for the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLevel {
    /// Its name.
    pub table: &'static str,
    /// Entries now.
    pub entries: usize,
    /// Most entries.
    pub limit: usize,
}
