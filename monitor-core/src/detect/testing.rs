//! A small world for the rules' own tests.

use smallvec::smallvec;

use super::{Handed, Hit, Ineffective, LiveBinding, McpUse, Rule, RuleEvent, RuleOutcome, ServerSet, Site, Use, World};
use crate::model::mcp::{Answered, Content, Exchange, Method, Revision, Transport};
use crate::model::queue::Message;
use crate::model::{
    Answer, Attribution, Basis, Bound, Claim, ConnId, Directory, Fingerprint, Interner, Missed, Nanos, OtherUse,
    Outcome as Ending, Protocol, Ruling, Scope, Service, ServiceId, Settings, Slot, Strength, Sym, TenantId,
    TenantTable, TenantUse, UnitNo, Verdict, Workload, WorkloadId,
};

pub(crate) const A: TenantId = TenantId(0);
pub(crate) const B: TenantId = TenantId(1);
pub(crate) const SELECT: Sym = Sym(2);
pub(crate) const ORDERS: Sym = Sym(3);
pub(crate) const LABELLED: WorkloadId = WorkloadId(0);
pub(crate) const SERVER: WorkloadId = WorkloadId(1);
pub(crate) const UNLABELLED: WorkloadId = WorkloadId(2);
pub(crate) const REMOTE: WorkloadId = WorkloadId(3);

pub(crate) const SITE: Site = Site { service: Some(ServiceId(0)), workload: Some(SERVER), flow: None };

#[derive(Debug)]
struct OnlyTheServer;

impl ServerSet for OnlyTheServer {
    fn serves(&self, workload: WorkloadId) -> bool {
        workload == SERVER
    }
}

fn bound(scope: Scope) -> Bound {
    Bound {
        slot: Slot::Setting(Sym(4)),
        claim: Claim::Tenant(A),
        scope,
        strength: Strength::V2,
        at: Nanos(5),
        unit: UnitNo(1),
    }
}

/// A data operation for B after one for A, with this verdict.
pub(crate) fn a_use(verdict: Verdict) -> Use {
    Use {
        site: SITE,
        at: Nanos(20),
        verb: SELECT,
        target: ORDERS,
        ids: Default::default(),
        answer: Answer::Tenant(Attribution { client: Some(ConnId(2)), ..Attribution::new(B, Basis::ForwardedContent) }),
        ruling: Ruling {
            verdict,
            other: Some(A),
            binding: (verdict == Verdict::StaleBound).then(|| bound(Scope::Session)),
            learned: None,
        },
        other: Some(OtherUse {
            by: Attribution::new(A, Basis::ForwardedContent),
            order: 1,
            at: Nanos(10),
            verb: SELECT,
            target: ORDERS,
        }),
        live: smallvec![],
        marker: Claim::Neutral,
        ending: Ending::Ok,
        cause: None,
        job: None,
        unit: UnitNo(2),
        otherwise_bound: None,
    }
}

/// An operation for B through client connection 2, met by a binding that `client` of `author` made.
pub(crate) fn relayed_use(scope: Scope, client: ConnId, author: TenantId) -> Use {
    let mut u = a_use(Verdict::StaleBound);
    u.live = smallvec![LiveBinding { bound: bound(scope), author: Some(author), client: Some(client) }];
    u
}

pub(crate) fn ineffective(warned: bool) -> Ineffective {
    Ineffective {
        site: SITE,
        at: Nanos(5),
        slot: Slot::Setting(Sym(4)),
        warned,
        answer: Answer::Tenant(Attribution::new(A, Basis::OwnContainer)),
        uncovered: None,
    }
}

/// A service that A and B have used for eight seconds with the same credentials and no binding.
pub(crate) fn shared_service() -> Service {
    let mut verdicts = [0; Verdict::ALL.len()];
    verdicts[1] = 5;
    let used = TenantUse {
        first_seen: Nanos::secs(1),
        last_seen: Nanos::secs(9),
        verdicts,
        credentials: [(Fingerprint(1), Fingerprint(2))].into_iter().collect(),
        ..TenantUse::default()
    };
    let mut service = Service {
        name: ORDERS,
        protocol: Protocol::Postgres,
        address: "127.0.0.1:5432".parse().unwrap(),
        workload: Some(SERVER),
        minimum: Strength::V2,
        spec: None,
        relay: false,
        tenants: [(A, used.clone()), (B, used)].into_iter().collect(),
        clients: Default::default(),
        n_unattributed: 0,
        unlabelled: Default::default(),
        shared_since: Some(Nanos::secs(2)),
        n_findings: 0,
        n_bindings: 0,
        regulars: Default::default(),
    };
    service.count_regulars();
    service
}

pub(crate) fn run_on(rule: &mut dyn Rule, event: &RuleEvent<'_>, services: &[Service]) -> Vec<Hit> {
    with_world(services, |world| {
        let mut hits = Vec::new();
        let outcome = rule.on_event(event, world, &mut hits);
        assert_eq!(outcome == RuleOutcome::Found, !hits.is_empty());
        for hit in &hits {
            assert!(!rule.message(hit, world).is_empty());
        }
        hits
    })
}

pub(crate) fn run_event(rule: &mut dyn Rule, event: &RuleEvent<'_>) -> Vec<Hit> {
    run_on(rule, event, &[shared_service()])
}

