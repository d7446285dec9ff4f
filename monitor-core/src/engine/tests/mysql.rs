//! The whole core on a scripted HTTP service that two tenants share, with one pooled connection of MySQL behind it; and on
//! a pooler of MySQL.

use super::shared_service::{SERVICE, TENANTS, get, ok, worst};
use super::*;
use crate::model::{EvidenceClass, Severity};

const REUSE: &str = "pool-reuse-unrevalidated";
const STALE: &str = "pool-stale-binding";
const IN_TRANSACTION: u8 = 3;
const AUTOCOMMIT: u8 = 2;

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_le_bytes();
    [&len[..3], &[number], body].concat()
}

/// A command, and the state of the session that its answer tells.
type Work = Vec<(Vec<u8>, u8)>;

fn query(text: impl AsRef<str>) -> Vec<u8> {
    [b"\x03", text.as_ref().as_bytes()].concat()
}

fn select(table: &str, order: u32) -> (Vec<u8>, u8) {
    (query(format!("SELECT item FROM {table} WHERE id = {order}")), AUTOCOMMIT)
}

/// Opens a connection as `user`, with a database in use.
fn start(script: &mut Script, conn: usize, user: &str, database: &str) {
    let mut greeting = b"\x0a8.4.0\0\x07\0\0\0saltsalt\0".to_vec();
    greeting.extend(b"\x08\x82\x2d\x02\0\0\0\x15\0\0\0\0\0\0\0\0\0\0saltsaltsalt\0");
    let mut login = b"\x08\x82\0\0\0\0\0\x01\x2d".to_vec();
    login.extend([0; 23]);
    login.extend(format!("{user}\0\0{database}\0").as_bytes());
    script.send(conn, 1, packet(0, &greeting));
    script.send(conn, 0, packet(1, &login));
    script.send(conn, 1, packet(2, &[0, 0, 0, AUTOCOMMIT, 0, 0, 0]));
}

/// What answers a command: one row for a query of a table, else OK.
fn reply(command: &[u8], status: u8) -> Vec<u8> {
    if !command.starts_with(b"\x03SELECT") {
        return packet(1, &[0, 0, 0, status, 0, 0, 0]);
    }
    let column = b"\x03def\0\x01t\x01t\x01c\x01c\x0c\x21\0\x0b\0\0\0\xfd\0\0\0\0\0";
    let eof = [0xfe, 0, 0, status, 0];
    let row = [&[5][..], b"item1"].concat();
    [packet(1, b"\x01"), packet(2, column), packet(3, &eof), packet(4, &row), packet(5, &eof)].concat()
}

fn work(script: &mut Script, conn: usize, work: &Work) {
    for (command, status) in work {
        script.send(conn, 0, packet(0, command));
        script.send(conn, 1, reply(command, *status));
    }
}

/// Sixty requests one at a time, of the two tenants in turn.
fn service(database: &str, each: impl Fn(usize, u32, usize) -> Work) -> Vec<Step> {
    let mut script = Script::default();
    let pool = script.connect(SERVICE, DATABASE, 40_000, 3306);
    let clients = [ACME, GLOBEX].map(|who| script.connect(who, SERVICE, 41_000 + who as u16, 8080));
    start(&mut script, pool, "app", database);
    for i in 0..60 {
        let (tenant, order) = (i % 2, 1001 + i as u32);
        script.send(clients[tenant], 0, get(order));
        work(&mut script, pool, &each(tenant, order, i));
        script.send(clients[tenant], 1, ok(order));
        script.steps.push(Step::Wait { millis: 5 });
    }
    script.steps.push(Step::Wait { millis: 500 });
    script.steps
}

fn set(tenant: usize) -> (Vec<u8>, u8) {
    (query(format!("SET @tenant_id = '{}'", TENANTS[tenant])), AUTOCOMMIT)
}

fn uses(tenant: usize) -> (Vec<u8>, u8) {
    ([b"\x02", TENANTS[tenant].as_bytes()].concat(), AUTOCOMMIT)
}

fn becomes(tenant: usize) -> (Vec<u8>, u8) {
    (format!("\x11tenant_{}\0\0shop\0", TENANTS[tenant]).into_bytes(), AUTOCOMMIT)
}

fn role(tenant: usize) -> (Vec<u8>, u8) {
    (query(format!("SET ROLE tenant_{}", TENANTS[tenant])), AUTOCOMMIT)
}

const RESET: &[u8] = b"\x1f";

