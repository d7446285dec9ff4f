//! `limits.memory_mb` is a bound: what the engine accounts for is compared with what the allocator gave out, for
//! conversations of several protocols, and a flood stays within the limit.
//!
//! One test, as the counter is the whole process's.

#[path = "common/flood.rs"]
mod flood;

use flood::{HTTP, HTTP_HALF, MQTT, NATS, NOTHING, Net, POSTGRES, REDIS, REDIS_PIPELINE, Says, UNDECIDED, held};
use monitor_core::model::settings::Limits;
use monitor_core::model::{Event, Nanos};

const UNBOUNDED: Limits = Limits { flows: 10_000_000, memory: usize::MAX, tenants: 200, services: 200 };

/// What is accounted for is no less than two thirds of what is held, and no more than one and a half of it.
#[test]
fn what_is_accounted_for_is_what_is_held() {
    let all = [
        ("redis", 6379, REDIS),
        ("redis pipeline", 6379, REDIS_PIPELINE),
        ("http", 80, HTTP),
        ("half a head", 80, HTTP_HALF),
        ("postgres", 5432, POSTGRES),
        ("nats", 4222, NATS),
        ("mqtt", 1883, MQTT),
        ("undecided", 9, UNDECIDED),
        ("nothing", 9, NOTHING),
    ] as [(&str, u16, Says); 9];
    let mut wrong = Vec::new();
    for (name, port, says) in all {
        let before = held();
        let mut net = Net::new(UNBOUNDED);
        for _ in 0..6_000 {
            net.talk(port, says);
        }
        net.at = net.at + Nanos::secs(2);
        net.handle(&Event::Tick { at: net.at });
        let (real, told) = (held() - before, net.accounted());
        let ratio = told as f64 / real as f64;
        println!("{name}: {} bytes a connection, {} accounted for, {ratio:.2}", real / 6_000, told / 6_000);
        if !(0.67..=1.5).contains(&ratio) {
            wrong.push(format!("{name}: {told} accounted for, {real} held, {ratio:.2}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    a_flood_stays_within_the_limit();
}

/// What rules and other tables of a fixed length may hold beside it.
const APART: usize = 24 << 20;

/// 100,000 Redis connections, at 16 and at 64 MiB: at no moment is more held, and the newest are followed.
fn a_flood_stays_within_the_limit() {
    for (mb, says) in [(16, REDIS), (64, REDIS), (16, REDIS_PIPELINE), (16, HTTP_HALF)] {
        let limit = mb << 20;
        let before = held();
        let mut net = Net::new(Limits { memory: limit, ..UNBOUNDED });
        let mut most = 0;
        for _ in 0..100_000 {
            let newest = net.talk(6379, says);
            assert_ne!(net.out.forgotten.last(), Some(&(2 * newest + 1)), "the newest is followed");
            most = most.max(held() - before - net.out.forgotten.capacity() * 8);
            assert!(net.accounted() <= limit);
        }
        println!("{mb} MiB: {} connections in {} KiB", net.connections(), most >> 10);
        assert!(most <= limit + APART, "{most} bytes held, {limit} allowed");
        assert!(net.connections() > 1_000);
        // The idlest went first: in the order in which they came.
        let mut order = net.out.forgotten.clone();
        order.dedup_by_key(|cookie| *cookie / 2);
        assert!(order.is_sorted_by_key(|cookie| *cookie / 2));
        assert_eq!(order.len() + net.connections(), 100_000);
        assert_eq!(net.engine.stats().flows_evicted as usize, order.len());
    }
}
