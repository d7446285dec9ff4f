//! Stories that are told in clear elsewhere, told through TLS: every connection shakes hands first, and its process tells
//! the secrets. What is found is the same.

use rustc_hash::FxHashMap;
use rustls::CipherSuite;

use super::*;
use crate::model::settings::TlsScope;
use crate::model::tls::Unread;
use crate::model::{HandshakeSecret, Side};
use crate::tls::tests::talk::{Pair, Say, Step as Talk};

/// One event of a story.
#[derive(Clone, Debug)]
enum Ev {
    Step(Step),
    Told(HandshakeSecret),
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// At once.
    Direct,
    /// PostgreSQL's `SSLRequest` before.
    Asked,
    /// Through a proxy.
    Tunnel,
}

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
];
const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// What a client says to a proxy that is to let it through.
fn connect(server: SocketAddr) -> Vec<u8> {
    format!("CONNECT Orders.Example:{0} HTTP/1.1\r\nHost: orders.example:{0}\r\n\r\n", server.port()).into_bytes()
}

/// A connection on its way.
struct Sealed {
    server: SocketAddr,
    /// The client's socket and the server's.
    cookies: [u64; 2],
    cgroups: [u64; 2],
    seq: [u32; 2],
    groups: std::vec::IntoIter<Vec<Talk>>,
    begun: bool,
}

impl Sealed {
    fn send(&mut self, from: usize, bytes: &[u8], out: &mut Vec<Ev>) {
        let (seq, ack) = (self.seq[from], self.seq[1 - from]);
        self.seq[from] = seq.wrapping_add(bytes.len() as u32);
        for (cookie, dir) in [(self.cookies[from], Direction::Tx), (self.cookies[1 - from], Direction::Rx)] {
            out.push(Ev::Step(Step::Segment { cookie, dir, seq, ack, bytes: bytes.to_vec() }));
        }
    }

    /// Everything that is sent for one segment of the story.
    fn go_on(&mut self, out: &mut Vec<Ev>) {
        for step in self.groups.next().unwrap() {
            match step {
                Talk::Bytes(from, bytes, _) => self.send(usize::from(from == Side::Server), &bytes, out),
                // Told by the client's process.
                Talk::Told(secret) => {
                    out.push(Ev::Told(HandshakeSecret { cgroup: Some(CgroupId(self.cgroups[0])), ..secret }));
                }
                Talk::Hole(..) => {}
            }
        }
    }
}

/// The same story, sealed.
fn seal(steps: &[Step], suite: CipherSuite, start: Start) -> Vec<Ev> {
    let opens =
        |server: bool| move |s: &&Step| matches!(s, Step::Open { role, .. } if (*role == Role::Server) == server);
    let mut conns: Vec<Sealed> = Vec::new();
    for (client, server) in steps.iter().filter(opens(false)).zip(steps.iter().filter(opens(true))) {
        let (
            Step::Open { cookie: a, cgroup: ca, peer, starts: Some((sa, sb)), .. },
            Step::Open { cookie: b, cgroup: cb, .. },
        ) = (client, server)
        else {
            panic!("seen from its start");
        };
        let say = |s: &Step| match s {
            Step::Segment { cookie, dir: Direction::Tx, bytes, .. } if cookie == a => {
                Some(Say::Bytes(Side::Client, bytes.clone()))
            }
            Step::Segment { cookie, dir: Direction::Tx, bytes, .. } if cookie == b => {
                Some(Say::Bytes(Side::Server, bytes.clone()))
            }
            _ => None,
        };
        let script: Vec<Say> = steps.iter().filter_map(say).collect();
        conns.push(Sealed {
            server: *peer,
            cookies: [*a, *b],
            cgroups: [*ca, *cb],
            seq: [*sa, *sb],
            groups: Pair::new(suite).talk_by_turns(b"", &script).into_iter(),
            begun: false,
        });
    }
    let mut out = Vec::new();
    for step in steps {
        let Step::Segment { cookie, dir, .. } = step else {
            out.push(Ev::Step(step.clone()));
            continue;
        };
        let Some(conn) = conns.iter_mut().find(|c| c.cookies.contains(cookie)) else { continue };
        if *dir == Direction::Rx {
            continue;
        }
        if !conn.begun {
            conn.begun = true;
            if start == Start::Asked {
                conn.send(0, SSL_REQUEST, &mut out);
                conn.send(1, b"S", &mut out);
            }
            if start == Start::Tunnel {
                conn.send(0, &connect(conn.server), &mut out);
                conn.send(1, CONNECTED, &mut out);
            }
            conn.go_on(&mut out);
        }
        conn.go_on(&mut out);
    }
    out
}