type Bind = fn(usize) -> (Vec<u8>, u8);
const WAYS: [(&str, Bind); 4] = [("variable", set), ("database", uses), ("user", becomes), ("role", role)];

fn told(steps: &[Step]) -> (Seen, BTreeSet<&'static str>) {
    let seen = all(steps);
    let pool = seen.findings.iter().filter(|f| f.rule.starts_with("pool-") && f.severity >= Severity::Medium);
    let rules = pool.map(|f| f.rule).collect();
    (seen, rules)
}

#[test]
fn what_the_one_before_has_left_is_told_and_each_ones_own_is_silent() {
    for (way, bind) in WAYS {
        let (seen, rules) = told(&service("shop", |_, order, i| {
            if i == 0 { vec![bind(0), select("orders", order)] } else { vec![select("orders", order)] }
        }));
        assert_eq!(rules, BTreeSet::from([STALE]), "{way}: {:#?}", seen.operations);
        let found = worst(&seen, STALE);
        assert_eq!(found, Some((EvidenceClass::Endpoint, Severity::Critical)), "{way}");
        let clean = service("shop", |tenant, order, _| vec![bind(tenant), select("orders", order)]);
        let (seen, rules) = told(&clean);
        assert_eq!(rules, BTreeSet::new(), "{way}: {:#?}", seen.operations);
        assert!(seen.operations.iter().any(|o| o == "data SELECT orders globex revalidated"), "{way}");
        // In a transaction, too, and with autocommit off, where a rollback undoes no binding.
        let transaction = service("shop", |tenant, order, _| {
            let bind = bind(tenant).0;
            let (select, _) = select("orders", order);
            vec![(bind, 0), (query("ROLLBACK"), 0), (select, 1), (query("COMMIT"), 0)]
        });
        assert_eq!(told(&transaction).1, BTreeSet::new(), "{way}");
    }
}

#[test]
fn a_reset_is_no_binding_and_takes_none_of_user_role_and_database() {
    let with_reset = |bind: Bind| {
        told(&service("shop", |_, order, i| {
            let mut work = if i == 0 { vec![bind(0)] } else { vec![] };
            work.push(select("orders", order));
            work.push((RESET.to_vec(), AUTOCOMMIT));
            work
        }))
    };
    let (seen, rules) = with_reset(set);
    assert_eq!(rules, BTreeSet::from([REUSE]), "{:#?}", seen.operations);
    assert!(seen.operations.iter().any(|o| o == "data SELECT orders globex reset-only"), "{:#?}", seen.operations);
    for bind in [uses as Bind, becomes, role] {
        let (seen, rules) = with_reset(bind);
        assert_eq!(rules, BTreeSet::from([STALE]), "{:#?}", seen.operations);
    }
}

#[test]
fn nothing_at_all_is_unbound_and_a_named_database_is_its_own_selector() {
    let (seen, rules) = told(&service("shop", |_, order, _| vec![select("orders", order)]));
    assert_eq!(rules, BTreeSet::from([REUSE]), "{:#?}", seen.operations);
    let own = |tenant: usize, order, _| vec![select(&format!("{}.orders", TENANTS[tenant]), order)];
    let (seen, rules) = told(&service("acme", own));
    assert_eq!(rules, BTreeSet::new(), "{:#?}", seen.operations);
    // Who writes to the database that the connection was opened with, writes to the other's.
    let insert = |order| (query(format!("INSERT INTO orders (id) VALUES ({order})")), AUTOCOMMIT);
    let (seen, rules) = told(&service("acme", |_, order, _| vec![insert(order)]));
    assert_eq!(rules, BTreeSet::from([STALE]), "{:#?}", seen.operations);
}

#[test]
fn databases_that_name_nobody_are_their_tenants_own_once_each_keeps_to_one() {
    let numbered = |tenant: usize| ([&b"\x02c_"[..], [b"1842", b"2077"][tenant]].concat(), AUTOCOMMIT);
    let clean = service("shop", |tenant, order, _| vec![numbered(tenant), select("orders", order)]);
    assert_eq!(told(&clean).1, BTreeSet::new());
    // Once, globex forgets.
    let (seen, rules) = told(&service("shop", |tenant, order, i| {
        let mut work = vec![numbered(tenant), select("orders", order)];
        if i == 51 {
            work.remove(0);
        }
        work
    }));
    assert_eq!(rules, BTreeSet::from([STALE]), "{:#?}", seen.operations);
}

