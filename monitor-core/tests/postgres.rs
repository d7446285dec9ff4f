//! Recorded PostgreSQL connections through the decoder: what it says, however the bytes are cut, and what it does not
//! say when some are missing.
//!
//! `golden/postgres/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment, recorded from real
//! clients and a real PostgreSQL 15 server; `NAME.out` the decoder's calls. `BLESS=1 cargo test` writes the latter anew.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use common::suites::POSTGRES as SUITE;
use common::{SALT, Step, bindings, is_subsequence};
use monitor_core::decode::Chunk;
use monitor_core::decode::postgres::{Shared, decoder, fuzz_postgres, fuzz_sql};
use monitor_core::model::{Nanos, Side};
use proptest::prelude::*;

mod common;

fn run(steps: impl IntoIterator<Item = Step<'static>>) -> Vec<String> {
    SUITE.run(steps)
}

fn run_from<'a>(mid_stream: bool, steps: impl Iterator<Item = Step<'a>>) -> Vec<String> {
    SUITE.run_from(mid_stream, steps)
}

protocol_suite!(SUITE, fuzz_postgres, split 200, step 97);

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    // What differs is the end of what was outstanding, which nobody answered.
    SUITE.every_prefix(&mut |what, line| {
        assert!(line.contains("-> unknown") || line.starts_with("answered"), "{what}: {line}");
    });
}

fn check(what: &str, got: &[String], want: &[String]) {
    assert!(is_subsequence(&bindings(got), &bindings(want)), "{what}:\n{}", got.join("\n"));
}

#[test]
fn a_missing_segment_never_makes_a_binding() {
    let mut n_recovered = 0;
    SUITE.every_hole(&mut |what, got, want| {
        check(what, got, want);
        if let Some(at) = got.iter().position(|l| l.starts_with("disturbed")) {
            n_recovered += usize::from(got[at..].iter().any(|l| l.starts_with("begun")));
        }
    });
    assert!(n_recovered > 100, "the place is found again after most holes: {n_recovered}");
}

#[test]
fn a_cut_segment_never_makes_a_binding() {
    SUITE.every_cut(&[1, 4, 6, 12, 20, 40, 80], &mut check);
}

#[test]
fn a_connection_joined_late_is_read_from_a_quiescent_point() {
    let mut n_joined = 0;
    SUITE.every_late_start(0, &mut |what, got, want| {
        check(what, got, want);
        n_joined += usize::from(got.iter().any(|l| l.starts_with("answered")));
    });
    assert!(n_joined > 200, "most connections are joined: {n_joined}");
}

#[test]
fn the_fuzz_target_of_sql_holds_on_every_segment_of_the_recordings() {
    for (_, segments) in SUITE.recordings() {
        for (_, bytes) in &segments {
            fuzz_sql(bytes);
        }
    }
}

/// One message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((u32::try_from(body.len()).unwrap() + 4).to_be_bytes());
    out.extend(body);
    out
}