fn reads_tls() -> Engine {
    let show = Show { names: vec!["*".to_owned()], ..Show::default() };
    engine_with(Settings { operations: true, show, tls: Some(TlsScope::default()), ..Settings::default() })
}

fn play_sealed(mut engine: Engine, story: &[Ev]) -> (Seen, Engine) {
    let (mut seen, mut at) = (Seen::default(), Nanos::secs(1));
    for ev in story {
        at = at + Nanos::millis(1);
        match ev {
            Ev::Step(step) => engine.handle(&step.event(at), &mut seen),
            Ev::Told(secret) => {
                engine.handle(&Event::TlsSecret(&HandshakeSecret { at, ..secret.clone() }), &mut seen);
            }
        }
    }
    for second in 1..=12 {
        engine.handle(&Event::Tick { at: at + Nanos::secs(second) }, &mut seen);
    }
    engine.finish(at + Nanos::secs(13), &mut seen);
    let s = engine.stats();
    assert_eq!(s.bytes_seen, s.bytes_decoded + s.bytes_opaque + s.bytes_truncated + s.bytes_lost);
    assert!(s.bytes_tls_unread.values().sum::<u64>() <= s.bytes_opaque);
    (seen, engine)
}

fn classes(seen: &Seen) -> BTreeSet<String> {
    let class = |f: &Finding| format!("{} {:?} {:?}", f.rule, f.severity, f.class);
    seen.findings.iter().map(class).collect()
}

#[test]
fn what_is_found_through_tls_is_what_is_found_in_clear() {
    for proof in [SESSION_SET, LOCAL] {
        let clear = all(&story(proof));
        for suite in SUITES {
            for start in [Start::Direct, Start::Asked] {
                let (seen, engine) = play_sealed(reads_tls(), &seal(&story(proof), suite, start));
                assert_eq!(seen.operations, clear.operations, "{suite:?} {start:?}");
                assert_eq!(found(&seen), found(&clear), "{suite:?} {start:?}");
                assert_eq!(classes(&seen), classes(&clear), "{suite:?} {start:?}");
                let s = engine.stats();
                assert_eq!((s.tls_read, s.bytes_opaque, s.tls_unread.len()), (3, 0, 0), "{suite:?} {start:?}");
            }
        }
    }
}

#[test]
fn secrets_may_name_no_connection_or_come_twice_or_late() {
    let clear = all(&story(SESSION_SET));
    for suite in SUITES {
        let sealed = seal(&story(SESSION_SET), suite, Start::Asked);
        let change = |f: &dyn Fn(&HandshakeSecret) -> Vec<Ev>| -> Vec<Ev> {
            let one = |ev: &Ev| match ev {
                Ev::Told(secret) => f(secret),
                step => vec![step.clone()],
            };
            sealed.iter().flat_map(one).collect()
        };
        let unnamed = change(&|s| vec![Ev::Told(HandshakeSecret { client_random: None, ..s.clone() })]);
        let twice = change(&|s| vec![Ev::Told(s.clone()), Ev::Told(s.clone())]);
        for story in [unnamed, twice] {
            let (seen, _) = play_sealed(reads_tls(), &story);
            assert_eq!((seen.operations, classes(&all(&[]))), (clear.operations.clone(), BTreeSet::new()));
            assert_eq!(found(&play_sealed(reads_tls(), &story).0), found(&clear), "{suite:?}");
        }
        // All of them before the connections end: read late, in order of each connection; nobody is accused of anything else.
        let mut late = sealed.clone();
        late.sort_by_key(|ev| match ev {
            Ev::Step(Step::Close { .. }) => 2,
            Ev::Told(_) => 1,
            Ev::Step(_) => 0,
        });
        let (seen, engine) = play_sealed(reads_tls(), &late);
        assert_eq!(engine.stats().tls_read, 3);
        assert!(found(&seen).is_subset(&found(&clear)), "{:?}", found(&seen));
    }
}

