//! Conversations for tests of what is left of them: those that were recorded of real clients and servers
//! (`monitor-core/tests/golden`), and what an engine makes of them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::path::Path;

use monitor_core::engine::{Engine, Output, WorkloadFact};
use monitor_core::model::{CloseReason, Direction, Event, Nanos, Role, Segment, SocketCookie};

/// What one side said, in order: by the client?, bytes.
pub type Said = Vec<(bool, Vec<u8>)>;

/// Every recorded conversation of a protocol: its name, and what was said.
pub fn recorded(protocol: &str) -> Vec<(String, Said)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitor-core/tests/golden").join(protocol);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let inputs = files.iter().filter(|p| p.extension().is_some_and(|e| e == "in"));
    inputs
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap().lines().filter_map(line).collect())
        })
        .collect()
}

fn line(line: &str) -> Option<(bool, Vec<u8>)> {
    let (side, hex) = line.split_once(' ')?;
    let client = match side {
        "C" => true,
        "S" => false,
        _ => return None,
    };
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    Some((client, (0..hex.len() / 2).map_while(|i| byte(i * 2)).collect()))
}

/// Events for an engine, with time that goes on.
pub struct Feed {
    pub engine: Engine,
    pub now: u64,
    n: u64,
}

impl Feed {
    /// An engine that knows the tenants `acme` (10.0.0.1) and `globex` (10.0.0.2); 10.0.0.9 serves.
    pub fn new(settings: monitor_core::model::Settings) -> Self {
        let mut engine = Engine::new(settings);
        for (ip, name, tenant) in [
            ("10.0.0.1", "acme-app", Some("acme")),
            ("10.0.0.2", "globex-app", Some("globex")),
            ("10.0.0.9", "server", None),
        ] {
            let fact = WorkloadFact {
                name: name.to_owned(),
                cgroup: String::new(),
                tenants: tenant.iter().map(|t| (*t).to_owned()).collect(),
                role: None,
                owner: None,
            };
            engine.learn_address(Nanos(1), ip.parse().unwrap(), &fact);
        }
        Self { engine, now: 1_000_000_000, n: 0 }
    }

    fn at(&mut self) -> Nanos {
        self.now += 1_000_000;
        Nanos(self.now)
    }

    /// Time passes.
    pub fn wait(&mut self, seconds: u64, out: &mut dyn Output) {
        for _ in 0..seconds {
            self.now += 1_000_000_000;
            self.engine.handle(&Event::Tick { at: Nanos(self.now) }, out);
        }
    }

    /// One connection from `client` (the last part of its address), from its beginning to its end.
    pub fn connection(&mut self, client: u8, port: u16, said: &[(bool, Vec<u8>)], out: &mut dyn Output) {
        self.n += 1;
        let cookie = SocketCookie(self.n);
        let local = SocketAddr::from(([10, 0, 0, client], 20_000 + u16::try_from(self.n % 40_000).unwrap()));
        let mut seq =
            [u32::try_from(self.n).unwrap().wrapping_mul(100_000), u32::try_from(self.n).unwrap().wrapping_mul(7)];
        let opened = Event::Opened {
            at: self.at(),
            cookie,
            cgroup: None,
            local,
            peer: SocketAddr::from(([10, 0, 0, 9], port)),
            role: Role::Client,
            tx_start: Some(seq[0]),
            rx_start: Some(seq[1]),
        };
        self.engine.handle(&opened, out);
        for (is_client, bytes) in said {
            let side = usize::from(!*is_client);
            let segment = Segment {
                at: self.at(),
                cookie,
                dir: if *is_client { Direction::Tx } else { Direction::Rx },
                seq: seq[side],
                ack: Some(seq[1 - side]),
                len: u32::try_from(bytes.len()).unwrap(),
                bytes,
                thread: None,
            };
            self.engine.handle(&Event::Segment(segment), out);
            seq[side] = seq[side].wrapping_add(u32::try_from(bytes.len()).unwrap());
        }
        let closed = Event::Closed { at: self.at(), cookie, reason: CloseReason::Closed };
        self.engine.handle(&closed, out);
    }
}
