//! The work for one event does not grow with the connections, requests and messages that are there: held on a count of
//! steps over n, 2 n and 4 n (`model/steps.rs`).

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::model::settings::Limits;
use crate::model::steps::tests::assert_flat;

const SERVER: u32 = 0x0a00_0001;
const BACKEND: u32 = 0x0a00_0002;
const HALF: &[u8] = b"GET /orders HTTP/1.1\r\nHost: shop\r\n";
const WHOLE: &[u8] = b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sockets of a capture: connections are known by their addresses, events are so far apart.
struct Net {
    engine: Engine,
    seen: Seen,
    at: Nanos,
    apart: Nanos,
    /// Of each connection, by its cookie less one: what client and server sent so far.
    sent: Vec<[u32; 2]>,
}

fn at_ip(ip: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(ip))
}

impl Net {
    fn new(apart: Nanos) -> Self {
        Self::with(apart, Settings { operations: true, ..Settings::default() })
    }

    fn with(apart: Nanos, settings: Settings) -> Self {
        let engine = Engine::new(settings);
        Self { engine, seen: Seen::default(), at: Nanos::secs(1), apart, sent: Vec::new() }
    }

    fn event(&mut self, event: &Event<'_>) {
        self.engine.handle(event, &mut self.seen);
        self.at = self.at + self.apart;
    }

    /// A connection from `client`; its cookie.
    fn connect(&mut self, client: u32, server: (u32, u16)) -> u64 {
        let cookie = self.sent.len() as u64 + 1;
        // Numbers of its own: a connection is known by them, too.
        let starts = [1_000 * u32::try_from(cookie).unwrap(), 1 << 31];
        self.sent.push(starts);
        let port = 1024 + u16::try_from(cookie % 60_000).unwrap();
        let event = Event::Opened {
            at: self.at,
            cookie: SocketCookie(cookie),
            cgroup: None,
            local: SocketAddr::new(at_ip(client), port),
            peer: SocketAddr::new(at_ip(server.0), server.1),
            role: Role::Client,
            tx_start: Some(starts[0]),
            rx_start: Some(starts[1]),
        };
        self.event(&event);
        cookie
    }

    /// Bytes of the client (0) or the server (1), after `hole` bytes that nobody saw.
    fn send(&mut self, cookie: u64, from: usize, hole: u32, bytes: &[u8]) {
        let sent = &mut self.sent[cookie as usize - 1];
        let seq = sent[from] + hole;
        sent[from] = seq + u32::try_from(bytes.len()).unwrap();
        // What was not seen is not acknowledged either: it may come yet.
        let segment = Segment {
            at: self.at,
            cookie: SocketCookie(cookie),
            dir: if from == 0 { Direction::Tx } else { Direction::Rx },
            seq,
            ack: None,
            len: u32::try_from(bytes.len()).unwrap(),
            bytes,
            thread: None,
        };
        self.event(&Event::Segment(segment));
    }

    fn close(&mut self, cookie: u64) {
        self.event(&Event::Closed { at: self.at, cookie: SocketCookie(cookie), reason: CloseReason::Closed });
    }

    fn end(mut self) -> Seen {
        self.engine.finish(self.at, &mut self.seen);
        self.seen
    }
}

fn client(n: u64) -> u32 {
    0x0b00_0000 + u32::try_from(n).unwrap()
}

fn closely() -> Net {
    Net::new(Nanos(1_000))
}

#[test]
fn each_from_an_address_of_its_own_with_a_request_that_is_not_whole() {
    for apart in [Nanos(1_000), Nanos::secs(1)] {
        assert_flat("new addresses", 300, |n| {
            let mut net = Net::new(apart);
            for i in 0..n {
                let c = net.connect(client(i), (SERVER, 80));
                net.send(c, 0, 0, HALF);
            }
            net.end();
        });
    }
}

#[test]
fn many_requests_one_after_the_other_on_one_connection_of_nobody_known() {
    for apart in [Nanos(1_000), Nanos::millis(200)] {
        assert_flat("requests on one connection", 300, |n| {
            let mut net = Net::new(apart);
            let c = net.connect(client(0), (SERVER, 80));
            for _ in 0..n {
                net.send(c, 0, 0, WHOLE);
                net.send(c, 1, 0, ANSWER);
            }
            let seen = net.end();
            assert_eq!(seen.operations.len() as u64, n);
        });
    }
}

/// A gateway that many come to with the same request, and that asks one backend the same.
#[test]
fn equal_requests_of_many_that_wait_at_one_gateway() {
    assert_flat("equal requests at a gateway", 300, |n| {
        let mut net = closely();
        let upstream = net.connect(SERVER, (BACKEND, 8080));
        net.send(upstream, 0, 0, WHOLE);
        net.send(upstream, 1, 0, ANSWER);
        let clients: Vec<u64> = (0..n).map(|i| net.connect(client(i), (SERVER, 80))).collect();
        for c in &clients {
            net.send(*c, 0, 0, WHOLE);
        }
        for c in &clients {
            net.send(upstream, 0, 0, WHOLE);
            net.send(upstream, 1, 0, ANSWER);
            net.send(*c, 1, 0, ANSWER);
        }
        for c in clients {
            net.close(c);
        }
        net.end();
    });
}

