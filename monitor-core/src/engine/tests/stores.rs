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
            let asked = asked
                .replace("{d}", ["3", "7"][tenant])
                .replace("{u}", ["u-1842", "u-2077"][tenant])
                .replace("{i}", &format!("{:032x}", i * 7919));
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
const USERS: Request = &[("AUTH {u} secret-{u}", "+OK"), ("HSET orders a 1", ":1"), ("HGET orders a", "1")];
const ONE_USER: Request = &[("AUTH app-7 secret", "+OK"), ("HSET orders a 1", ":1"), ("HGET orders a", "1")];
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

/// Each tenant's own is clean however much is lost; who forgets to choose works in the other's.
fn chosen_before_each_use(request: Request) {
    let steps = play_in_app(request, None);
    let seen = all(&steps);
    assert_eq!(bad(&seen), [], "{:#?}", seen.operations);
    for lost in (0..steps.len()).step_by(7) {
        assert_eq!(bad(&play(&steps, |i| i != lost, false)), [], "without event {lost}");
    }
    let seen = all(&play_in_app(request, Some(&[("HGET orders a", "1")])));
    let found = bad(&seen);
    assert!(found.iter().any(|(rule, _)| rule.starts_with("pool-")), "{found:?} {:#?}", seen.operations);
}

#[test]
fn a_database_for_each_tenant_is_chosen_before_each_use() {
    chosen_before_each_use(DATABASES);
}

#[test]
fn a_user_for_each_tenant_is_its_alias_also_when_it_is_a_number() {
    chosen_before_each_use(USERS);
    // One for all says nothing.
    let seen = all(&play_in_app(ONE_USER, None));
    assert_eq!(bad(&seen), []);
    assert!(
        !seen.operations.iter().any(|o| o.contains("orders ") && o.ends_with("revalidated")),
        "{:#?}",
        seen.operations
    );
}
