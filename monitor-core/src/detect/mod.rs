//! Rules: judged operations in, findings out. One file per rule in [`rules`]; [`RULES`] is the visible list.
//!
//! A rule is a pure function over events with bounded state. It answers one of three things: silence ([`RuleOutcome::Clear`]),
//! a [`Hit`], or "not enough to tell" ([`RuleOutcome::Insufficient`]), because silence and safety are different answers.
//! Hits are integers; words are made from them only when a finding is new ([`store`]).

mod caller;
mod contents;
mod hit;
pub(crate) mod recent;
mod references;
mod remedy;
pub mod rules;
mod store;
pub(crate) mod tables;
mod tools;

pub use hit::{Detail, Hit, Site, Step};
pub use references::{Reference, references};
pub use store::{FindingEvent, FindingSink, Store};
pub use tables::{RuleTables, Table};

use smallvec::SmallVec;

use crate::model::cookies::Crossing;
use crate::model::keys::KeyUse;
use crate::model::queue::{JobWork, Message, Settlement};
use crate::model::{
    Answer, Attribution, Bases, Bound, Claim, ConnId, Directory, EvidenceClass, Fingerprint, Ids, Interner, Missed,
    Nanos, OtherUse, Outcome as Ending, Ruling, Service, ServiceId, Settings, Severity, Slot, Sym, TenantId,
    TenantTable, UnitNo, Unseen, Verdict, WorkloadId, http, mcp,
};

/// What is fixed about a rule.
#[derive(Debug)]
pub struct RuleInfo {
    /// Permanent id.
    pub id: &'static str,
    /// Usual severity; single findings may be milder.
    pub severity: Severity,
    /// What must be seen for the rule to speak.
    pub needs: &'static str,
    /// What it means when it does.
    pub why: &'static str,
    /// What to do about it.
    pub remediation: &'static str,
    /// Where the rule comes from.
    pub source: &'static str,
}

/// A binding in force at a data operation, and who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveBinding {
    /// The binding.
    pub bound: Bound,
    /// The tenant of the unit of work that made it.
    pub author: Option<TenantId>,
    /// The relay's client connection that made it.
    pub client: Option<ConnId>,
}

/// One judged data operation.
#[derive(Clone, Debug)]
pub struct Use {
    /// Where.
    pub site: Site,
    /// When its reply ended.
    pub at: Nanos,
    /// What.
    pub verb: Sym,
    /// About what.
    pub target: Sym,
    /// What the target's ids are recognised by.
    pub ids: Ids,
    /// For whom.
    pub answer: Answer,
    /// The verdict.
    pub ruling: Ruling,
    /// Whom it names itself.
    pub marker: Claim,
    /// How it ended.
    pub ending: Ending,
    /// The latest earlier use of the connection by another tenant.
    pub other: Option<OtherUse>,
    /// Bindings in force.
    pub live: SmallVec<[LiveBinding; 2]>,
    /// The call of a tool that it is part of the work of, where that is known.
    pub cause: Option<Cause>,
    /// The job of a queue that it is part of the work on, where that is known.
    pub job: Option<JobWork>,
    /// Its unit of work on its connection.
    pub unit: UnitNo,
    /// It is unbound, in the first unit of a new connection, where so many uses of the same table by the same client
    /// were all bound.
    pub otherwise_bound: Option<u64>,
}

/// What an operation did with keys of a store.
#[derive(Clone, Copy, Debug)]
pub struct KeyWork<'a> {
    /// Where.
    pub site: Site,
    /// When its reply ended.
    pub at: Nanos,
    /// What.
    pub verb: Sym,
    /// About what: the first key, as far as it may be shown.
    pub target: Sym,
    /// For whom.
    pub answer: Answer,
    /// It is known how it ended; else nothing is known of what it did but that it may have.
    pub whole: bool,
    /// What it did.
    pub uses: &'a [KeyUse],
}

/// A request that carries another tenant's session.
#[derive(Clone, Copy, Debug)]
pub struct SessionUse {
    /// Where.
    pub site: Site,
    /// When its reply ended.
    pub at: Nanos,
    /// What.
    pub verb: Sym,
    /// About what.
    pub target: Sym,
    /// For whom it is, and whose the session is.
    pub crossing: Crossing,
}

/// Something that a process, which is asked itself, has asked another for and was answered.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    /// Who has asked.
    pub by: WorkloadId,
    /// What.
    pub exchange: &'a http::Exchange,
}

/// A request that was answered by a process that asks others, too.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// Where: the service, the workload that asked, the connection.
    pub site: Site,
    /// Who has answered.
    pub server: WorkloadId,
    /// What.
    pub exchange: &'a http::Exchange,
    /// For whom.
    pub answer: Answer,
}