#[test]
fn without_secrets_or_when_it_is_off_nothing_is_read_and_why_is_counted() {
    for suite in SUITES {
        let sealed = seal(&story(SESSION_SET), suite, Start::Asked);
        let untold: Vec<Ev> = sealed.iter().filter(|ev| matches!(ev, Ev::Step(_))).cloned().collect();
        let (seen, engine) = play_sealed(reads_tls(), &untold);
        assert!(seen.findings.is_empty() && seen.operations.is_empty());
        assert_eq!(engine.stats().tls_unread.get(&Unread::NoSecret), Some(&3));
        assert!(engine.stats().bytes_tls_unread[&Unread::NoSecret] > 0);
        let mut engine = reads_tls();
        for cgroup in [POOLER, DATABASE, ACME, GLOBEX] {
            engine.tls_blind(CgroupId(cgroup), Unread::Java);
        }
        let (_, engine) = play_sealed(engine, &untold[..untold.len() - 6]);
        assert!(engine.stats().tls_unread.contains_key(&Unread::Java), "{:?}", engine.stats().tls_unread);
        // Off, or of another service.
        for tls in [None, Some(TlsScope { services: vec!["elsewhere".to_owned()] })] {
            let off = engine_with(Settings { operations: true, tls, ..Settings::default() });
            let (seen, engine) = play_sealed(off, &sealed);
            assert!(seen.findings.is_empty() && seen.operations.is_empty());
            assert_eq!(engine.stats().tls_unread.get(&Unread::Off), Some(&3));
        }
    }
}

#[test]
fn whatever_is_lost_of_it_nobody_else_is_accused_and_nothing_is_cleared() {
    let clear = all(&story(SESSION_SET));
    for suite in [SUITES[0], SUITES[2]] {
        let sealed = seal(&story(SESSION_SET), suite, Start::Asked);
        for lost in 0..sealed.len() {
            // A segment is lost at both sockets, a secret from wherever it is told.
            let same = |ev: &Ev| match (ev, &sealed[lost]) {
                (
                    Ev::Step(Step::Segment { bytes: a, seq: m, .. }),
                    Ev::Step(Step::Segment { bytes: b, seq: n, .. }),
                ) => a == b && m == n,
                (Ev::Told(a), Ev::Told(b)) => a.secret == b.secret,
                _ => false,
            };
            let rest: Vec<Ev> = sealed.iter().filter(|ev| !same(ev)).cloned().collect();
            let (seen, _) = play_sealed(reads_tls(), &rest);
            assert!(found(&seen).is_subset(&found(&clear)), "{suite:?} without {lost}: {:?}", found(&seen));
        }
    }
}

