//! Scripted traffic of many connections, and an allocator that counts: what the tests of memory share.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use monitor_core::detect::FindingEvent;
use monitor_core::engine::{Engine, Output, WorkloadFact};
use monitor_core::model::settings::Limits;
use monitor_core::model::{CgroupId, Direction, Event, Finding, Nanos, Role, Segment, Settings, SocketCookie};

/// The system's allocator, with a count of the bytes that are given out.
pub(crate) struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it came.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as above.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Default)]
pub(crate) struct Quiet {
    pub(crate) forgotten: Vec<u64>,
}

impl Output for Quiet {
    fn finding(&mut self, _: &Finding, _: FindingEvent) {}

    fn forgotten(&mut self, cookie: SocketCookie) {
        self.forgotten.push(cookie.0);
    }
}

/// What both sides say on a connection, in turn: `true` is the client.
pub(crate) type Says = &'static [(bool, &'static [u8])];

pub(crate) const REDIS: Says = &[(true, b"*3\r\n$3\r\nSET\r\n$6\r\norders\r\n$1\r\n1\r\n"), (false, b"+OK\r\n")];
/// Commands that nobody answers.
pub(crate) const REDIS_PIPELINE: Says = &[(
    true,
    b"PING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\n",
)];
pub(crate) const HTTP: Says = &[
    (true, b"GET /orders HTTP/1.1\r\nhost: shop\r\n\r\n"),
    (false, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
];
/// A head that is not whole.
pub(crate) const HTTP_HALF: Says = &[(
    true,
    b"POST /orders HTTP/1.1\r\nhost: shop\r\nx-a-rather-long-header: 0123456789012345678901234567890123456789\r\n",
)];
pub(crate) const POSTGRES: Says = &[
    (true, b"\0\0\0\x1e\0\x03\0\0user\0app\0database\0d\0\0"),
    (false, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"),
    (true, b"Q\0\0\0\x12SET a.b = 'c'\0"),
    (false, b"C\0\0\0\x08SET\0Z\0\0\0\x05I"),
];
pub(crate) const MYSQL: Says = &[
    (false, b"\x33\0\0\0\x0a8.4.0\0\x07\0\0\0saltsalt\0\x08\x82\x2d\x02\0\0\0\x15\0\0\0\0\0\0\0\0\0\0saltsaltsalt\0"),
    (true, b"\x2a\0\0\x01\x08\x82\0\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0app\0\0shop\0"),
    (false, b"\x07\0\0\x02\0\0\0\x02\0\0\0"),
    (true, b"\x15\0\0\0\x03SET @tenant_id = 'c'"),
    (false, b"\x07\0\0\x01\0\0\0\x02\0\0\0"),
];
pub(crate) const MEMCACHED: Says = &[(true, b"set orders 0 60 1\r\n1\r\n"), (false, b"STORED\r\n")];
pub(crate) const NATS: Says = &[
    (false, b"INFO {\"server_id\":\"a\",\"version\":\"2.9.0\",\"max_payload\":1048576}\r\n"),
    (true, b"CONNECT {\"verbose\":false}\r\nSUB orders 1\r\n"),
];
pub(crate) const MQTT: Says = &[(true, b"\x10\x0e\0\x04MQTT\x04\x02\0<\0\x02ab"), (false, b"\x20\x02\0\0")];
/// Not enough to tell what it is.
pub(crate) const UNDECIDED: Says = &[(true, b"x")];
pub(crate) const NOTHING: Says = &[];

/// Connections of clients of two tenants to one service, each seen at both of its sockets.
pub(crate) struct Net {
    pub(crate) engine: Engine,
    pub(crate) out: Quiet,
    pub(crate) at: Nanos,
    n: u64,
}

impl Net {
    pub(crate) fn new(limits: Limits) -> Self {
        let mut engine = Engine::new(Settings { limits, ..Settings::default() });
        for (id, tenant) in [(1, Some("acme")), (2, Some("globex")), (3, None)] {
            let fact = WorkloadFact {
                name: format!("workload-{id}"),
                cgroup: format!("/workload-{id}"),
                tenants: tenant.into_iter().map(str::to_owned).collect(),
                role: None,
                owner: None,
            };
            engine.learn_cgroup(Nanos(0), CgroupId(id), &fact);
        }
        Self { engine, out: Quiet::default(), at: Nanos::secs(1), n: 0 }
    }

    pub(crate) fn handle(&mut self, event: &Event<'_>) {
        self.engine.handle(event, &mut self.out);
    }

    /// One more connection; its number.
    pub(crate) fn talk(&mut self, port: u16, says: Says) -> u64 {
        self.n += 1;
        let n = self.n;
        self.at = self.at + Nanos(20_000);
        let [a, b, c, d] = (n as u32).to_be_bytes();
        let client = SocketAddr::from(([10, a, b, c], 1024 + u16::from(d)));
        let server = SocketAddr::from(([10, 255, 255, 1], port));
        let mut seq = [n as u32 * 7, n as u32 * 13];
        for (cookie, cgroup, local, peer, role, starts) in [
            (2 * n, 1 + n % 2, client, server, Role::Client, seq),
            (2 * n + 1, 3, server, client, Role::Server, [seq[1], seq[0]]),
        ] {
            let opened = Event::Opened {
                at: self.at,
                cookie: SocketCookie(cookie),
                cgroup: Some(CgroupId(cgroup)),
                local,
                peer,
                role,
                tx_start: Some(starts[0]),
                rx_start: Some(starts[1]),
            };
            self.handle(&opened);
        }
        for (by_client, bytes) in says {
            let (from, to) = if *by_client { (0, 1) } else { (1, 0) };
            let segment = Segment {
                at: self.at,
                cookie: SocketCookie(2 * n + from as u64),
                dir: Direction::Tx,
                seq: seq[from],
                ack: Some(seq[to]),
                len: bytes.len() as u32,
                bytes,
                thread: None,
            };
            self.handle(&Event::Segment(segment));
            seq[from] = seq[from].wrapping_add(bytes.len() as u32);
        }
        n
    }

    pub(crate) fn accounted(&self) -> usize {
        self.engine.tables().iter().find(|t| t.table == "memory_bytes").unwrap().entries
    }

    pub(crate) fn connections(&self) -> usize {
        self.engine.tables().iter().find(|t| t.table == "flows").unwrap().entries
    }
}

pub(crate) fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}
