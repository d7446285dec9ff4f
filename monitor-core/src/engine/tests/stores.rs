//! An application with one connection to a store of keys that all tenants share: locks, counters and sessions are used by
//! everybody in turn, and a database for each tenant is chosen before each use.

use super::keys::{command, reply};
use super::*;
use crate::model::Severity;

/// Commands of one request and their replies; `{d}` is the tenant's database, `{i}` the request's own number.
type Request = &'static [(&'static str, &'static str)];

fn play_in_app(request: Request, last: Option<Request>) -> Vec<Step> {
    let mut script = Script::default();
    let pool = script.connect(POOLER, DATABASE, 40_000, 6379);
    let clients = [script.connect(ACME, POOLER, 41_000, 8080), script.connect(GLOBEX, POOLER, 41_001, 8080)];
    for i in 0..80 {
        let tenant = if i < 60 { i % 2 } else { [0, 1, 1, 0][i % 4] };
        let get = format!("GET /orders/{i} HTTP/1.1\r\nhost: service\r\n\r\n");
        script.send(clients[tenant], 0, get.into_bytes());
        let said = last.filter(|_| i == 77).unwrap_or(request);
        for (asked, answered) in said {
            let asked = asked.replace("{d}", ["3", "7"][tenant]).replace("{i}", &format!("{:032x}", i * 7919));
            script.send(pool, 0, command(&asked));
            script.send(pool, 1, reply(answered));
        }
        script.send(clients[tenant], 1, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec());
        script.steps.push(Step::Wait { millis: 5 });
    }
    script.steps.push(Step::Wait { millis: 500 });
    script.steps
}

fn bad(seen: &Seen) -> Vec<(&'static str, Option<String>)> {
    let bad = seen.findings.iter().filter(|f| f.severity >= Severity::Medium);
    bad.map(|f| (f.rule, f.tenants.used.clone())).collect()
}

const EVERYBODYS: Request = &[
    ("SET locks:nightly 5f0c1d NX PX 5000", "+OK"),
    ("EVALSHA 5a1e0c 1 locks:nightly 5f0c1d", ":1"),
    ("INCR rate:all", ":7"),
    ("SET session:{i} {i}-data EX 60", "+OK"),
    ("GET session:{i}", "nil"),
];
const DATABASES: Request = &[("SELECT {d}", "+OK"), ("HSET orders a 1", ":1"), ("HGET orders a", "1")];

#[test]
fn locks_counters_and_sessions_are_nobodys_use_of_the_connection() {
    let steps = play_in_app(EVERYBODYS, None);
    let seen = all(&steps);
    assert_eq!(bad(&seen), [], "{:#?}", seen.operations);
    assert!(seen.operations.iter().any(|o| o.contains("globex")), "{:#?}", seen.operations);
    for lost in (0..steps.len()).step_by(7) {
        assert_eq!(bad(&play(&steps, |i| i != lost, false)), [], "without event {lost}");
    }
}

#[test]
fn a_database_for_each_tenant_is_chosen_before_each_use() {
    let seen = all(&play_in_app(DATABASES, None));
    assert_eq!(bad(&seen), [], "{:#?}", seen.operations);
    // Who forgets to choose works in the other's.
    let seen = all(&play_in_app(DATABASES, Some(&[("HGET orders a", "1")])));
    let found = bad(&seen);
    assert!(found.iter().any(|(rule, _)| rule.starts_with("pool-")), "{found:?} {:#?}", seen.operations);
}