/// A session in which each text is one simple query, answered with `tags`.
fn exchange(queries: &[(&str, &[&str])]) -> Vec<String> {
    let mut steps = vec![
        Step::Bytes(Side::Client, b"\0\0\0\x12\0\x03\0\0user\0app\0\0", true),
        Step::Bytes(Side::Server, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", true),
    ];
    for (text, tags) in queries {
        let query: &'static [u8] = message(b'Q', format!("{text}\0").as_bytes()).leak();
        let mut reply = Vec::new();
        for tag in *tags {
            reply.extend(message(b'C', format!("{tag}\0").as_bytes()));
        }
        reply.extend(message(b'Z', b"I"));
        steps.push(Step::Bytes(Side::Client, query, true));
        steps.push(Step::Bytes(Side::Server, reply.leak(), true));
    }
    let keep = |l: &String| l.starts_with("  ") || l.starts_with("d");
    run(steps).into_iter().filter(keep).map(|l| l.trim().to_owned()).collect()
}

#[test]
fn statements() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("SET app.tenant_id = 'acme'", "SET", &["1 Bind SET [app.tenant_id] binds app.tenant_id=acme for Session V2"]),
        (
            "set session App.Tenant_Id to acme",
            "SET",
            &["1 Bind SET [app.tenant_id] binds app.tenant_id=acme for Session V2"],
        ),
        (
            "SET LOCAL app.tenant_id TO E'ac\\x6de'",
            "SET",
            &["1 Bind SET [app.tenant_id] binds app.tenant_id=acme for Transaction V2"],
        ),
        ("SET app.tenant_id = -5", "SET", &["1 Bind SET [app.tenant_id] binds app.tenant_id=opaque for Session V2"]),
        ("SET app.tenant_id = ''", "SET", &["1 Bind SET [app.tenant_id] binds app.tenant_id=cleared for Session V2"]),
        ("SET app.tenant_id TO DEFAULT", "SET", &["1 Reset SET [app.tenant_id] resets app.tenant_id for Session"]),
        (
            "SET LOCAL app.tenant_id TO DEFAULT",
            "SET",
            &["1 Reset SET [app.tenant_id] resets app.tenant_id for Transaction"],
        ),
        ("SET app.theme = 'dark'", "SET", &["1 Control SET [app.theme] binds app.theme=neutral for Session V2"]),
        ("SET statement_timeout = 5", "SET", &["1 Control SET [statement_timeout]"]),
        ("SET ROLE tenant_acme", "SET", &["1 Bind SET ROLE [role] binds role=acme for Session V2"]),
        ("SET LOCAL ROLE 'tenant_acme'", "SET", &["1 Bind SET ROLE [role] binds role=acme for Transaction V2"]),
        ("SET role = 'tenant_acme'", "SET", &["1 Bind SET [role] binds role=acme for Session V2"]),
        ("SET SESSION ROLE \"tenant_acme\"", "SET", &["1 Bind SET ROLE [role] binds role=acme for Session V2"]),
        ("SET ROLE NONE", "SET", &["1 Reset SET ROLE [role] resets role for Session"]),
        ("RESET ROLE", "RESET", &["1 Reset RESET ROLE [role] resets role for Session"]),
        (
            "SET SESSION AUTHORIZATION tenant_acme",
            "SET",
            &[
                "1 Bind SET SESSION AUTHORIZATION [session_authorization] binds sessionuser=acme for Session V2",
                "1 Reset SET SESSION AUTHORIZATION [role] resets role for Session",
            ],
        ),
        (
            "SET SESSION AUTHORIZATION DEFAULT",
            "SET",
            &[
                "1 Reset SET SESSION AUTHORIZATION [session_authorization] resets sessionuser for Session",
                "1 Reset SET SESSION AUTHORIZATION [role] resets role for Session",
            ],
        ),
        (
            "SET search_path TO 'tenant_acme', public",
            "SET",
            &["1 Bind SET [search_path] binds searchpath=acme for Session V2"],
        ),
        ("SET SCHEMA 'tenant_acme'", "SET", &["1 Bind SET [search_path] binds searchpath=acme for Session V2"]),
        ("RESET ALL", "RESET", &["1 Reset RESET ALL Reset { what: Settings, scope: Session }"]),
        ("DISCARD ALL", "DISCARD ALL", &["1 Reset DISCARD ALL Reset { what: Everything, scope: Session }"]),
        ("DISCARD PLANS", "DISCARD PLANS", &["1 Control DISCARD PLANS"]),
        (
            "SELECT set_config('app.tenant_id', 'acme', true)",
            "SELECT 1",
            &["1 Bind SELECT [app.tenant_id] binds app.tenant_id=acme for Transaction V2"],
        ),
        (
            "SELECT pg_catalog.set_config('role', 'tenant_acme', 'off')",
            "SELECT 1",
            &["1 Bind SELECT [role] binds role=acme for Session V2"],
        ),
        (
            "SELECT set_config('app.tenant_id', NULL, false)",
            "SELECT 1",
            &["1 Reset SELECT [app.tenant_id] resets app.tenant_id for Session"],
        ),
        (
            "SELECT set_config('app.tenant_id', 'acme'::text, true), set_config('role', 'tenant_globex', true)",
            "SELECT 1",
            &[
                "1 Bind SELECT [app.tenant_id] binds app.tenant_id=acme for Transaction V2",
                "1 Bind SELECT [role] binds role=globex for Transaction V2",
            ],
        ),
        (
            "SELECT set_config('app.tenant_id', 'ac' || 'me', true)",
            "SELECT 1",
            &["1 Bind SELECT [app.tenant_id] binds app.tenant_id=unreadable for Transaction V2"],
        ),
        ("SELECT set_config('statement_timeout', '5', true)", "SELECT 1", &["1 Control SELECT [statement_timeout]"]),
        ("SELECT set_config(lower('App.Tenant'), 'acme', true)", "SELECT 1", &["1 Control SELECT Unknown"]),
        (
            "SELECT set_config('app.tenant_id', 'acme', now() > 'x')",
            "SELECT 1",
            &["1 Control SELECT [app.tenant_id] Unknown"],
        ),
        (
            "SELECT set_config('app.tenant_id', 'acme', true) FROM orders",
            "SELECT 2",
            &["1 Bind SELECT [app.tenant_id] binds app.tenant_id=acme for Transaction V2", "1 Data SELECT [orders]"],
        ),
        (
            "SELECT set_config('app.tenant_id', 'acme', true) FROM orders",
            "SELECT 0",
            &["1 Control SELECT [app.tenant_id] Unknown", "1 Data SELECT [orders]"],
        ),
        (
            "SELECT * FROM set_config('app.tenant_id', 'acme', true)",
            "SELECT 1",
            &["1 Bind SELECT [app.tenant_id] binds app.tenant_id=acme for Transaction V2"],
        ),
        (
            "WITH s AS (SELECT set_config('app.tenant_id', 'acme', true)) SELECT * FROM orders, s",
            "SELECT 1",
            &["1 Bind SELECT [app.tenant_id] binds app.tenant_id=acme for Transaction V2", "1 Data SELECT [orders]"],
        ),
        // A CTE that nobody reads does not run: what it would bind must not count.
        (
            "WITH s AS (SELECT set_config('app.tenant_id', 'acme', true)) SELECT * FROM orders",
            "SELECT 1",
            &["1 Data SELECT [orders] Unknown"],
        ),
        (
            "SELECT * FROM orders WHERE set_config('app.tenant_id', 'acme', true) = 'x'",
            "SELECT 1",
            &["1 Data SELECT [orders] Unknown"],
        ),
        (
            "SELECT CASE WHEN x THEN set_config('app.tenant_id', 'acme', true) END FROM orders",
            "SELECT 1",
            &["1 Data SELECT [orders] Unknown"],
        ),
        (
            "UPDATE orders SET note = set_config('app.tenant_id', 'acme', true)",
            "UPDATE 1",
            &["1 Bind UPDATE [app.tenant_id] binds app.tenant_id=acme for Transaction V2", "1 Data UPDATE [orders]"],
        ),
        ("SELECT set_tenant('acme')", "SELECT 1", &["1 Data SELECT [set_tenant] Unknown"]),
        ("SELECT report(1)", "SELECT 1", &["1 Data SELECT [report]"]),
        ("SELECT current_setting('app.tenant_id', true), now()", "SELECT 1", &["1 Control SELECT"]),
        ("SELECT 1", "SELECT 1", &["1 Control SELECT"]),
        ("SELECT * FROM pg_catalog.pg_class", "SELECT 1", &["1 Control SELECT"]),
        ("SELECT o.id FROM shop.orders o JOIN pg_class c ON true", "SELECT 1", &["1 Data SELECT [shop.orders]"]),
        ("INSERT INTO \"Orders\" SELECT * FROM staging", "INSERT 0 1", &["1 Data INSERT [Orders]"]),
        ("DELETE FROM orders USING staging", "DELETE 1", &["1 Data DELETE [orders]"]),
        ("TABLE orders", "SELECT 1", &["1 Data TABLE [orders]"]),
        ("TRUNCATE TABLE orders", "TRUNCATE TABLE", &["1 Data TRUNCATE [orders]"]),
        ("LISTEN chan", "LISTEN", &["1 Data LISTEN [chan]"]),
        ("CALL do_it(1)", "CALL", &["1 Data CALL [do_it]"]),
        ("CALL switch_tenant(1)", "CALL", &["1 Data CALL [switch_tenant] Unknown"]),
        ("DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$", "DO", &["1 Data DO Unknown"]),
        ("DO $$ BEGIN NULL; END $$", "DO", &["1 Data DO"]),
        ("COPY orders TO STDOUT", "COPY 2", &["1 Data COPY [orders]"]),
        ("COPY (SELECT id FROM orders) TO STDOUT (FORMAT csv)", "COPY 2", &["1 Data COPY [orders]"]),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN", &["1 Control BEGIN Begin"]),
        ("COMMIT AND CHAIN", "COMMIT", &["1 Control COMMIT Commit", "1 Control COMMIT Begin"]),
        ("COMMIT", "ROLLBACK", &["1 Control COMMIT -> error", "1 Control ROLLBACK Rollback"]),
        ("ROLLBACK TO SAVEPOINT a", "ROLLBACK", &["1 Control ROLLBACK TO [a] RollbackTo a"]),
        ("EXPLAIN SELECT * FROM orders", "EXPLAIN", &["1 Control EXPLAIN"]),
        ("EXPLAIN ANALYZE SELECT * FROM orders", "EXPLAIN", &["1 Data EXPLAIN ANALYZE [orders]"]),
        ("ALTER ROLE app SET role = 'tenant_acme'", "ALTER ROLE", &["1 Control ALTER"]),
        ("CREATE TABLE t (a int)", "CREATE TABLE", &["1 Control CREATE"]),
        ("SHOW app.tenant_id", "SHOW", &["1 Control SHOW"]),
        ("VACUUM orders", "VACUUM", &["1 Control VACUUM"]),
        (
            "select /* set_config('app.tenant_id','acme',true) */ 1 -- SET ROLE tenant_acme",
            "SELECT 1",
            &["1 Control SELECT"],
        ),
        ("SELECT weird ~~~ FROM orders WHERE", "SELECT 1", &["1 Data SELECT [orders]"]),
    ];
    for (text, tag, want) in cases {
        assert_eq!(exchange(&[(text, &[tag])]), *want, "{text}");
    }
}

