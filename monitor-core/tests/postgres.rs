//! Recorded PostgreSQL connections through the decoder: what it says, however the bytes are cut, and what it does not
//! say when some are missing.
//!
//! `golden/postgres/NAME.in` holds a connection as lines `C hex` and `S hex`, one per segment, recorded from real
//! clients and a real PostgreSQL 15 server; `NAME.out` the decoder's calls. `BLESS=1 cargo test` writes the latter anew.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use monitor_core::decode::postgres::{Postgres, Shared, fuzz_postgres, fuzz_sql};
use monitor_core::decode::{Chunk, Decoder, Disturbance, SessionStart, Sink};
use monitor_core::model::claim::Salt;
use monitor_core::model::{
    BindPolicy, Claim, Effect, Fingerprint, Interner, Nanos, Operation, Outcome, Side, Slot, Sym, TenantTable, TxStatus,
};
use proptest::prelude::*;

const SALT: Salt = Salt(17, 4);

/// Writes every call as one line, without times.
struct Recorder {
    lines: Vec<String>,
    names: Interner,
    tenants: TenantTable,
    policy: BindPolicy,
    open: HashSet<u64>,
    begun: u64,
}

impl Recorder {
    fn new() -> Self {
        let mut tenants = TenantTable::default();
        tenants.intern("acme");
        tenants.intern("globex");
        Self {
            lines: Vec::new(),
            names: Interner::new(1000),
            tenants,
            policy: BindPolicy::default(),
            open: HashSet::new(),
            begun: 0,
        }
    }

    fn who(&self, claim: Claim) -> String {
        match claim {
            Claim::Tenant(id) => self.tenants.name(id).to_owned(),
            Claim::Opaque(_) => "opaque".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn slot(&self, slot: Slot) -> String {
        match slot {
            Slot::Setting(name) => self.names.name(name).to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn effect(&self, effect: &Effect) -> String {
        match effect {
            Effect::None => String::new(),
            Effect::Bind { slot, claim, scope, strength } => {
                format!(" binds {}={} for {scope:?} {strength:?}", self.slot(*slot), self.who(*claim))
            }
            Effect::Reset { what: monitor_core::model::operation::ResetScope::Slot(slot), scope } => {
                format!(" resets {} for {scope:?}", self.slot(*slot))
            }
            Effect::Savepoint(n) | Effect::RollbackTo(n) | Effect::Release(n) => {
                let kind = format!("{effect:?}");
                format!(" {} {}", kind.split('(').next().unwrap(), self.names.name(*n))
            }
            other => format!(" {other:?}"),
        }
    }
}

fn print(p: Option<Fingerprint>) -> String {
    p.map_or_else(|| "-".to_owned(), |p| format!("{:04x}", p.0 & 0xffff))
}

impl Sink for Recorder {
    fn claim(&mut self, slot: Slot, name: &str, value: &str) -> Claim {
        self.policy.claim(&self.tenants, SALT, slot, name, value)
    }
    fn setting_binds(&self, name: &str) -> bool {
        self.policy.setting_binds(name)
    }
    fn intern(&mut self, name: &str) -> Sym {
        self.names.intern(name)
    }
    fn started(&mut self, start: SessionStart) {
        self.lines.push(format!("started user {} database {}", print(Some(start.user)), print(Some(start.database))));
    }
    fn begun(&mut self, request: u64, _: Nanos, p: Option<Fingerprint>) {
        assert_eq!(request, self.begun + 1, "requests are numbered without holes");
        self.begun = request;
        self.open.insert(request);
        self.lines.push(format!("begun {request} {}", print(p)));
    }
    fn done(&mut self, op: &Operation) {
        assert!(op.begun <= op.ended);
        let mut line = format!("  {} {:?} {}", op.request, op.kind, self.names.name(op.verb));
        if op.target != Sym::EMPTY {
            write!(line, " [{}]", self.names.name(op.target)).unwrap();
        }
        line.push_str(&self.effect(&op.effect));
        if op.outcome != Outcome::Ok {
            write!(line, " -> {}", op.outcome.name()).unwrap();
        }
        if op.warned_ineffective {
            line.push_str(" (ineffective)");
        }
        self.lines.push(line);
    }
    fn answered(&mut self, request: u64, _: Nanos, p: Option<Fingerprint>) {
        assert!(self.open.remove(&request), "{request} is answered once");
        self.lines.push(format!("answered {request} {}", print(p)));
    }
    fn status(&mut self, _: Nanos, status: TxStatus) {
        self.lines.push(format!("status {status:?}"));
    }
    fn disturbed(&mut self, _: Nanos, why: Disturbance) {
        self.lines.push(format!("disturbed {}", why.name()));
    }
    fn opaque(&mut self, _: Nanos, why: &'static str) {
        self.lines.push(format!("opaque {why}"));
    }
    fn decode_error(&mut self, kind: &'static str) {
        self.lines.push(format!("decode_error {kind}"));
    }
}

type Segments = Vec<(Side, Vec<u8>)>;

/// A step of a run: bytes with whether they end a segment, or a hole.
enum Step<'a> {
    Bytes(Side, &'a [u8], bool),
    Hole(Side, u64),
}

fn run(steps: impl IntoIterator<Item = Step<'static>>) -> Vec<String> {
    run_from(false, steps.into_iter())
}

fn run_from<'a>(mid_stream: bool, steps: impl Iterator<Item = Step<'a>>) -> Vec<String> {
    let mut decoder = Postgres::new(SALT, mid_stream, &Shared::new(SALT));
    let mut out = Recorder::new();
    let mut at = 0;
    for step in steps {
        at += 1;
        match step {
            Step::Bytes(from, bytes, ends_segment) => {
                decoder.bytes(from, Chunk { at: Nanos(at), bytes, ends_segment }, &mut out);
            }
            Step::Hole(from, n) => decoder.missing(from, Nanos(at), n, &mut out),
        }
        assert!(decoder.memory() < 1 << 20);
    }
    decoder.closed(Nanos(at), &mut out);
    assert!(out.open.is_empty(), "every request that begins is answered: {:?}", out.open);
    out.lines
}

fn whole(segments: &Segments) -> Vec<String> {
    run_from(false, segments.iter().map(|(from, bytes)| Step::Bytes(*from, bytes, true)))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/postgres")
}

fn recordings() -> Vec<(String, Segments)> {
    let mut all: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "in"))
        .map(|p| (p.file_stem().unwrap().to_str().unwrap().to_owned(), read(&p)))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(all.len() >= 15, "the recordings are there");
    all
}

fn read(path: &Path) -> Segments {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let (side, hex) = line.split_once(' ').unwrap();
            let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            (if side == "C" { Side::Client } else { Side::Server }, bytes)
        })
        .collect()
}