#[test]
fn prepared_statements_bind_and_what_is_not_known_of_them_is_not_judged() {
    let prepared = |script: &mut Script, pool| {
        script.send(pool, 0, packet(0, b"\x16SET @tenant_id = ?"));
        let definition = b"\x03def\0\0\0\x01?\0\x0c\x3f\0\0\0\0\0\xfd\x80\0\0\0\0";
        let accepted = packet(1, b"\0\x01\0\0\0\0\0\x01\0\0\0\0");
        script.send(pool, 1, [accepted, packet(2, definition), packet(3, &[0xfe, 0, 0, 2, 0])].concat());
    };
    let mut clean = Script::default();
    let pool = clean.connect(SERVICE, DATABASE, 40_000, 3306);
    let clients = [ACME, GLOBEX].map(|who| clean.connect(who, SERVICE, 41_000 + who as u16, 8080));
    start(&mut clean, pool, "app", "shop");
    prepared(&mut clean, pool);
    for i in 0..60 {
        let (tenant, order) = (i % 2, 1001 + i as u32);
        clean.send(clients[tenant], 0, get(order));
        let name = TENANTS[tenant];
        let value = [&[name.len() as u8][..], name.as_bytes()].concat();
        let execute = [&b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\xfd\0"[..], &value].concat();
        work(&mut clean, pool, &vec![(execute, AUTOCOMMIT), select("orders", order)]);
        clean.send(clients[tenant], 1, ok(order));
        clean.steps.push(Step::Wait { millis: 5 });
    }
    clean.steps.push(Step::Wait { millis: 500 });
    assert_eq!(told(&clean.steps).1, BTreeSet::new());
    // Without the segment in which it was prepared, what it binds is not known.
    let n = clean.steps.iter().position(|s| matches!(s, Step::Segment { bytes, .. } if bytes.get(4) == Some(&0x16)));
    let n = n.unwrap();
    let seen = play(&clean.steps, |i| i != n && i != n + 1, false);
    assert!(seen.findings.iter().all(|f| !f.rule.starts_with("pool-")), "{:#?}", seen.findings);
}

#[test]
fn whatever_is_lost_makes_no_finding() {
    for (way, bind) in WAYS {
        let clean = service("shop", |tenant, order, _| vec![bind(tenant), select("orders", order)]);
        for lost in (0..clean.len()).step_by(41) {
            let seen = play(&clean, |i| i != lost, false);
            let pool: Vec<_> = seen.findings.iter().filter(|f| f.rule.starts_with("pool-")).collect();
            assert!(pool.is_empty(), "{way} without event {lost}: {pool:#?}");
        }
    }
}

/// Two tenants' clients behind a pooler with one connection to the server, each statement a turn of its own.
fn pooler(turns: &[(usize, &str)]) -> Vec<Step> {
    let mut script = Script::default();
    let server = script.connect(POOLER, DATABASE, 40_000, 3306);
    let clients = [ACME, GLOBEX].map(|who| script.connect(who, POOLER, 41_000 + who as u16, 6033));
    for conn in [server, clients[0], clients[1]] {
        start(&mut script, conn, "app", "shop");
    }
    for (who, text) in turns {
        let command = query(text);
        let status = if text.starts_with("BEGIN") { IN_TRANSACTION } else { AUTOCOMMIT };
        let answer = reply(&command, status);
        script.send(clients[*who], 0, packet(0, &command));
        script.send(server, 0, packet(0, &command));
        script.send(server, 1, answer.clone());
        script.send(clients[*who], 1, answer);
    }
    script.steps.push(Step::Wait { millis: 4_000 });
    script.steps
}

#[test]
fn what_a_pooler_passes_on_is_its_clients_and_what_one_sets_is_there_for_the_next() {
    let (a, b) = ("SET @tenant_id = 'acme'", "SET @tenant_id = 'globex'");
    let left = [(0, a), (0, "SELECT item FROM orders WHERE id = 1"), (1, "SELECT item FROM orders WHERE id = 2")];
    let (seen, rules) = told(&pooler(&left));
    assert_eq!(rules, BTreeSet::from([STALE]), "{:#?}", seen.operations);
    let own = [left[0], left[1], (1, b), left[2]];
    let (seen, rules) = told(&pooler(&own));
    assert_eq!(rules, BTreeSet::new(), "{:#?}", seen.operations);
    assert!(seen.operations.iter().any(|o| o == "data SELECT orders globex revalidated"), "{:#?}", seen.operations);
}