/// The call of a tool behind an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The MCP server that was called.
    pub service: ServiceId,
    /// The call's method.
    pub verb: Sym,
    /// The tool.
    pub name: Sym,
    /// Number of the call on its connection ([`mcp::Exchange::request`]).
    pub exchange: u64,
    /// How it is known that the operation is part of this call.
    pub class: EvidenceClass,
}

/// A transaction-scoped binding that was gone before it could cover anything.
#[derive(Clone, Copy, Debug)]
pub struct Ineffective {
    /// Where.
    pub site: Site,
    /// When it was acknowledged.
    pub at: Nanos,
    /// What it set.
    pub slot: Slot,
    /// The server warned (SQLSTATE 25P01).
    pub warned: bool,
    /// For whom it was.
    pub answer: Answer,
    /// The data operation that went uncovered, when there was one: when, verb, target.
    pub uncovered: Option<(Nanos, Sym, Sym)>,
}

impl Use {
    /// Whether it shows for whom it is; `Err`: why that is not known.
    pub fn scoped(&self) -> Result<bool, &'static str> {
        match self.ruling.verdict {
            // Whom a binding names is another question.
            Verdict::Revalidated | Verdict::StaleBound => Ok(true),
            _ if self.marker != Claim::Neutral || !self.live.is_empty() => Ok(true),
            // The connection may be the tenant's own.
            Verdict::SingleTenant => Err("connection of one tenant only"),
            Verdict::ResetOnly | Verdict::Unbound => Ok(false),
            Verdict::Indeterminate | Verdict::None => Err("verdict is indeterminate"),
        }
    }

    /// What it is part of, where that is known: the call of a tool, the delivery of a job.
    pub fn origin(&self) -> Option<Step> {
        let step = |at, what, verb, name, tenant, basis| Step {
            at,
            what,
            detail: Detail::Operation(verb, name),
            tenant,
            basis,
        };
        let tenant = self.answer.attribution().map(|a| a.tenant);
        match (&self.cause, &self.job) {
            (Some(c), _) => Some(step(self.at, "tool", c.verb, c.name, tenant, None)),
            (None, Some(w)) => Some(step(w.job.at, "deliver", w.job.verb, w.job.queue, Some(w.tenant), Some(w.basis))),
            (None, None) => None,
        }
    }

    /// The bases behind an inferred crossing, when at least two of them agree on either side; what a binding or the
    /// wire says needs no second.
    pub fn corroborated(&self) -> Option<Bases> {
        let this = self.answer.attribution().filter(Attribution::corroborated)?;
        let by_binding = self.ruling.verdict == Verdict::StaleBound;
        let other = self.other.is_some_and(|o| o.by.class > EvidenceClass::Inferred || o.by.corroborated());
        (by_binding || other).then_some(this.bases)
    }
}

/// One MCP request and its answer, and for whom it was.
#[derive(Clone, Copy, Debug)]
pub struct McpUse<'a> {
    /// Where: the MCP server, the workload that called it, the connection.
    pub site: Site,
    /// What.
    pub exchange: &'a mcp::Exchange,
    /// For whom.
    pub answer: Answer,
}

/// A message was published, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Posted<'a> {
    /// Where: the broker, the workload that published it, the connection.
    pub site: Site,
    /// What.
    pub message: &'a Message,
    /// Whose.
    pub answer: Answer,
}

/// A message was handed to a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    /// Where: the broker, the workload that consumes, the connection.
    pub site: Site,
    /// When.
    pub at: Nanos,
    /// Where it was published to, as far as that may be shown.
    pub queue: Sym,
    /// The same, exactly.
    pub address: Fingerprint,
    /// What identifies it at its broker, where anything does.
    pub id: Option<Fingerprint>,
    /// For whom the consumer works, where it works for one tenant alone.
    pub consumer: Option<Attribution>,
    /// Whose the message is, where that is known.
    pub origin: Option<Attribution>,
    /// It was handed out before.
    pub again: bool,
    /// The broker waits for it to be confirmed.
    pub awaits_ack: bool,
    /// It carries a key by which its second coming can be noticed.
    pub keyed: bool,
    /// How long it lay in the queue, where its publication was seen.
    pub waited: Option<Nanos>,
}

/// A delivery has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Where: the broker, the workload that consumes.
    pub site: Site,
    /// When it was handed out.
    pub begun: Nanos,
    /// When it ended.
    pub at: Nanos,
    /// How.
    pub how: Settlement,
    /// Whose the message is, where that is known.
    pub origin: Option<Attribution>,
}

/// Somebody was asked whether the work on a job is allowed.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The job.
    pub work: JobWork,
    /// When the answer came.
    pub at: Nanos,
    /// Tenants that the question names.
    pub named: SmallVec<[TenantId; 2]>,
}