#[test]
fn a_changed_record_ends_the_reading_and_accuses_nobody() {
    let clear = all(&story(SESSION_SET));
    let sealed = seal(&story(SESSION_SET), SUITES[0], Start::Direct);
    let mut why = BTreeSet::new();
    for at in 0..sealed.len() {
        let Ev::Step(Step::Segment { bytes, .. }) = &sealed[at] else { continue };
        let mut changed = sealed.clone();
        let whole = bytes.clone();
        for ev in &mut changed {
            if let Ev::Step(Step::Segment { bytes, .. }) = ev
                && *bytes == whole
            {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
        }
        let (seen, engine) = play_sealed(reads_tls(), &changed);
        assert!(found(&seen).is_subset(&found(&clear)), "{at}");
        why.extend(engine.stats().tls_unread.keys().map(|why| why.name()));
    }
    assert!(why.contains("not_authentic"), "{why:?}");
}

#[test]
fn a_story_without_tls_is_not_changed_by_reading_it() {
    let clear = all(&story(SESSION_SET));
    let seen = play_on(reads_tls(), &story(SESSION_SET), |_| true, false);
    assert_eq!((seen.operations.clone(), found(&seen)), (clear.operations.clone(), found(&clear)));
}

/// What is told of the TLS of a service.
fn tls_of(engine: &Engine, name: &str) -> Option<super::super::TlsView> {
    let mut named = engine.services().into_iter().filter(|s| s.name == name);
    let (one, other) = (named.next()?, named.next());
    assert!(other.is_none(), "{name} is there twice");
    one.tls
}

/// As an agent sees it that began after the handshakes.
fn joined_late(sealed: &[Ev]) -> Vec<Ev> {
    let after = |ev: &Ev| match ev {
        Ev::Step(Step::Open { cookie, cgroup, local, peer, .. }) => Some(Ev::Step(Step::Open {
            cookie: *cookie,
            cgroup: *cgroup,
            local: *local,
            peer: *peer,
            role: Role::Unknown,
            starts: None,
        })),
        // Application data alone.
        Ev::Step(Step::Segment { bytes, .. }) if bytes.first() != Some(&23) => None,
        Ev::Told(_) => None,
        Ev::Step(step) => Some(Ev::Step(step.clone())),
    };
    sealed.iter().filter_map(after).collect()
}

#[test]
fn services_say_what_is_read_of_their_tls_and_who_would_have_to_begin_anew() {
    let sealed = seal(&story(SESSION_SET), SUITES[0], Start::Asked);
    let (_, engine) = play_sealed(reads_tls(), &sealed);
    let database = tls_of(&engine, "database").unwrap();
    assert_eq!((database.read, database.unread.len(), database.n_bytes_unread()), (1, 0, 0));
    assert!(database.bytes_read > 1_000 && database.restart.is_empty());
    assert_eq!(
        (database.protocols, database.server_names),
        (vec![("http/1.1", 1)], vec![("db.example".to_owned(), 1)])
    );
    assert_eq!(tls_of(&engine, "pooler").unwrap().read, 2);

    // Who was there before: by whose connections, as long as they are open.
    let (mut seen, mut engine) = (Seen::default(), reads_tls());
    for (n, ev) in (1..).zip(joined_late(&sealed)) {
        let Ev::Step(step) = ev else { continue };
        if !matches!(step, Step::Close { .. }) {
            engine.handle(&step.event(Nanos::secs(1) + Nanos::millis(n)), &mut seen);
        }
    }
    let database = tls_of(&engine, "database").unwrap();
    assert_eq!((database.read, database.bytes_read), (0, 0));
    assert_eq!(database.unread, [("older_than_agent", 1)]);
    assert_eq!(database.bytes_unread.len(), 1);
    let whose: Vec<_> = database.restart.iter().map(|r| (r.workload.as_str(), r.reason, r.connections)).collect();
    assert_eq!(whose, [("pooler", "older_than_agent", 1)]);
    let pooler = tls_of(&engine, "pooler").unwrap();
    let whose: Vec<_> = pooler.restart.iter().map(|r| r.workload.as_str()).collect();
    assert_eq!(whose, ["acme-agent", "globex-agent"]);
    for step in joined_late(&sealed) {
        if let Ev::Step(step @ Step::Close { .. }) = step {
            engine.handle(&step.event(Nanos::secs(9)), &mut seen);
        }
    }
    assert!(tls_of(&engine, "pooler").unwrap().restart.is_empty(), "they are gone");

    // Whose secrets nobody tells is not helped by beginning anew; who told some before is.
    let untold: Vec<Ev> = sealed.iter().filter(|ev| matches!(ev, Ev::Step(_))).cloned().collect();
    let open = |ev: &&Ev| !matches!(ev, Ev::Step(Step::Close { .. }));
    let untold: Vec<Ev> = untold.iter().filter(open).cloned().collect();
    let (_, engine) = play_sealed(reads_tls(), &untold);
    let database = tls_of(&engine, "database").unwrap();
    assert_eq!((database.unread, database.restart), (vec![("no_secret", 1)], vec![]));

    // Where nobody wants to know, nothing is told, and no service is made up.
    let (_, engine) = play_sealed(engine_with(Settings::default()), &sealed);
    assert!(engine.services().iter().all(|s| s.tls.is_none()));
}

/// Without the operations by which tunnels are asked for, and without the numbers of requests.
fn behind_tunnels(seen: &Seen) -> Vec<String> {
    seen.operations.iter().filter(|o| !o.contains("CONNECT")).cloned().collect()
}

#[test]
fn what_a_proxy_lets_through_is_read_as_the_connection_of_its_own_that_it_is() {
    for proof in [SESSION_SET, LOCAL] {
        let clear = all(&story(proof));
        for suite in SUITES {
            let (seen, engine) = play_sealed(reads_tls(), &seal(&story(proof), suite, Start::Tunnel));
            assert_eq!(behind_tunnels(&seen), clear.operations, "{suite:?}");
            assert_eq!((found(&seen), classes(&seen)), (found(&clear), classes(&clear)), "{suite:?}");
            assert_eq!((engine.stats().tls_read, engine.stats().bytes_opaque), (3, 0), "{suite:?}");
            for (name, n) in [("orders.example:5432", 1), ("orders.example:6432", 2)] {
                let behind = tls_of(&engine, name).unwrap();
                assert_eq!((behind.read, behind.n_bytes_unread()), (n, 0));
            }
        }
        // In clear.
        let (seen, engine) = play_sealed(reads_tls(), &in_tunnels(&story(proof), CONNECTED));
        assert_eq!(behind_tunnels(&seen), clear.operations);
        assert_eq!((found(&seen), engine.stats().bytes_opaque), (found(&clear), 0));
        // A proxy that refuses opens nothing; one whose answer hides the beginning leaves it open what was proved.
        let refused = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
        let (seen, _) = play_sealed(reads_tls(), &in_tunnels(&story(proof), refused));
        assert!(found(&seen).is_empty());
        let more = [CONNECTED, b"?"].concat();
        let (seen, _) = play_sealed(reads_tls(), &in_tunnels(&story(proof), &more));
        assert!(found(&seen).is_subset(&found(&clear)), "{:?}", found(&seen));
    }
}

/// The same story, each connection through a proxy that answers so.
fn in_tunnels(steps: &[Step], answer: &[u8]) -> Vec<Ev> {
    let mut moved: FxHashMap<(u64, Direction), u32> = FxHashMap::default();
    let mut out = Vec::new();
    let mut sockets = Vec::new();
    for step in steps {
        match step {
            Step::Open { cookie, role, local, peer, starts: Some((own, other)), .. } => {
                let server = if *role == Role::Client { *peer } else { *local };
                sockets.push((*cookie, *role, *own, *other, server));
                out.push(Ev::Step(step.clone()));
            }
            Step::Segment { cookie, dir, seq, ack, bytes } => {
                if !moved.contains_key(&(*cookie, Direction::Tx)) {
                    let at = sockets.iter().position(|s| s.0 == *cookie).unwrap();
                    // Both ends were opened one after the other.
                    let pair = &sockets[at & !1..][..2];
                    let client = pair.iter().find(|s| s.1 == Role::Client).unwrap();
                    let ask = connect(client.4);
                    for (socket, role, ..) in pair {
                        let both = (ask.as_slice(), answer);
                        let (says, hears) = if *role == Role::Client { both } else { (both.1, both.0) };
                        moved.insert((*socket, Direction::Tx), says.len() as u32);
                        moved.insert((*socket, Direction::Rx), hears.len() as u32);
                    }
                    for (text, seq, ack, from_client) in [
                        (ask.as_slice(), client.2, client.3, true),
                        (answer, client.3, client.2.wrapping_add(ask.len() as u32), false),
                    ] {
                        for (socket, role, ..) in pair {
                            let dir =
                                if (*role == Role::Client) == from_client { Direction::Tx } else { Direction::Rx };
                            let bytes = text.to_vec();
                            out.push(Ev::Step(Step::Segment { cookie: *socket, dir, seq, ack, bytes }));
                        }
                    }
                }
                let other = if *dir == Direction::Tx { Direction::Rx } else { Direction::Tx };
                out.push(Ev::Step(Step::Segment {
                    cookie: *cookie,
                    dir: *dir,
                    seq: seq.wrapping_add(moved[&(*cookie, *dir)]),
                    ack: ack.wrapping_add(moved[&(*cookie, other)]),
                    bytes: bytes.clone(),
                }));
            }
            other => out.push(Ev::Step(other.clone())),
        }
    }
    out
}

/// A service that tenants share, whose handshakes are with its clients and with its database.
fn shared_story(late: bool) -> (Seen, Seen) {
    let mut scene = super::shared_service::Scene::new(1);
    scene.one_at_a_time(60, super::shared_service::unbound);
    let steps = scene.script.steps;
    let clear = all(&steps);
    let mut sealed = seal(&steps, SUITES[0], Start::Direct);
    if late {
        // Each secret is told after what it opens: as if both were read at once.
        let mut n = 0;
        while n + 1 < sealed.len() {
            if matches!((&sealed[n], &sealed[n + 1]), (Ev::Told(_), Ev::Step(Step::Segment { .. }))) {
                sealed.swap(n, n + 1);
            }
            n += 1;
        }
    }
    (clear, play_sealed(reads_tls(), &sealed).0)
}

#[test]
fn behind_a_shared_process_nobody_is_taken_for_hidden_who_was_read() {
    for late in [false, true] {
        let (clear, seen) = shared_story(late);
        // The handshakes take time: what waits for its turn is told in another order.
        let sorted = |seen: &Seen| {
            let mut all = seen.operations.clone();
            all.sort();
            all
        };
        assert_eq!(sorted(&seen), sorted(&clear), "late: {late}");
        assert_eq!((found(&seen), classes(&seen)), (found(&clear), classes(&clear)), "late: {late}");
        assert!(!found(&seen).is_empty());
    }
}

/// A server that accepts when data has come has no socket before: its library tells secrets without naming the connection.
#[test]
fn who_accepts_late_is_read_by_his_own_secrets() {
    let clear = all(&story(SESSION_SET));
    let sealed = seal(&story(SESSION_SET), SUITES[0], Start::Direct);
    let servers: Vec<(u64, u64)> = sealed
        .iter()
        .filter_map(|ev| match ev {
            Ev::Step(Step::Open { cookie, cgroup, role: Role::Server, .. }) => Some((*cookie, *cgroup)),
            _ => None,
        })
        .collect();
    let mut late: Vec<Ev> = Vec::new();
    let mut opens: Vec<Ev> = Vec::new();
    for ev in sealed {
        match &ev {
            Ev::Step(Step::Open { role: Role::Server, .. }) => {
                opens.push(ev);
                continue;
            }
            // The server hears the first bytes as its socket comes to be.
            Ev::Step(Step::Segment { cookie, dir: Direction::Rx, .. }) => {
                let own = |open: &Ev| matches!(open, Ev::Step(Step::Open { cookie: c, .. }) if c == cookie);
                if let Some(at) = opens.iter().position(own) {
                    late.push(opens.remove(at));
                }
            }
            _ => {}
        }
        late.push(ev);
    }
    // Told by whoever listens, of whichever connection.
    let mut told = Vec::new();
    for (n, ev) in late.iter().enumerate() {
        let Ev::Told(secret) = ev else { continue };
        let before = late[..n].iter().rev();
        let server = before.filter_map(|ev| match ev {
            Ev::Step(Step::Segment { cookie, .. }) => servers.iter().find(|(c, _)| c == cookie).map(|(_, g)| *g),
            _ => None,
        });
        let cgroup = server.into_iter().next().map(CgroupId);
        told.push((n, HandshakeSecret { client_random: None, cgroup, ..secret.clone() }));
    }
    for (n, secret) in told {
        late[n] = Ev::Told(secret);
    }
    let (seen, engine) = play_sealed(reads_tls(), &late);
    assert_eq!((engine.stats().tls_read, engine.stats().tls_unread.len()), (3, 0));
    assert_eq!(found(&seen), found(&clear));
}