#[test]
fn connections_of_many_that_lose_bytes_and_close() {
    assert_flat("gaps", 300, |n| {
        let mut net = closely();
        let upstream = net.connect(SERVER, (BACKEND, 8080));
        net.send(upstream, 0, 0, WHOLE);
        let all: Vec<u64> = (0..n).map(|i| net.connect(client(i), (SERVER, 80))).collect();
        for c in &all {
            net.send(*c, 0, 0, WHOLE);
            net.send(*c, 0, 9, WHOLE);
        }
        // Everything waits behind a hole now, until each is closed.
        for c in all {
            net.close(c);
        }
        net.end();
    });
}

/// One a second, so that each of them is met by the timers with all the others.
#[test]
fn holes_of_many_while_little_happens() {
    assert_flat("holes", 300, |n| {
        let mut net = Net::new(Nanos::secs(1));
        for i in 0..n {
            let c = net.connect(client(i), (SERVER, 80));
            net.send(c, 0, 0, WHOLE);
            net.send(c, 0, 9, WHOLE);
        }
        net.end();
    });
}

#[test]
fn names_that_come_late_for_addresses_of_many() {
    assert_flat("late names", 300, |n| {
        let mut net = closely();
        for i in 0..n {
            net.connect(client(i), (SERVER, 80));
        }
        for i in 0..n {
            let named = |tenant: Option<&str>| WorkloadFact {
                name: format!("agent-{i}"),
                cgroup: String::new(),
                tenants: tenant.into_iter().map(str::to_owned).collect(),
                role: None,
                owner: None,
            };
            net.engine.learn_address(net.at, at_ip(client(i)), &named(None));
            net.engine.learn_address(net.at, at_ip(client(i)), &named(Some("acme")));
        }
        net.end();
    });
}

#[test]
fn room_for_one_more_is_made_without_a_look_at_all() {
    assert_flat("evictions", 300, |n| {
        let limits = Limits { flows: usize::try_from(n).unwrap(), ..Limits::default() };
        let mut net = Net::with(Nanos(1_000), Settings { limits, ..Settings::default() });
        for i in 0..2 * n {
            let c = net.connect(client(i), (SERVER, 80));
            net.send(c, 0, 0, HALF);
        }
        assert_eq!(net.engine.stats().flows_evicted, n);
        net.end();
    });
}

#[test]
fn the_idlest_makes_room() {
    let limits = Limits { flows: 3, ..Limits::default() };
    let mut net = Net::with(Nanos(1_000), Settings { limits, operations: true, ..Settings::default() });
    let [a, b, c] = [1, 2, 3].map(|i| net.connect(client(i), (SERVER, 80)));
    for conn in [a, c] {
        net.send(conn, 0, 0, WHOLE);
    }
    net.connect(client(4), (SERVER, 80));
    for conn in [a, b, c] {
        net.send(conn, 1, 0, ANSWER);
    }
    assert_eq!((net.engine.stats().flows_evicted, net.engine.stats().orphans), (1, 1));
}

#[test]
fn commands_in_one_pipeline_and_their_replies() {
    assert_flat("a pipeline", 200, |n| {
        let mut net = closely();
        let c = net.connect(client(0), (SERVER, 6379));
        for _ in 0..n {
            net.send(c, 0, 0, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        }
        for _ in 0..n {
            net.send(c, 1, 0, b"$1\r\nv\r\n");
        }
        net.end();
    });
}

/// One a second, so that rules look at what they know again and again.
#[test]
fn tenants_of_one_service_and_findings_while_little_happens() {
    assert_flat("tenants", 100, |n| {
        let mut net = Net::new(Nanos::secs(1));
        for i in 0..n {
            let fact = WorkloadFact {
                name: format!("agent-{i}"),
                cgroup: String::new(),
                tenants: vec![format!("tenant-{i}")],
                role: None,
                owner: None,
            };
            net.engine.learn_address(net.at, at_ip(client(i)), &fact);
            let c = net.connect(client(i), (SERVER, 6379));
            for _ in 0..3 {
                net.send(c, 0, 0, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
                net.send(c, 1, 0, b"$1\r\nv\r\n");
            }
        }
        net.end();
    });
}

/// A subscriber that confirms nothing: what it has is not looked through for each message more.
#[test]
fn deliveries_that_nobody_confirms() {
    assert_flat("deliveries", 200, |n| {
        let mut net = closely();
        let c = net.connect(client(0), (SERVER, 1883));
        net.send(c, 0, 0, b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c");
        net.send(c, 1, 0, b"\x20\x02\0\0");
        for i in 0..n {
            let [high, low] = u16::try_from(i + 1).unwrap().to_be_bytes();
            net.send(c, 1, 0, &[0x32, 7, 0, 1, b't', high, low, b'h', b'i']);
        }
        let seen = net.end();
        assert_eq!(seen.operations.iter().filter(|o| o.starts_with("deliver")).count() as u64, n);
    });
}