/// A workload of which two tenants are named at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The workload.
    pub workload: WorkloadId,
    /// When that was learned.
    pub at: Nanos,
    /// Whom whoever decides names: a pod's namespace.
    pub first: TenantId,
    /// Whom the other names: the pod itself.
    pub other: TenantId,
    /// It is a pod, which contradicts its namespace.
    pub pod: bool,
}

/// Replies that are out of step with their requests.
#[derive(Clone, Copy, Debug)]
pub struct Desync {
    /// The connection with the replies.
    pub site: Site,
    /// When it showed.
    pub at: Nanos,
    /// How.
    pub how: How,
    /// Who got the reply.
    pub used: Option<TenantId>,
    /// Whose it was.
    pub owner: Option<TenantId>,
}

/// How replies show that they are out of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A process answered with the reply before its own.
    Shifted {
        /// So many times in a row.
        times: u32,
        /// To the same kind of command.
        alike: bool,
    },
    /// A reply came that no request waited for.
    Unasked,
}

/// What rules see.
#[derive(Debug)]
pub enum RuleEvent<'a> {
    /// A judged data operation.
    Use(&'a Use),
    /// Keys were read or written.
    Keys(&'a KeyWork<'a>),
    /// A request carried another's session.
    Session(&'a SessionUse),
    /// A process that is asked over HTTP has fetched something over HTTP.
    Fetched(&'a Fetched<'a>),
    /// A process that fetches over HTTP has answered.
    Served(&'a Served<'a>),
    /// A binding without effect.
    Ineffective(&'a Ineffective),
    /// What says whose a workload is contradicts itself.
    Contradicted(Contradiction),
    /// Replies out of step.
    Desync(Desync),
    /// One MCP request and its answer.
    Mcp(&'a McpUse<'a>),
    /// A message was published.
    Posted(&'a Posted<'a>),
    /// A message was handed out.
    Handed(&'a Handed),
    /// The work on it is confirmed, or given up.
    Ended(&'a Ended),
    /// A policy was asked about a job.
    Checked(&'a Checked),
    /// Time has passed: about once a second.
    Tick(Nanos),
    /// The input has ended: what waits for more can decide with what there is.
    End(Nanos),
}

/// What rules may look at.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The service map.
    pub services: &'a [Service],
    /// Who is where.
    pub directory: &'a Directory,
    /// Tenants by name.
    pub tenants: &'a TenantTable,
    /// All other names.
    pub names: &'a Interner,
    /// Workloads that accept connections from others.
    pub servers: &'a dyn ServerSet,
    /// What the operator decided.
    pub settings: &'a Settings,
    /// What was missed.
    pub missed: &'a Missed,
}

/// Which workloads have been seen to serve.
pub trait ServerSet: std::fmt::Debug {
    /// Whether `workload` accepts connections from other workloads.
    fn serves(&self, workload: WorkloadId) -> bool;
}

impl<'a> World<'a> {
    /// The service behind `id`.
    pub fn service(&self, id: ServiceId) -> Option<&'a Service> {
        self.services.get(id.0 as usize)
    }

    /// A tenant's name.
    pub fn tenant(&self, id: Option<TenantId>) -> &'a str {
        id.map_or("an unknown tenant", |t| self.tenants.name(t))
    }
}

/// What a rule made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// Nothing wrong, as far as this rule can tell.
    Clear,
    /// Hits were pushed.
    Found,
    /// It would have something to say, but what it needs is not known.
    Insufficient(&'static str),
}

/// A detector with a permanent id.
pub trait Rule: std::fmt::Debug {
    /// What is fixed about it.
    fn info(&self) -> &'static RuleInfo;

    /// Looks at one event.
    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome;

    /// What `hit`, found just now, takes for not having happened because it was not seen. What was missed may show
    /// later than what it makes look wrong: such a hit waits a little, and is told only if nothing was missed there.
    fn rests_on(&self, hit: &Hit, world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        let _ = (hit, world);
        SmallVec::new()
    }

    /// Whether `hit`, which waited, has turned out to be none by what was seen since.
    fn withdraws(&self, hit: &Hit) -> bool {
        let _ = hit;
        false
    }

    /// What it remembers by, for whoever counts and bounds the memory of that.
    fn tables(&mut self) -> RuleTables<'_> {
        RuleTables::new()
    }

    /// What was told once for all may be told again: the operator has decided otherwise, or an exception has ended.
    fn tell_again(&mut self) {}

    /// The sentence of a new finding: what the host saw and what it means. Names only.
    fn message(&self, hit: &Hit, world: &World<'_>) -> String;
}

/// Every rule, in the order of the documentation.
pub static RULES: &[&RuleInfo] = &[
    &rules::pool_reuse_unrevalidated::INFO,
    &rules::pool_stale_binding::INFO,
    &rules::pool_first_use_unbound::INFO,
    &rules::local_set_ineffective::INFO,
    &rules::session_set_under_pooler::INFO,
    &rules::shared_service_unpartitioned::INFO,
    &rules::tenant_label_missing::INFO,
    &rules::identity_conflicting::INFO,
    &rules::response_desync::INFO,
    &rules::conn_auth_reuse::INFO,
    &rules::http_session_cross_tenant::INFO,
    &rules::cache_key_unscoped::INFO,
    &rules::http_cache_shared::INFO,
    &rules::mcp_header_mismatch::INFO,
    &rules::mcp_token_weak::INFO,
    &rules::tool_description_poisoned::INFO,
    &rules::tool_output_injection::INFO,
    &rules::result_cross_tenant::INFO,
    &rules::tool_manifest_unsigned::INFO,
    &rules::tool_manifest_drift::INFO,
    &rules::mcp_session_cross_tenant::INFO,
    &rules::handle_cross_tenant::INFO,
    &rules::mcp_call_token_missing::INFO,
    &rules::mcp_token_fanout::INFO,
    &rules::mcp_token_passthrough::INFO,
    &rules::mcp_flat_registry::INFO,
    &rules::mcp_list_cache_shared::INFO,
    &rules::mcp_call_not_listed::INFO,
    &rules::mcp_arg_tenant_mismatch::INFO,
    &rules::retry_no_idempotency::INFO,
    &rules::retry_budget_exceeded::INFO,
    &rules::downstream_scope_missing::INFO,
    &rules::queue_tenant_unrevalidated::INFO,
    &rules::queue_tenant_missing::INFO,
];

/// A fresh set of all rules.
pub fn all() -> Vec<Box<dyn Rule>> {
    vec![
        Box::new(rules::pool_reuse_unrevalidated::PoolReuseUnrevalidated),
        Box::new(rules::pool_stale_binding::PoolStaleBinding),
        Box::new(rules::pool_first_use_unbound::PoolFirstUseUnbound),
        Box::new(rules::local_set_ineffective::LocalSetIneffective),
        Box::new(rules::session_set_under_pooler::SessionSetUnderPooler),
        Box::new(rules::shared_service_unpartitioned::SharedServiceUnpartitioned::default()),
        Box::new(rules::tenant_label_missing::TenantLabelMissing::default()),
        Box::new(rules::identity_conflicting::IdentityConflicting::default()),
        Box::new(rules::response_desync::ResponseDesync::default()),
        Box::new(rules::conn_auth_reuse::ConnAuthReuse),
        Box::new(rules::http_session_cross_tenant::HttpSessionCrossTenant),
        Box::new(rules::cache_key_unscoped::CacheKeyUnscoped::default()),
        Box::new(rules::http_cache_shared::HttpCacheShared::default()),
        Box::new(rules::mcp_header_mismatch::McpHeaderMismatch),
        Box::new(rules::mcp_token_weak::McpTokenWeak),
        Box::new(rules::tool_description_poisoned::ToolDescriptionPoisoned),
        Box::new(rules::tool_output_injection::ToolOutputInjection),
        Box::new(rules::result_cross_tenant::ResultCrossTenant),
        Box::new(rules::tool_manifest_unsigned::ToolManifestUnsigned),
        Box::new(rules::tool_manifest_drift::ToolManifestDrift::default()),
        Box::new(rules::mcp_session_cross_tenant::McpSessionCrossTenant::default()),
        Box::new(rules::handle_cross_tenant::HandleCrossTenant::default()),
        Box::new(rules::mcp_call_token_missing::McpCallTokenMissing::default()),
        Box::new(rules::mcp_token_fanout::McpTokenFanout::default()),
        Box::new(rules::mcp_token_passthrough::McpTokenPassthrough::default()),
        Box::new(rules::mcp_flat_registry::McpFlatRegistry::default()),
        Box::new(rules::mcp_list_cache_shared::McpListCacheShared::default()),
        Box::new(rules::mcp_call_not_listed::McpCallNotListed::default()),
        Box::new(rules::mcp_arg_tenant_mismatch::McpArgTenantMismatch),
        Box::new(rules::retry_no_idempotency::RetryNoIdempotency::default()),
        Box::new(rules::retry_budget_exceeded::RetryBudgetExceeded::default()),
        Box::new(rules::downstream_scope_missing::DownstreamScopeMissing::default()),
        Box::new(rules::queue_tenant_unrevalidated::QueueTenantUnrevalidated::default()),
        Box::new(rules::queue_tenant_missing::QueueTenantMissing::default()),
    ]
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod testing_mcp;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_listed_once_and_in_order() {
        let built: Vec<_> = all().iter().map(|r| r.info().id).collect();
        let listed: Vec<_> = RULES.iter().map(|r| r.id).collect();
        assert_eq!(built, listed);
    }
}