#[test]
fn sql_level_prepared_statements_bind_their_arguments() {
    let got = exchange(&[
        ("PREPARE b (text, text) AS SELECT set_config('app.tenant_id', $2, false)", &["PREPARE"]),
        ("EXECUTE b('globex', 'acme')", &["SELECT 1"]),
        ("EXECUTE b('globex', lower('ACME'))", &["SELECT 1"]),
        ("DEALLOCATE b", &["DEALLOCATE"]),
        ("EXECUTE b('globex', 'acme')", &["SELECT 1"]),
    ]);
    assert_eq!(
        got,
        [
            "1 Control PREPARE",
            "2 Bind EXECUTE [app.tenant_id] binds app.tenant_id=acme for Session V2",
            "3 Bind EXECUTE [app.tenant_id] binds app.tenant_id=unreadable for Session V2",
            "4 Control DEALLOCATE",
            "5 Data EXECUTE Unknown",
        ]
    );
}

#[test]
fn predicates_and_comments_name_the_tenant_of_a_statement() {
    let rows =
        |last: &str| format!("insert into t (a, tenant_id) values (1,'acme'),(2,'acme'),(3,'acme'),(4,'{last}')");
    let wide = "insert into t (a, b, c, d, e, f, g, h, i, tenant_id) values (1,2,3,4,5,6,7,8,9,'acme')";
    let cases: &[(&str, &str, &str)] = &[
        ("select a from t where tenant_id = 'acme'", "SELECT 1", "1 Data SELECT [t] of acme"),
        ("select a from t where tenant_id = E'ac\\x6de'", "SELECT 1", "1 Data SELECT [t] of acme"),
        ("select a from t where tenant_id = 42", "SELECT 1", "1 Data SELECT [t] of opaque"),
        ("select a from t where tenant_id = 'acme' and x.tenant_id = 'ACME'", "SELECT 1", "1 Data SELECT [t] of acme"),
        (
            "select a from t where tenant_id = 'acme' and tenant_id = 'globex'",
            "SELECT 1",
            "1 Data SELECT [t] of unreadable",
        ),
        ("select a from t where tenant_id = 'acme' and account_id = 7", "SELECT 1", "1 Data SELECT [t] of acme"),
        ("select a from t where tenant_id = ''", "SELECT 1", "1 Data SELECT [t]"),
        ("select a from t where tenant_id = null", "SELECT 1", "1 Data SELECT [t]"),
        ("select a from t where tenant_id = U&'ac\\006de'", "SELECT 1", "1 Data SELECT [t]"),
        ("select a from t where note = 'acme'", "SELECT 1", "1 Data SELECT [t]"),
        (&rows("acme"), "INSERT 0 4", "1 Data INSERT [t] of acme"),
        // The shape of both is the same: the rows it leaves out are compared where they stand.
        (&rows("globex"), "INSERT 0 4", "1 Data INSERT [t]"),
        (wide, "INSERT 0 1", "1 Data INSERT [t]"),
        ("select a from t /*tenant='globex'*/", "SELECT 1", "1 Data SELECT [t] of globex"),
        ("select a from t where tenant_id = 'acme' /*tenant='acme'*/;", "SELECT 1", "1 Data SELECT [t] of acme"),
        ("select a from t where note = '/*tenant=''acme''*/'", "SELECT 1", "1 Data SELECT [t]"),
    ];
    for (text, tag, want) in cases {
        assert_eq!(exchange(&[(text, &[tag])]), [*want], "{text}");
    }
    let got = exchange(&[
        ("prepare q (text) as select a from t where tenant_id = $1", &["PREPARE"]),
        ("execute q('acme')", &["SELECT 1"]),
        ("execute q(lower('ACME'))", &["SELECT 1"]),
    ]);
    assert_eq!(got[1..], ["2 Data EXECUTE [t] of acme", "3 Data EXECUTE [t]"]);
}

