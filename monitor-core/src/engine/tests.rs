//! The whole core on scripted traffic: a transaction pooler with clients of two tenants, and what is left of its story
//! when any event of it is lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::*;
mod bounds;
mod caches;
mod concurrent;
mod cookies;
mod encrypted;
mod faults;
mod flat;
mod habits;
mod identity;
mod indices;
mod jobs;
mod keys;
mod logs;
mod loss;
mod memcached;
mod mysql;
mod proxy;
mod recipes;
mod reconfigure;
mod scenes;
mod schemas;
mod shared_service;
mod shown;
mod stores;
mod streams;
mod stretches;
mod succession;
mod tokens;

use crate::decode::Appetite;
use crate::detect::FindingEvent;
use crate::model::settings::Show;
use crate::model::{CloseReason, Direction, Finding, LossStage, Role, Segment, SocketCookie};

/// An event that owns its bytes.
#[derive(Clone, Debug)]
enum Step {
    Open {
        cookie: u64,
        cgroup: u64,
        local: SocketAddr,
        peer: SocketAddr,
        role: Role,
        starts: Option<(u32, u32)>,
    },
    Segment {
        cookie: u64,
        dir: Direction,
        seq: u32,
        ack: u32,
        bytes: Vec<u8>,
    },
    Close {
        cookie: u64,
    },
    Wait {
        millis: u64,
    },
    Read {
        cookie: u64,
        thread: u32,
    },
    /// The source says that it has lost something.
    Lost,
    /// And that it was for the sockets of this cgroup.
    LostOf {
        cgroup: u64,
    },
    /// A segment of which only the beginning was captured.
    Cut {
        cookie: u64,
        dir: Direction,
        seq: u32,
        ack: u32,
        len: u32,
        bytes: Vec<u8>,
    },
}

impl Step {
    /// The same of another socket, from a port so much higher.
    fn renumbered(&self, by: u64, ports: u16) -> Self {
        let mut step = self.clone();
        match &mut step {
            Step::Open { cookie, local, peer, .. } => {
                *cookie += by;
                for addr in [local, peer].into_iter().filter(|addr| addr.port() >= 40_000) {
                    addr.set_port(addr.port() + ports);
                }
            }
            Step::Segment { cookie, .. }
            | Step::Cut { cookie, .. }
            | Step::Close { cookie }
            | Step::Read { cookie, .. } => *cookie += by,
            Step::Wait { .. } | Step::Lost | Step::LostOf { .. } => {}
        }
        step
    }

    /// What the engine is told at `at`.
    fn event(&self, at: Nanos) -> Event<'_> {
        match self {
            Step::Open { cookie, cgroup, local, peer, role, starts } => Event::Opened {
                at,
                cookie: SocketCookie(*cookie),
                cgroup: (*cgroup != 0).then_some(CgroupId(*cgroup)),
                local: *local,
                peer: *peer,
                role: *role,
                tx_start: starts.map(|s| s.0),
                rx_start: starts.map(|s| s.1),
            },
            Step::Segment { cookie, dir, seq, ack, bytes } => Event::Segment(Segment {
                at,
                cookie: SocketCookie(*cookie),
                dir: *dir,
                seq: *seq,
                ack: Some(*ack),
                len: bytes.len() as u32,
                bytes,
                thread: None,
            }),
            Step::Wait { .. } => Event::Tick { at },
            Step::Read { cookie, thread } => {
                Event::Reader { at, cookie: SocketCookie(*cookie), thread: crate::model::ThreadId(*thread) }
            }
            Step::Cut { cookie, dir, seq, ack, len, bytes } => Event::Segment(Segment {
                at,
                cookie: SocketCookie(*cookie),
                dir: *dir,
                seq: *seq,
                ack: Some(*ack),
                len: *len,
                bytes,
                thread: None,
            }),
            Step::LostOf { cgroup } => Event::Lost {
                at,
                stage: LossStage::Agent,
                reason: "handshake_payload_dropped",
                count: 1,
                of: Some(CgroupId(*cgroup)),
            },
            Step::Lost => Event::Lost { at, stage: LossStage::Kernel, reason: "ring_full", count: 1, of: None },
            Step::Close { cookie } => Event::Closed { at, cookie: SocketCookie(*cookie), reason: CloseReason::Closed },
        }
    }
}