pub(crate) fn run(rule: &mut dyn Rule, u: &Use) -> Vec<Hit> {
    run_event(rule, &RuleEvent::Use(u))
}

/// One MCP exchange: a successful `tools/call` of the tool `orders`, with nothing special about it.
pub(crate) fn an_exchange() -> Exchange {
    Exchange {
        request: 1,
        id: None,
        begun: Nanos(10),
        ended: Nanos(20),
        transport: Transport::StreamableHttp,
        revision: Revision::V2025_06_18,
        method: Method::ToolsCall,
        verb: SELECT,
        name: ORDERS,
        answered: Answered::Result,
        sender: None,
        token: None,
        credential: None,
        session: None,
        opened: None,
        opened_recurs: false,
        arguments: None,
        named: smallvec![],
        idempotency: None,
        continues: false,
        mismatch: None,
        handles_used: smallvec![],
        handles_given: smallvec![],
        tools: None,
        server: None,
        content: Content::default(),
    }
}

/// A message on the queue `orders` that says nothing of a tenant.
pub(crate) fn a_message() -> Message {
    Message {
        request: 1,
        at: Nanos(10),
        queue: ORDERS,
        address: Fingerprint(5),
        ids: smallvec![],
        print: Some(Fingerprint(6)),
        bytes: 10,
        marker: Claim::Neutral,
        labelled: false,
        readable: true,
        chore: false,
        body: false,
        lane: None,
        proved: None,
        signed: false,
        idempotency: None,
        traces: smallvec![],
        values: smallvec![],
    }
}

/// A message of `origin`'s, delivered to a consumer of `consumer`'s.
pub(crate) fn handed_to(consumer: TenantId, origin: Option<TenantId>) -> Handed {
    Handed {
        site: SITE,
        at: Nanos(10),
        queue: ORDERS,
        address: Fingerprint(5),
        id: Some(Fingerprint(7)),
        consumer: by_label(consumer).attribution(),
        origin: origin.and_then(|t| by_label(t).attribution()),
        again: false,
        awaits_ack: true,
        keyed: false,
        waited: None,
    }
}

/// For `tenant`, by its own container.
pub(crate) fn by_label(tenant: TenantId) -> Answer {
    Answer::Tenant(Attribution::new(tenant, Basis::OwnContainer))
}

/// Shows an exchange to a rule.
pub(crate) fn run_mcp(rule: &mut dyn Rule, exchange: &Exchange, answer: Answer) -> (Vec<Hit>, RuleOutcome) {
    run_mcp_with(rule, exchange, answer, Settings::default())
}

/// The same, with the operator's decisions.
pub(crate) fn run_mcp_with(
    rule: &mut dyn Rule,
    exchange: &Exchange,
    answer: Answer,
    settings: Settings,
) -> (Vec<Hit>, RuleOutcome) {
    let mut hits = Vec::new();
    let event = McpUse { site: SITE, exchange, answer };
    let outcome =
        with_settings(&[shared_service()], settings, |world| rule.on_event(&RuleEvent::Mcp(&event), world, &mut hits));
    (hits, outcome)
}

pub(crate) fn outcome(rule: &mut dyn Rule, u: &Use) -> RuleOutcome {
    outcome_of(rule, &RuleEvent::Use(u))
}

pub(crate) fn outcome_of(rule: &mut dyn Rule, event: &RuleEvent<'_>) -> RuleOutcome {
    with_world(&[shared_service()], |world| rule.on_event(event, world, &mut Vec::new()))
}

/// The same, where something was missed.
pub(crate) fn outcome_missing(rule: &mut dyn Rule, event: &RuleEvent<'_>, missed: &Missed) -> RuleOutcome {
    with_world(&[shared_service()], |world| rule.on_event(event, &World { missed, ..*world }, &mut Vec::new()))
}

fn with_world<T>(services: &[Service], f: impl FnOnce(&World<'_>) -> T) -> T {
    with_settings(services, Settings::default(), f)
}

pub(crate) fn with_settings<T>(services: &[Service], settings: Settings, f: impl FnOnce(&World<'_>) -> T) -> T {
    let mut names = Interner::new(64);
    for name in [
        "SELECT",
        "orders",
        "app.tenant_id",
        "send_email",
        "read_orders",
        "tools/call",
        "tools/list",
        "notifications/tools/list_changed",
        "initialize",
        "INSERT",
    ] {
        names.intern(name);
    }
    let mut tenants = TenantTable::default();
    tenants.intern("acme");
    tenants.intern("globex");
    let mut directory = Directory::default();
    for (name, tenant, cgroup) in
        [("acme", Some(A), "/a"), ("gateway", None, "/g"), ("job", None, "/j"), ("10.0.0.9", None, "")]
    {
        let (name, cgroup) = (names.intern(name), names.intern(cgroup));
        directory.workload(Workload {
            name,
            cgroup,
            tenant,
            conflicting: false,
            bare: cgroup == Sym::EMPTY,
            role: None,
            owner: None,
        });
    }
    f(&World {
        services,
        directory: &directory,
        tenants: &tenants,
        names: &names,
        servers: &OnlyTheServer,
        settings: &settings,
        missed: &Missed::default(),
    })
}