#[test]
fn a_request_has_few_marks_and_a_reply_is_looked_through_in_part() {
    let steps = |query: String, rows: usize| {
        let mut reply = Vec::new();
        for i in 0..rows {
            let text = format!("value-{i:026}");
            reply.extend(message(b'D', &[b"\0\x01\0\0\0\x20", text.as_bytes()].concat()));
        }
        reply.extend(message(b'C', b"SELECT 1\0"));
        reply.extend(message(b'Z', b"I"));
        vec![
            Step::Bytes(Side::Client, b"\0\0\0\x12\0\x03\0\0user\0app\0\0", true),
            Step::Bytes(Side::Server, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", true),
            Step::Bytes(Side::Client, message(b'Q', format!("{query}\0").as_bytes()).leak(), true),
            Step::Bytes(Side::Server, reply.leak(), true),
        ]
    };
    let count =
        |lines: &[String], from: &str| lines.iter().filter(|l| l.starts_with(&format!("value 1 {from}"))).count();
    let list = |n: usize| (0..n).map(|i| format!("'id-{i}'")).collect::<Vec<_>>().join(",");
    let got = run(steps(format!("select a from t where b in ({})", list(20)), 10));
    assert_eq!((count(&got, "client"), count(&got, "server")), (20, 10), "the shape keeps eight, and all are marks");
    let got = run(steps(format!("select a from t where b in ({})", list(5000)), 5000));
    assert_eq!((count(&got, "client"), count(&got, "server")), (64, 16 * 1024 / 32));
    assert!(run(steps("select b from t".into(), 1)).iter().any(|l| l.starts_with("answered 1 ")));
}

#[test]
fn an_answer_that_cannot_be_is_never_paired() {
    // The tag belongs to another statement; too many replies; too few.
    let wrong: &[(&str, &[&str])] = &[
        ("SET app.tenant_id = 'acme'", &["SELECT 1"]),
        ("SELECT 1", &["SET"]),
        ("SET app.tenant_id = 'acme'", &["SET", "SET"]),
        ("SET app.tenant_id = 'acme'; SELECT 1", &["SET"]),
    ];
    for (text, tags) in wrong {
        let got = exchange(&[(text, tags)]);
        assert!(got.iter().any(|l| l == "disturbed malformed"), "{text}: {got:?}");
    }
}

#[test]
fn a_new_shape_is_parsed_once() {
    let shared = Shared::new(SALT);
    let mut out = common::Recorder::new();
    let mut decoder = decoder(SALT, false, &shared);
    let mut feed = |from, bytes: &[u8]| {
        out.hear(|sink| decoder.bytes(from, Chunk { at: Nanos(0), bytes, ends_segment: true }, sink));
    };
    feed(Side::Client, b"\0\0\0\x12\0\x03\0\0user\0app\0\0");
    feed(Side::Server, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
    for i in 0..1000 {
        feed(Side::Client, &message(b'Q', format!("select a from t where id = {i} and b = '{i}'\0").as_bytes()));
        feed(Side::Server, b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
    }
    assert_eq!(shared.n_parsed(), 1);
    for i in 0..10_000 {
        feed(Side::Client, &message(b'Q', format!("select a{i} from t\0").as_bytes()));
        feed(Side::Server, b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
    }
    assert!(shared.n_shapes() <= 4096);
}

#[test]
fn deep_and_endless_sql_is_read_in_bounded_stack_and_time() {
    // As long as a message is kept, and just short enough to be parsed.
    for n in [60_000, 9_000, 3_600] {
        let texts = [
            "(".repeat(n),
            format!("select {}1", "(".repeat(n)),
            format!("select 1{}", "+1".repeat(n / 2)),
            format!("select 1{}", " is null".repeat(n / 8)),
            format!("select {}1", "not ".repeat(n / 4)),
            format!("select {}1", "- ".repeat(n / 2)),
            format!("select a{}", "::int".repeat(n / 5)),
            format!("select 1{}", " union select 1".repeat(n / 15)),
            format!("select {}", "case when 1 then ".repeat(n / 17)),
            format!("{}select 1", "explain analyze ".repeat(n / 16)),
            format!("{}select 1", "prepare a as ".repeat(n / 13)),
            format!("{}select 1", "with a as (".repeat(n / 11)),
            format!("{}1{}", "select set_config(".repeat(n / 18), ")".repeat(n / 18)),
            "select 1;".repeat(n / 9),
            "/*".repeat(n / 2),
            format!("select {}", "a.".repeat(n / 2)),
            format!("select {}", "'x',a,".repeat(n / 6)),
        ];
        for text in texts {
            fuzz_sql(text.as_bytes());
        }
    }
}

#[test]
fn encryption_is_opaque_once_accepted() {
    const SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    const GSS: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
    const START: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0app\0\0";
    const HELLO: &[u8] = b"\x16\x03\x01\0\x05\x01\0\0\x01\x03";
    const AUTH: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    let talk =
        |lines: &[(Side, &'static [u8])]| run(lines.iter().map(|(s, b)| Step::Bytes(*s, b, true)).collect::<Vec<_>>());
    let (c, s) = (Side::Client, Side::Server);
    assert_eq!(talk(&[(c, SSL), (s, b"S"), (c, HELLO), (s, HELLO)]), ["opaque tls"]);
    assert_eq!(talk(&[(c, GSS), (s, b"G"), (c, HELLO)]), ["opaque gss"]);
    assert_eq!(talk(&[(c, HELLO), (s, HELLO)]), ["opaque tls"]);
    let plain = talk(&[(c, START), (s, AUTH)]);
    assert_eq!(plain.len(), 2);
    assert_eq!(talk(&[(c, GSS), (s, b"N"), (c, SSL), (s, b"N"), (c, START), (s, AUTH)]), plain);
}

#[test]
fn repeated_nonsense_ends_as_opaque() {
    let junk: &[u8] = b"\xff\xff\xff\xff";
    let query: &[u8] = b"Q\0\0\0\x0dselect 1\0";
    let ready: &[u8] = b"Z\0\0\0\x05I";
    let mut steps = vec![];
    for _ in 0..20 {
        steps.push(Step::Bytes(Side::Server, ready, true));
        steps.push(Step::Bytes(Side::Client, query, true));
        steps.push(Step::Bytes(Side::Server, junk, true));
    }
    let got = run_from(true, steps.into_iter());
    assert_eq!(got.iter().filter(|l| l.starts_with("decode_error")).count(), 8);
    assert_eq!(got.last().unwrap(), "opaque malformed");
}

proptest! {
    #[test]
    fn random_bytes_are_scanned_as_sql_without_harm(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz_sql(&data);
    }

    #[test]
    fn random_sql_scans_in_any_mode(text in "[a-z '\"$();,/*\\-\\\\0-9_.:E]{0,200}") {
        fuzz_sql(text.as_bytes());
    }
}

/// What the fuzzer starts from: the beginnings of all recordings, and some joined late, with holes.
#[test]
fn the_fuzz_target_holds_on_its_corpus() {
    SUITE.every_fuzz_seed(20, fuzz_postgres);
}