const ACME: u64 = 11;
const GLOBEX: u64 = 12;
const POOLER: u64 = 13;
const DATABASE: u64 = 14;

/// Scripted traffic. Every connection is seen at both of its sockets, as on one host.
#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    conns: Vec<Wire>,
    mid_stream: bool,
}

struct Wire {
    /// Cookies of the client's and the server's socket.
    cookies: [u64; 2],
    /// Next sequence numbers of client and server.
    seq: [u32; 2],
}

fn addr(s: &str) -> SocketAddr {
    s.parse().unwrap()
}

impl Script {
    fn connect(&mut self, client: u64, server: u64, port: u16, server_port: u16) -> usize {
        let n = self.conns.len() as u64;
        let (cookies, seq) = ([100 + 2 * n, 101 + 2 * n], [1_000 * (n as u32 + 1), 4_294_967_000 + n as u32]);
        let (c, s) = (addr(&format!("127.0.0.1:{port}")), addr(&format!("127.0.0.1:{server_port}")));
        let starts = |a, b| (!self.mid_stream).then_some((a, b));
        let role = |r| if self.mid_stream { Role::Unknown } else { r };
        let open_client = Step::Open {
            cookie: cookies[0],
            cgroup: client,
            local: c,
            peer: s,
            role: role(Role::Client),
            starts: starts(seq[0], seq[1]),
        };
        let open_server = Step::Open {
            cookie: cookies[1],
            cgroup: server,
            local: s,
            peer: c,
            role: role(Role::Server),
            starts: starts(seq[1], seq[0]),
        };
        self.steps.extend([open_client, open_server]);
        self.conns.push(Wire { cookies, seq });
        self.conns.len() - 1
    }

    /// Bytes from the client (0) or server (1) of a connection: sent at one socket, received at the other.
    fn send(&mut self, conn: usize, from: usize, bytes: Vec<u8>) {
        let w = &mut self.conns[conn];
        let (seq, ack) = (w.seq[from], w.seq[1 - from]);
        w.seq[from] = seq.wrapping_add(bytes.len() as u32);
        for (cookie, dir) in [(w.cookies[from], Direction::Tx), (w.cookies[1 - from], Direction::Rx)] {
            self.steps.push(Step::Segment { cookie, dir, seq, ack, bytes: bytes.clone() });
        }
    }

    fn close(&mut self, conn: usize) {
        for cookie in self.conns[conn].cookies {
            self.steps.push(Step::Close { cookie });
        }
    }

    fn start(&mut self, conn: usize, user: &str) {
        if !self.mid_stream {
            self.send(conn, 0, pg::startup(user));
            self.send(conn, 1, pg::ready_after_startup());
        }
    }

    /// One simple query through the pooler: in on `client`, out on `server`, and both answers.
    fn query(&mut self, client: usize, server: usize, sql: &str, tag: &str, status: u8) {
        self.send(client, 0, pg::query(sql));
        self.send(server, 0, pg::query(sql));
        let reply = pg::reply(tag, status);
        self.send(server, 1, reply.clone());
        self.send(client, 1, reply);
    }
}

