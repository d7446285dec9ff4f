//! What the bounds count, what goes when they are reached, and whom a loss concerns.

use super::*;
use crate::model::settings::Limits;

fn bounded(flows: usize) -> Engine {
    let mut engine = Engine::new(Settings {
        operations: true,
        limits: Limits { flows, ..Limits::default() },
        ..Settings::default()
    });
    for (id, name, tenant) in [(ACME, "acme", Some("acme")), (GLOBEX, "globex", Some("globex")), (DATABASE, "db", None)]
    {
        let tenants = tenant.into_iter().map(str::to_owned).collect();
        let fact = WorkloadFact { name: name.to_owned(), cgroup: format!("/{name}"), tenants, role: None, owner: None };
        engine.learn_cgroup(Nanos(0), CgroupId(id), &fact);
    }
    engine
}

const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$6\r\norders\r\n";

/// Each connection is seen at both of its sockets, and counts once.
#[test]
fn flows_counts_connections_not_sockets() {
    for (n, evicted) in [(16u16, 0), (17, 1), (40, 24)] {
        let mut engine = bounded(16);
        let mut script = Script::default();
        for i in 0..n {
            script.connect(ACME, DATABASE, 41_000 + i, 6379);
        }
        let mut seen = Seen::default();
        feed(&mut engine, &script.steps, &mut seen);
        let flows = engine.tables().into_iter().find(|t| t.table == "flows").unwrap();
        assert_eq!((flows.entries, flows.limit), (usize::from(n.min(16)), 16), "{n} connections");
        assert_eq!(engine.stats().flows_evicted, evicted);
    }
}

fn feed(engine: &mut Engine, steps: &[Step], seen: &mut Seen) {
    for (i, step) in steps.iter().enumerate() {
        let at = Nanos::secs(1) + Nanos::millis(i as u64);
        engine.handle(&step.event(at), seen);
    }
}

/// What is not followed any more is told, with its bytes: nobody may take silence for safety.
#[test]
fn what_was_evicted_and_what_came_of_it_is_told() {
    let mut engine = bounded(2);
    let mut script = Script::default();
    let conns: Vec<usize> = (0..5).map(|i| script.connect(ACME, DATABASE, 41_000 + i, 6379)).collect();
    for conn in &conns {
        script.send(*conn, 0, GET.to_vec());
    }
    feed(&mut engine, &script.steps, &mut Seen::default());
    let s = engine.stats();
    // Of each segment both sockets tell.
    assert_eq!((s.flows_evicted, s.orphans, s.bytes_unfollowed), (3, 6, 6 * GET.len() as u64));
    assert_eq!(s.bytes_seen, 2 * GET.len() as u64);
}

/// A pooler whose clients send equal queries: what was lost of another listener's does not keep the units of this one
/// from being told apart, and what was lost of its own does.
#[test]
fn a_loss_concerns_only_the_listener_it_was_lost_for() {
    let whole = found(&all(&story(UNBOUND)));
    assert!(!whole.is_empty());
    let lost_of = |of: Option<u64>| {
        let mut steps = story(UNBOUND);
        let mut n = 0;
        while n < steps.len() {
            steps.insert(n, of.map_or(Step::Lost, |cgroup| Step::LostOf { cgroup }));
            n += 5;
        }
        found(&all(&steps))
    };
    assert_eq!(lost_of(Some(15)), whole, "a broker that has no part in it");
    let nobody_can_say = lost_of(None);
    assert_ne!(nobody_can_say, whole);
    assert_eq!(lost_of(Some(POOLER)), nobody_can_say, "the pooler that the requests come in through");
    assert_eq!(lost_of(Some(4_711)), nobody_can_say, "of a cgroup that nobody knows");
}

/// An HTTP connection that is older than the agent: the request after the first one that was answered is known like
/// those of a new connection, where the connection is one tenant's own.
#[test]
fn an_older_http_connection_begins_again_at_the_next_certain_request() {
    let ask = |n: usize| format!("GET /orders/{n} HTTP/1.1\r\nhost: shop\r\n\r\n").into_bytes();
    let story = |mid_stream: bool, gap: Option<usize>, client: u64| {
        let mut script = Script { mid_stream, ..Script::default() };
        let conn = script.connect(client, DATABASE, 41_000, 8080);
        for n in 0..6 {
            if gap == Some(n) {
                let wire = &mut script.conns[conn];
                wire.seq = wire.seq.map(|s| s.wrapping_add(500));
            }
            script.send(conn, 0, ask(n));
            script.send(conn, 1, scenes::answer("200 OK", "{}"));
        }
        script.close(conn);
        all(&script.steps).operations
    };
    let verdicts = |ops: &[String]| -> Vec<String> {
        ops.iter().filter_map(|op| op.rsplit(' ').next()).map(str::to_owned).collect()
    };
    let known = verdicts(&story(false, None, ACME));
    assert!(known.iter().all(|v| v == "single-tenant"), "{known:?}");
    let after_restart = verdicts(&story(true, None, ACME));
    assert!(after_restart[1..].iter().all(|v| v == "single-tenant"), "{after_restart:?}");
    assert_eq!(after_restart[0], "indeterminate");
    let after_gap = verdicts(&story(false, Some(3), ACME));
    assert!(after_gap[4..].iter().all(|v| v == "single-tenant"), "{after_gap:?}");
    // Whose a shared process's connection was before is not known: it stays undecided.
    let shared = verdicts(&story(true, None, POOLER));
    assert!(shared.iter().all(|v| v != "single-tenant"), "{shared:?}");
}
