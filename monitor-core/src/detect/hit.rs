//! What a rule found, as integers; and how the steps of its evidence read.

use std::net::SocketAddr;

use smallvec::{SmallVec, smallvec};

use super::{McpUse, Use, World};
use crate::model::shown::with_ids;
use crate::model::{
    Bases, Basis, Bound, Claim, EvidenceClass, Ids, Nanos, OtherUse, Scope, ServiceId, Severity, Slot, SocketCookie,
    Sym, TenantId, WorkloadId,
};

/// Where something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The service, unless the rule speaks of a workload alone.
    pub service: Option<ServiceId>,
    /// The workload that used it.
    pub workload: Option<WorkloadId>,
    /// The connection, if it is about one: cookie, own address, peer address of the watched socket.
    pub flow: Option<(SocketCookie, SocketAddr, SocketAddr)>,
}

/// What a step of the evidence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// An acknowledged binding.
    Bind(Bound),
    /// A transaction-scoped binding outside a transaction; whether the server warned.
    LocalBind(Slot, bool),
    /// An operation: verb and target.
    Operation(Sym, Sym),
    /// An operation of which the ids are known: verb, target, what the target's ids are recognised by.
    Request(Sym, Sym, Ids),
    /// So many data operations.
    Count(u64),
    /// Bases that agree.
    Agree(Bases),
    /// Plain words.
    Words(&'static str),
    /// So many of what the words say.
    Amount(u64, &'static str),
}

/// One step of the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Nanos,
    /// Kind of step.
    pub what: &'static str,
    /// About what.
    pub detail: Detail,
    /// The tenant it speaks of.
    pub tenant: Option<TenantId>,
    /// How that is known.
    pub basis: Option<Basis>,
}

impl Step {
    /// The data operation that a finding is about.
    pub fn of_use(u: &Use) -> Self {
        let a = u.answer.attribution();
        Self {
            at: u.at,
            what: "data",
            detail: Detail::Request(u.verb, u.target, u.ids),
            tenant: a.map(|a| a.tenant),
            basis: a.map(|a| a.basis),
        }
    }

    /// The other tenant's earlier use.
    pub fn of_other(o: &OtherUse) -> Self {
        Self {
            at: o.at,
            what: "data",
            detail: Detail::Operation(o.verb, o.target),
            tenant: Some(o.by.tenant),
            basis: Some(o.by.basis),
        }
    }

    /// A binding and whom it names.
    pub fn of_binding(bound: &Bound, tenant: Option<TenantId>) -> Self {
        Self { at: bound.at, what: "bind", detail: Detail::Bind(*bound), tenant, basis: Some(Basis::Binding) }
    }

    /// The step in words: identifiers and shapes only.
    pub fn words(&self, world: &World<'_>) -> String {
        match self.detail {
            Detail::Bind(bound) => {
                let scope = match bound.scope {
                    Scope::Transaction => "transaction scope",
                    Scope::Session => "session scope",
                    Scope::Startup => "set at connect",
                };
                let learned = match bound.claim {
                    Claim::Opaque(_) => "; the value is no known tenant's name, taken for the tenant it went with",
                    Claim::Chosen(_) => {
                        "; the value is no known tenant's name: each tenant has gone with its own, and \
                                         this one with the tenant named here"
                    }
                    _ => "",
                };
                match bound.slot {
                    // What a statement says itself lasts as long as it does.
                    Slot::Schema | Slot::Marker => format!("{}{learned}", slot_words(bound.slot, world)),
                    slot => format!("{} acknowledged, {scope}{learned}", slot_words(slot, world)),
                }
            }
            Detail::LocalBind(slot, warned) => {
                let how = if warned {
                    "the server warned that it has no effect outside a transaction (25P01)"
                } else {
                    "its transaction ended at once"
                };
                format!("{} for the transaction only; {how}", slot_words(slot, world))
            }
            Detail::Operation(verb, target) => operation(verb, target, Ids::default(), world),
            Detail::Request(verb, target, ids) => operation(verb, target, ids, world),
            Detail::Agree(bases) => {
                let all: Vec<&str> = bases.iter().map(Basis::name).collect();
                format!("{} agree, in several units of work, and none disagrees", all.join(" and "))
            }
            Detail::Count(n) => format!("{n} data operations"),
            Detail::Words(words) => words.to_owned(),
            Detail::Amount(n, what) => format!("{n} {what}"),
        }
    }
}

/// A slot in words.
fn slot_words(slot: Slot, world: &World<'_>) -> String {
    match slot {
        Slot::Setting(name) => format!("setting {}", world.names.name(name)),
        Slot::Role => "role".to_owned(),
        Slot::SessionUser => "authenticated user".to_owned(),
        Slot::User => "user of the connection".to_owned(),
        Slot::Database => "database of the connection".to_owned(),
        Slot::SearchPath => "schema in use (search_path, database)".to_owned(),
        Slot::ConnectionAuth => "authentication of the connection".to_owned(),
        Slot::Credential => "credential of the request".to_owned(),
        Slot::Marker => "declared marker".to_owned(),
        Slot::Schema => "schema in the statement".to_owned(),
    }
}

fn operation(verb: Sym, target: Sym, ids: Ids, world: &World<'_>) -> String {
    let (verb, target) = (world.names.name(verb), with_ids(world.names.name(target), ids));
    if target.is_empty() { verb.to_owned() } else { format!("{verb} {target}") }
}

/// Something a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The rule's id.
    pub rule: &'static str,
    /// How bad, before configuration and class have their say.
    pub severity: Severity,
    /// How the tenants are known: the weakest of what it rests on.
    pub class: EvidenceClass,
    /// The inferred bases that agree, where at least two do: in several units of work they may count for more.
    pub corroborated: Option<Bases>,
    /// When.
    pub at: Nanos,
    /// Where.
    pub site: Site,
    /// What it is about beside tenants and place (a tool): different subjects are different findings.
    pub subject: Sym,
    /// For whom the operation was.
    pub used: Option<TenantId>,
    /// Whom the connection was bound to, or who used it before.
    pub bound: Option<TenantId>,
    /// What was seen, oldest first.
    pub steps: SmallVec<[Step; 3]>,
}

impl Hit {
    /// About one MCP exchange, by what stood on the wire. `words` say what.
    pub fn of_exchange(rule: &'static str, severity: Severity, u: &McpUse<'_>, words: &'static str) -> Self {
        let x = u.exchange;
        let a = u.answer.attribution();
        let told =
            |what, detail| Step { at: x.ended, what, detail, tenant: a.map(|a| a.tenant), basis: a.map(|a| a.basis) };
        Self {
            rule,
            severity,
            class: EvidenceClass::Wire,
            corroborated: None,
            at: x.ended,
            site: u.site,
            subject: x.name,
            used: a.map(|a| a.tenant),
            bound: None,
            steps: smallvec![
                told(x.method.kind().name(), Detail::Operation(x.verb, x.name)),
                Step { tenant: None, basis: None, ..told("seen", Detail::Words(words)) }
            ],
        }
    }
}