/// Just enough of PostgreSQL's wire format to write conversations (protocol documentation, "Message Formats").
mod pg {
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut m = vec![kind];
        m.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        m.extend_from_slice(body);
        m
    }

    pub(super) fn startup(user: &str) -> Vec<u8> {
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        body.extend_from_slice(format!("user\0{user}\0database\0app\0\0").as_bytes());
        let mut m = (body.len() as u32 + 4).to_be_bytes().to_vec();
        m.extend_from_slice(&body);
        m
    }

    pub(super) fn ready_after_startup() -> Vec<u8> {
        let mut m = message(b'R', &0_u32.to_be_bytes());
        m.extend(message(b'K', &[0; 8]));
        m.extend(message(b'Z', b"I"));
        m
    }

    pub(super) fn query(sql: &str) -> Vec<u8> {
        message(b'Q', format!("{sql}\0").as_bytes())
    }

    pub(super) fn reply(tag: &str, status: u8) -> Vec<u8> {
        let mut m = Vec::new();
        if tag == "ERROR" {
            m.extend(message(b'E', b"SERROR\0C22012\0Mx\0\0"));
        } else {
            if tag.starts_with("SELECT") {
                m.extend(message(b'T', b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0"));
                m.extend(message(b'D', b"\0\x01\0\0\0\x011"));
            }
            m.extend(message(b'C', format!("{tag}\0").as_bytes()));
        }
        m.extend(message(b'Z', &[status]));
        m
    }
}

#[derive(Default)]
struct Seen {
    findings: Vec<Finding>,
    /// Whatever was told of them, repeats too.
    latest: Vec<Finding>,
    operations: Vec<String>,
    silenced: Vec<u64>,
    /// Findings that an exception kept silent.
    suppressed: Vec<Finding>,
}

impl Output for Seen {
    fn finding(&mut self, finding: &Finding, event: FindingEvent) {
        self.latest.push(finding.clone());
        if event == FindingEvent::New {
            self.findings.push(finding.clone());
        }
    }

    fn suppressed(&mut self, finding: &Finding) {
        self.suppressed.push(finding.clone());
    }

    fn operation(&mut self, op: &OperationView<'_>) {
        self.operations.push(format!(
            "{} {} {} {} {}",
            op.op.kind.name(),
            op.verb,
            op.target,
            op.tenant.unwrap_or("-"),
            op.verdict.name()
        ));
    }

    fn capture(&mut self, cookie: SocketCookie, wanted: Wanted) {
        if wanted.sent == Appetite::Everything && wanted.received == Appetite::Nothing {
            self.silenced.push(cookie.0);
        }
    }
}

/// An engine that shows every name as it is: these tests are about what is found.
fn engine() -> Engine {
    engine_showing(Show { names: vec!["*".to_owned()], ..Show::default() })
}

fn engine_showing(show: Show) -> Engine {
    engine_with(Settings { operations: true, show, ..Settings::default() })
}

fn engine_with(settings: Settings) -> Engine {
    let mut engine = Engine::new(settings);
    for (id, name, tenant) in [
        (ACME, "acme-agent", Some("acme")),
        (GLOBEX, "globex-agent", Some("globex")),
        (POOLER, "pooler", None),
        (DATABASE, "database", None),
        (15, "broker", None),
    ] {
        let fact = WorkloadFact {
            name: name.to_owned(),
            cgroup: format!("/{name}"),
            tenants: tenant.into_iter().map(str::to_owned).collect(),
            role: None,
            owner: None,
        };
        engine.learn_cgroup(Nanos(0), CgroupId(id), &fact);
    }
    engine
}

/// Plays the steps that `keep` keeps, a millisecond apart. `lossy`: the source says, a while later, that it lost some.
fn play(steps: &[Step], keep: impl Fn(usize) -> bool, lossy: bool) -> Seen {
    play_on(engine(), steps, keep, lossy)
}

fn play_on(engine: Engine, steps: &[Step], keep: impl Fn(usize) -> bool, lossy: bool) -> Seen {
    play_and(engine, steps, keep, lossy, |_, _, _, _| {})
}

/// The same; before each step something is done to the engine.
fn play_and(
    mut engine: Engine,
    steps: &[Step],
    keep: impl Fn(usize) -> bool,
    lossy: bool,
    mut before: impl FnMut(usize, &mut Engine, Nanos, &mut Seen),
) -> Seen {
    let mut seen = Seen::default();
    let mut at = Nanos::secs(1);
    for (i, step) in steps.iter().enumerate() {
        at = at + Nanos::millis(1);
        before(i, &mut engine, at, &mut seen);
        if !keep(i) {
            continue;
        }
        if let Step::Wait { millis } = step {
            at = at + Nanos::millis(*millis);
        }
        let event = step.event(at);
        engine.handle(&event, &mut seen);
    }
    if lossy {
        engine
            .handle(&Event::Lost { at, stage: LossStage::Kernel, reason: "ring_full", count: 1, of: None }, &mut seen);
    }
    engine.handle(&Event::Tick { at: at + Nanos::secs(4) }, &mut seen);
    engine.finish(at + Nanos::secs(5), &mut seen);
    seen
}

fn all(steps: &[Step]) -> Seen {
    play(steps, |_| true, false)
}

fn found(seen: &Seen) -> BTreeSet<(&'static str, String, String)> {
    seen.findings
        .iter()
        .map(|f| {
            let name = |t: &Option<String>| t.clone().unwrap_or_default();
            (f.rule, name(&f.tenants.used), name(&f.tenants.bound))
        })
        .collect()
}

fn rules(seen: &Seen) -> BTreeSet<&'static str> {
    seen.findings.iter().map(|f| f.rule).collect()
}