#[test]
fn golden() {
    for (name, segments) in recordings() {
        let got = whole(&segments).join("\n") + "\n";
        let path = folder().join(format!("{name}.out"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &got).unwrap();
        }
        let want = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(got, want, "{name}: BLESS=1 accepts the new output");
        assert!(!got.contains("decode_error"), "{name}: a real connection is never malformed");
    }
}

#[test]
fn every_split_gives_the_same_calls() {
    for (name, segments) in recordings() {
        let want = whole(&segments);
        let single = segments.iter().flat_map(|(from, bytes)| {
            bytes.iter().enumerate().map(move |(i, _)| Step::Bytes(*from, &bytes[i..=i], i + 1 == bytes.len()))
        });
        assert_eq!(run_from(false, single), want, "{name} byte by byte");
        // Each cut of each segment; the rest whole. Long segments at every seventh place, to keep the test quick.
        for (at, (from, bytes)) in segments.iter().enumerate() {
            let step = if bytes.len() > 200 { 7 } else { 1 };
            for cut in (1..bytes.len()).step_by(step) {
                let (a, b) = bytes.split_at(cut);
                let steps = segments.iter().enumerate().flat_map(|(i, (side, all))| {
                    if i == at {
                        vec![Step::Bytes(*from, a, false), Step::Bytes(*from, b, true)]
                    } else {
                        vec![Step::Bytes(*side, all, true)]
                    }
                });
                assert_eq!(run_from(false, steps), want, "{name}: segment {at} cut at {cut}");
            }
        }
    }
}

#[test]
fn every_prefix_says_a_prefix_and_ends_what_it_began() {
    for (name, segments) in recordings() {
        let want = whole(&segments);
        for n in 0..segments.len() {
            let got = run_from(false, segments.iter().take(n).map(|(from, bytes)| Step::Bytes(*from, bytes, true)));
            let same = got.iter().zip(&want).take_while(|(a, b)| a == b).count();
            // What differs is the end of what was outstanding, which nobody answered.
            for line in &got[same..] {
                assert!(line.contains("-> unknown") || line.starts_with("answered"), "{name} first {n}: {line}");
            }
        }
    }
}

/// The lines that claim that something was bound or reset.
fn bindings(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter(|l| (l.contains(" binds ") || l.contains("esets ")) && !l.contains("->") && !l.contains("unreadable"))
        .map(|l| l.trim_start().split_once(' ').map_or("", |(_, rest)| rest))
        .collect()
}

