//! What is shown of names: nothing at first, words once they are shared, and findings are the same ones throughout.

use super::*;

/// The story, so many times over, seconds apart.
fn over_and_over(times: usize) -> Vec<Step> {
    let mut script = Script::default();
    let server = script.connect(POOLER, DATABASE, 40_000, 5432);
    let acme = script.connect(ACME, POOLER, 40_001, 6432);
    let globex = script.connect(GLOBEX, POOLER, 40_002, 6432);
    for (conn, user) in [(server, "app"), (acme, "app"), (globex, "app")] {
        script.start(conn, user);
    }
    for _ in 0..times {
        for client in [acme, globex] {
            script.query(client, server, "SELECT item FROM orders", "SELECT 1", b'I');
            script.query(client, server, "SELECT item FROM \"alice@example.com\"", "SELECT 1", b'I');
        }
        script.steps.push(Step::Wait { millis: 2_000 });
    }
    script.steps
}

#[test]
fn names_are_hidden_until_they_are_shared_and_findings_keep_their_ids() {
    let run = |show: Show| play_on(engine_showing(show), &over_and_over(40), |_| true, false);
    let (hidden, open) = (run(Show::default()), run(Show { names: vec!["*".to_owned()], ..Show::default() }));
    let ids = |seen: &Seen| seen.findings.iter().map(|f| f.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&hidden), ids(&open), "what is shown makes no other finding");
    assert!(!ids(&hidden).is_empty());
    let text = |f: &Finding| format!("{} {:?}", f.message, f.evidence);
    let first = hidden.findings.iter().find(|f| f.rule == "pool-reuse-unrevalidated").unwrap();
    assert!(text(first).contains("SELECT {id:") && !text(first).contains("orders"), "{}", text(first));
    let last = hidden.latest.iter().rev().find(|f| f.id == first.id).unwrap();
    assert!(text(last).contains("SELECT orders"), "{}", text(last));
    for f in hidden.findings.iter().chain(&hidden.latest) {
        assert!(!text(f).contains("alice"), "{}", text(f));
    }
    assert!(hidden.operations.iter().all(|o| !o.contains("alice")));
    assert!(hidden.operations.last().unwrap().contains("{id:"), "whoever shares it, it is no word");
    assert!(hidden.operations.iter().any(|o| o.contains("SELECT orders")));
    assert!(open.operations.iter().any(|o| o.contains("alice@example.com")));
}

#[test]
fn what_a_server_refuses_teaches_nothing() {
    let mut script = Script::default();
    let server = script.connect(POOLER, DATABASE, 40_000, 5432);
    let acme = script.connect(ACME, POOLER, 40_001, 6432);
    let globex = script.connect(GLOBEX, POOLER, 40_002, 6432);
    for (conn, user) in [(server, "app"), (acme, "app"), (globex, "app")] {
        script.start(conn, user);
    }
    for _ in 0..20 {
        for client in [acme, globex] {
            script.query(client, server, "SELECT item FROM guesses", "ERROR", b'I');
        }
    }
    let seen = play_on(engine_showing(Show::default()), &script.steps, |_| true, false);
    assert!(seen.operations.iter().any(|o| o.contains("SELECT {id:")), "{:?}", seen.operations);
    assert!(!seen.operations.iter().any(|o| o.contains("guesses")), "{:?}", seen.operations);
}