/// Two clients, one server connection, and what they do on it in turn.
fn through_pooler(script: &mut Script, story: &[(u64, &str, &str, u8)]) {
    let server = script.connect(POOLER, DATABASE, 40_000, 5432);
    let acme = script.connect(ACME, POOLER, 40_001, 6432);
    let globex = script.connect(GLOBEX, POOLER, 40_002, 6432);
    script.start(server, "app");
    script.start(acme, "app");
    script.start(globex, "app");
    for (who, sql, tag, status) in story {
        let client = if *who == ACME { acme } else { globex };
        script.query(client, server, sql, tag, *status);
    }
    for conn in [acme, globex, server] {
        script.close(conn);
    }
}

fn story(story: &[(u64, &str, &str, u8)]) -> Vec<Step> {
    let mut script = Script::default();
    through_pooler(&mut script, story);
    script.steps
}

const SESSION_SET: &[(u64, &str, &str, u8)] = &[
    (ACME, "SET app.tenant_id = 'acme'", "SET", b'I'),
    (ACME, "SELECT item FROM orders", "SELECT 1", b'I'),
    (GLOBEX, "SELECT item FROM orders", "SELECT 1", b'I'),
    (ACME, "SELECT item FROM orders", "SELECT 1", b'I'),
];

const LOCAL: &[(u64, &str, &str, u8)] = &[
    (ACME, "BEGIN", "BEGIN", b'T'),
    (ACME, "SELECT set_config('app.tenant_id', 'acme', true)", "SELECT 1", b'T'),
    (ACME, "SELECT item FROM orders", "SELECT 1", b'T'),
    (ACME, "COMMIT", "COMMIT", b'I'),
    (GLOBEX, "BEGIN", "BEGIN", b'T'),
    (GLOBEX, "SELECT set_config('app.tenant_id', 'globex', true)", "SELECT 1", b'T'),
    (GLOBEX, "SELECT item FROM orders", "SELECT 1", b'T'),
    (GLOBEX, "COMMIT", "COMMIT", b'I'),
];

const UNBOUND: &[(u64, &str, &str, u8)] = &[
    (ACME, "SELECT item FROM orders", "SELECT 1", b'I'),
    (GLOBEX, "SELECT item FROM orders", "SELECT 1", b'I'),
    (ACME, "SELECT item FROM orders", "SELECT 1", b'I'),
    (GLOBEX, "SELECT item FROM orders", "SELECT 1", b'I'),
    (ACME, "SELECT item FROM orders", "SELECT 1", b'I'),
    (GLOBEX, "SELECT item FROM orders", "SELECT 1", b'I'),
];

#[test]
fn a_session_binding_left_for_another_tenant_is_found() {
    let seen = all(&story(SESSION_SET));
    assert!(found(&seen).contains(&("pool-stale-binding", "globex".into(), "acme".into())), "{:?}", found(&seen));
    assert!(found(&seen).contains(&("session-set-under-pooler", "globex".into(), "acme".into())));
    let stale = seen.findings.iter().find(|f| f.rule == "pool-stale-binding").unwrap();
    assert_eq!(stale.class.name(), "wire");
    assert_eq!(stale.workload.name, "pooler");
    assert_eq!(stale.service.as_ref().unwrap().name, "database");
    assert_eq!(stale.evidence.len(), 2);
}

#[test]
fn a_binding_per_transaction_is_silent() {
    let seen = all(&story(LOCAL));
    assert_eq!(rules(&seen), BTreeSet::new(), "{:#?}", seen.findings);
    assert!(seen.operations.contains(&"data SELECT orders globex revalidated".to_owned()), "{:#?}", seen.operations);
}

