//! Mixed conversations with faults, for as long as is asked for: what is held stays within its bound, and flat.
//!
//! `cargo xtask soak --for 1h` gives the time in `LEASEWARDEN_SOAK` (seconds). Without, it is a few rounds.

#![allow(clippy::indexing_slicing, reason = "a test that panics fails")]
#![expect(clippy::disallowed_methods, reason = "it goes on for as long as is asked for")]

#[path = "common/flood.rs"]
mod flood;

use std::time::{Duration, Instant};

use flood::{HTTP, HTTP_HALF, MQTT, NATS, Net, POSTGRES, REDIS, REDIS_PIPELINE, Says, UNDECIDED, held};
use monitor_core::engine::WorkloadFact;
use monitor_core::model::settings::Limits;
use monitor_core::model::{CgroupId, CloseReason, Event, LossStage, Nanos, SocketCookie};

const MIX: [(u16, Says); 8] = [
    (6379, REDIS),
    (6379, REDIS_PIPELINE),
    (80, HTTP),
    (80, HTTP_HALF),
    (5432, POSTGRES),
    (4222, NATS),
    (1883, MQTT),
    (9, UNDECIDED),
];
/// Connections of a round.
const ROUND: u64 = 10_000;
/// Connections held open at a time.
const HELD: usize = 50_000;
/// Bytes that connections may take.
const MEMORY: usize = 64 << 20;
/// What tables of a fixed length may hold beside it.
const APART: usize = 32 << 20;
/// How much more the last quarter may hold than the second.
const FLAT: f64 = 1.15;

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn one_in(&mut self, n: u64) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).is_multiple_of(n)
    }
}

fn round(net: &mut Net, dice: &mut Dice, no: u64) {
    for i in 0..ROUND {
        let (port, says) = MIX[(i % MIX.len() as u64) as usize];
        let n = net.talk(port, says);
        if dice.one_in(3) {
            for cookie in [2 * n, 2 * n + 1] {
                let cookie = SocketCookie(cookie);
                net.handle(&Event::Closed { at: net.at, cookie, reason: CloseReason::Closed });
            }
        }
        if dice.one_in(500) {
            let of = dice.one_in(2).then_some(CgroupId(3));
            net.handle(&Event::Lost {
                at: net.at,
                stage: LossStage::Kernel,
                reason: "ring_full_segment",
                count: 1,
                of,
            });
        }
        if dice.one_in(50) {
            let (id, name) = (CgroupId(1_000_000 + no * ROUND + i), format!("pod-{no}-{i}"));
            let fact = WorkloadFact {
                cgroup: format!("/{name}"),
                name,
                tenants: vec!["acme".to_owned()],
                role: None,
                owner: None,
            };
            net.engine.learn_cgroup(net.at, id, &fact);
            net.engine.forget_cgroup(net.at, id);
        }
        if dice.one_in(100) {
            // The machine stood still, or its clock did.
            net.at = net.at + Nanos::millis(40);
            net.handle(&Event::Tick { at: Nanos(net.at.0 - 1_000_000) });
        }
    }
    net.out.forgotten.clear();
}

#[test]
fn memory_stays_within_its_bound_and_flat() {
    let asked = std::env::var("LEASEWARDEN_SOAK").ok().and_then(|seconds| seconds.parse().ok());
    let until = asked.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let before = held();
    let mut net = Net::new(Limits { flows: HELD, memory: MEMORY, tenants: 200, services: 200 });
    let mut dice = Dice(7);
    let mut after = Vec::new();
    while after.len() < 6 || until.is_some_and(|until| Instant::now() < until) {
        round(&mut net, &mut dice, after.len() as u64);
        let now = held() - before - after.capacity() * size_of::<usize>();
        assert!(now <= MEMORY + APART, "{now} bytes held after {} rounds", after.len());
        after.push(now);
    }
    let s = net.engine.stats();
    assert_eq!(s.bytes_seen, s.bytes_decoded + s.bytes_opaque + s.bytes_truncated + s.bytes_lost);
    println!("{} connections, {} open, {} evicted", after.len() as u64 * ROUND, net.connections(), s.flows_evicted);
    let quarter = after.len() / 4;
    let most = |of: &[usize]| of.iter().copied().max().unwrap_or(1) as f64;
    let (second, last) = (most(&after[quarter..2 * quarter]), most(&after[after.len() - quarter..]));
    println!(
        "held: {} KiB in the second quarter, {} KiB in the last, {:.2}",
        second as u64 >> 10,
        last as u64 >> 10,
        last / second
    );
    // A few rounds do not fill what fills but once.
    assert!(asked.is_none() || last <= second * FLAT);
}