fn is_subsequence(part: &[&str], all: &[&str]) -> bool {
    let mut rest = all.iter();
    part.iter().all(|p| rest.any(|a| a == p))
}

#[test]
fn a_missing_segment_never_makes_a_binding() {
    let n_recovered = Cell::new(0);
    for (name, segments) in recordings() {
        let want = whole(&segments);
        for lost in 0..segments.len() {
            let steps = segments.iter().enumerate().map(|(i, (from, bytes))| {
                if i == lost { Step::Hole(*from, bytes.len() as u64) } else { Step::Bytes(*from, bytes, true) }
            });
            let got = run_from(false, steps);
            assert!(
                is_subsequence(&bindings(&got), &bindings(&want)),
                "{name} without segment {lost}:\n{}",
                got.join("\n")
            );
            if let Some(at) = got.iter().position(|l| l.starts_with("disturbed")) {
                n_recovered.set(n_recovered.get() + usize::from(got[at..].iter().any(|l| l.starts_with("begun"))));
            }
        }
    }
    assert!(n_recovered.get() > 100, "the place is found again after most holes: {}", n_recovered.get());
}

#[test]
fn a_cut_segment_never_makes_a_binding() {
    for (name, segments) in recordings() {
        let want = whole(&segments);
        for (lost, (_, all)) in segments.iter().enumerate() {
            for keep in [1, 4, 6, 12, 20, 40, 80].into_iter().filter(|k| *k < all.len()) {
                let steps = segments.iter().enumerate().flat_map(|(i, (from, bytes))| {
                    if i == lost {
                        let head = Step::Bytes(*from, &bytes[..keep], false);
                        vec![head, Step::Hole(*from, (bytes.len() - keep) as u64)]
                    } else {
                        vec![Step::Bytes(*from, bytes, true)]
                    }
                });
                let got = run_from(false, steps);
                assert!(
                    is_subsequence(&bindings(&got), &bindings(&want)),
                    "{name}: segment {lost} cut to {keep}:\n{}",
                    got.join("\n")
                );
            }
        }
    }
}

#[test]
fn a_connection_joined_late_is_read_from_a_quiescent_point() {
    let mut n_joined = 0;
    for (name, segments) in recordings() {
        let want = whole(&segments);
        for skipped in 0..segments.len() {
            let steps = segments.iter().skip(skipped).map(|(from, bytes)| Step::Bytes(*from, bytes, true));
            let got = run_from(true, steps);
            if let Some(first) = got.first() {
                assert_eq!(first, "disturbed mid_stream", "{name}");
            }
            assert!(
                is_subsequence(&bindings(&got), &bindings(&want)),
                "{name} from segment {skipped}:\n{}",
                got.join("\n")
            );
            n_joined += usize::from(got.iter().any(|l| l.starts_with("answered")));
        }
    }
    assert!(n_joined > 200, "most connections are joined: {n_joined}");
}

#[test]
fn the_fuzz_targets_hold_on_every_prefix_of_the_recordings() {
    for (_, segments) in recordings() {
        let mut data = vec![0];
        for (from, bytes) in &segments {
            for piece in bytes.chunks(125) {
                data.push(u8::try_from((piece.len() - 1) / 4 * 8).unwrap() | u8::from(*from == Side::Server));
                data.extend(piece);
            }
            fuzz_sql(bytes);
        }
        for n in (0..data.len()).step_by(97) {
            fuzz_postgres(&data[..n]);
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
        ("COMMIT", "ROLLBACK", &["1 Control COMMIT Rollback"]),
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
    let mut out = Recorder::new();
    let mut decoder = Postgres::new(SALT, false, &shared);
    let mut feed = |from, bytes: &[u8]| {
        decoder.bytes(from, Chunk { at: Nanos(0), bytes, ends_segment: true }, &mut out);
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
    fn random_bytes_do_no_harm(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz_postgres(&data);
        fuzz_sql(&data);
    }

    #[test]
    fn a_changed_byte_does_no_harm(which in 0usize..1000, at in 0usize..100_000, value in any::<u8>(), late in any::<bool>()) {
        thread_local!(static ALL: Vec<(String, Segments)> = recordings());
        let mut segments = ALL.with(|all| all[which % all.len()].1.clone());
        let n = segments.len();
        let bytes = &mut segments[at % n].1;
        let place = at / n % bytes.len();
        bytes[place] = value;
        let steps = segments.iter().map(|(from, bytes)| Step::Bytes(*from, bytes, true));
        run_from(late, steps);
    }

    #[test]
    fn random_sql_scans_in_any_mode(text in "[a-z '\"$();,/*\\-\\\\0-9_.:E]{0,200}") {
        fuzz_sql(text.as_bytes());
    }
}