#[test]
fn no_binding_at_all_is_found_in_both_directions() {
    let seen = all(&story(UNBOUND));
    let found = found(&seen);
    assert!(found.contains(&("pool-reuse-unrevalidated", "globex".into(), "acme".into())), "{found:?}");
    assert!(found.contains(&("pool-reuse-unrevalidated", "acme".into(), "globex".into())));
    assert!(found.contains(&("shared-service-unpartitioned", String::new(), String::new())));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_failed_transaction_leaves_the_earlier_binding() {
    let seen = all(&story(&[
        (ACME, "SET app.tenant_id = 'acme'", "SET", b'I'),
        (ACME, "SELECT item FROM orders", "SELECT 1", b'I'),
        (GLOBEX, "BEGIN", "BEGIN", b'T'),
        (GLOBEX, "SET app.tenant_id = 'globex'", "SET", b'T'),
        (GLOBEX, "SELECT 1/0 FROM orders", "ERROR", b'E'),
        (GLOBEX, "ROLLBACK", "ROLLBACK", b'I'),
        (GLOBEX, "SELECT item FROM orders", "SELECT 1", b'I'),
    ]));
    assert!(found(&seen).contains(&("pool-stale-binding", "globex".into(), "acme".into())));
}

#[test]
fn what_a_statement_may_have_done_unseen_makes_its_own_use_indeterminate() {
    let seen = all(&story(&[
        (ACME, "SELECT item FROM orders", "SELECT 1", b'I'),
        (GLOBEX, "SELECT set_current_tenant(7)", "SELECT 1", b'I'),
        (GLOBEX, "SELECT item FROM orders", "SELECT 1", b'I'),
    ]));
    assert_eq!(rules(&seen), BTreeSet::new(), "{:#?}", seen.operations);
}

#[test]
fn the_pooler_is_a_relay_and_no_socket_tells_what_the_other_one_does() {
    let steps = story(UNBOUND);
    let seen = all(&steps);
    // Three connections, six sockets: each delivers what it sends, and nothing twice.
    assert_eq!(seen.silenced.len(), 6, "{:?}", seen.silenced);
}

/// The client knows the pooler by a cluster address, the pooler its own: one connection all the same.
#[test]
fn a_translated_address_does_not_part_a_connection() {
    let cluster = addr("10.96.0.9:6432");
    let steps: Vec<Step> = story(SESSION_SET)
        .into_iter()
        .map(|step| match step {
            Step::Open { cookie, cgroup, local, peer, role: Role::Client, starts } if peer.port() == 6432 => {
                Step::Open { cookie, cgroup, local, peer: cluster, role: Role::Client, starts }
            }
            step => step,
        })
        .collect();
    let seen = all(&steps);
    assert!(found(&seen).contains(&("pool-stale-binding", "globex".into(), "acme".into())), "{:?}", found(&seen));
    let whole = all(&story(SESSION_SET));
    assert_eq!(seen.operations, whole.operations);
}

#[test]
fn mid_stream_nothing_is_known_until_something_is_proved() {
    let mut script = Script { mid_stream: true, ..Script::default() };
    through_pooler(&mut script, UNBOUND);
    let seen = all(&script.steps);
    assert_eq!(rules(&seen), BTreeSet::new());
    assert!(seen.operations.iter().any(|o| o.ends_with("indeterminate")), "{:#?}", seen.operations);

    let mut script = Script { mid_stream: true, ..Script::default() };
    let proof = [UNBOUND, SESSION_SET].concat();
    through_pooler(&mut script, &proof);
    let seen = all(&script.steps);
    assert!(found(&seen).contains(&("pool-stale-binding", "globex".into(), "acme".into())), "{:#?}", seen.operations);
}

#[test]
fn losing_any_event_never_makes_a_finding() {
    for (name, traffic) in [("session", SESSION_SET), ("local", LOCAL), ("unbound", UNBOUND)] {
        let steps = story(traffic);
        let whole = found(&all(&steps));
        // One copy of a segment, both, and runs of events; with and without the source noticing.
        for n in [1, 2, 3, 4, 5, 6, 8, 12] {
            for lost in 0..steps.len() {
                for noticed in [true, false] {
                    let seen = play(&steps, |i| !(lost..lost + n).contains(&i), noticed);
                    let new: Vec<_> = found(&seen).difference(&whole).cloned().collect();
                    assert!(new.is_empty(), "{name}: losing events {lost}..{} made {new:?}", lost + n);
                }
            }
        }
    }
}

/// Two tenants at once on two server connections, with equal statements and answers, whatever is lost of it.
#[test]
fn losing_any_event_of_interleaved_work_never_makes_a_finding() {
    let mut script = Script::default();
    let servers = [40_000, 40_001].map(|port| script.connect(POOLER, DATABASE, port, 5432));
    let acme = script.connect(ACME, POOLER, 41_000, 6432);
    let globex = script.connect(GLOBEX, POOLER, 41_001, 6432);
    for conn in [servers[0], servers[1], acme, globex] {
        script.start(conn, "app");
    }
    for round in 0..4 {
        let (a, b) = if round % 2 == 0 { (servers[0], servers[1]) } else { (servers[1], servers[0]) };
        for (acme_sql, globex_sql, tag, status) in [
            ("BEGIN", "BEGIN", "BEGIN", b'T'),
            (
                "SELECT set_config('app.tenant_id', 'acme', true)",
                "SELECT set_config('app.tenant_id', 'globex', true)",
                "SELECT 1",
                b'T',
            ),
            ("SELECT item FROM orders", "SELECT item FROM orders", "SELECT 1", b'T'),
            ("COMMIT", "COMMIT", "COMMIT", b'I'),
        ] {
            let reply = pg::reply(tag, status);
            script.send(acme, 0, pg::query(acme_sql));
            script.send(globex, 0, pg::query(globex_sql));
            script.send(b, 0, pg::query(globex_sql));
            script.send(a, 0, pg::query(acme_sql));
            script.send(a, 1, reply.clone());
            script.send(b, 1, reply.clone());
            script.send(globex, 1, reply.clone());
            script.send(acme, 1, reply);
        }
    }
    let steps = script.steps;
    let whole = all(&steps);
    assert!(whole.findings.is_empty(), "{:#?}", whole.findings);
    assert!(
        whole.operations.iter().filter(|o| o.ends_with("globex revalidated")).count() >= 8,
        "{:#?}",
        whole.operations
    );
    for n in [1, 2, 4, 7, 16] {
        for lost in 0..steps.len() {
            let seen = play(&steps, |i| !(lost..lost + n).contains(&i), false);
            assert!(seen.findings.is_empty(), "losing events {lost}..{}: {:#?}", lost + n, seen.findings);
        }
    }
}

/// The same story as a packet capture on loopback tells it: one view of each connection, and addresses only.
#[test]
fn a_capture_that_knows_addresses_only() {
    for (traffic, stale) in [(SESSION_SET, true), (LOCAL, false)] {
        let renamed = |a: SocketAddr| match a.port() {
            40_001 => addr("127.0.0.2:40001"),
            40_002 => addr("127.0.0.3:40002"),
            _ => a,
        };
        let steps: Vec<Step> = story(traffic)
            .into_iter()
            .filter_map(|step| match step {
                Step::Open { cookie, local, peer, role: Role::Client, starts, .. } => {
                    Some(Step::Open { cookie, cgroup: 0, local: renamed(local), peer, role: Role::Client, starts })
                }
                Step::Open { .. } => None,
                Step::Segment { cookie, .. } | Step::Close { cookie } if cookie % 2 == 1 => None,
                step => Some(step),
            })
            .collect();
        let mut engine = engine();
        for (ip, tenant) in [("127.0.0.2", "acme"), ("127.0.0.3", "globex")] {
            let fact = WorkloadFact {
                name: tenant.to_owned(),
                cgroup: String::new(),
                tenants: vec![tenant.to_owned()],
                role: None,
                owner: None,
            };
            // The port is the service's: clients of a tenant, whatever their own port.
            engine.add_address(&AddressFact { net: ip.parse().unwrap(), prefix: 32, port: Some(6432), fact });
        }
        let seen = play_on(engine, &steps, |_| true, false);
        let stale_found = found(&seen).contains(&("pool-stale-binding", "globex".into(), "acme".into()));
        assert_eq!(stale_found, stale, "{:#?} {:#?}", seen.operations, seen.findings);
        assert!(stale || seen.findings.is_empty());
    }
}

#[test]
fn the_same_input_gives_the_same_output() {
    let steps = story(SESSION_SET);
    let (a, b) = (all(&steps), all(&steps));
    assert_eq!(a.findings, b.findings);
    assert_eq!(a.operations, b.operations);
}
