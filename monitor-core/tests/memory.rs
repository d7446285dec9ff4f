//! `limits.memory_mb` is a bound: what the engine accounts for is compared with what the allocator gave out, for
//! conversations of several protocols, and a flood stays within the limit.
//!
//! One test, as the counter is the whole process's.

#[path = "common/flood.rs"]
mod flood;

use flood::{
    HTTP, HTTP_HALF, MEMCACHED, MQTT, MYSQL, NATS, NOTHING, Net, POSTGRES, REDIS, REDIS_PIPELINE, Says, UNDECIDED, held,
};
use monitor_core::model::settings::Limits;
use monitor_core::model::{Event, Nanos};

const UNBOUNDED: Limits = Limits { flows: 10_000_000, memory: usize::MAX, tenants: 200, services: 200 };

/// Of each kind. Enough that what is shared by all is little beside them, and few enough for a build without optimisation.
const CONNECTIONS: usize = 1_500;

/// What is accounted for is no less than two thirds of what is held, and no more than one and a half of it.
#[test]
fn what_is_accounted_for_is_what_is_held() {
    let all = [
        ("redis", 6379, REDIS),
        ("redis pipeline", 6379, REDIS_PIPELINE),
        ("http", 80, HTTP),
        ("half a head", 80, HTTP_HALF),
        ("postgres", 5432, POSTGRES),
        ("mysql", 3306, MYSQL),
        ("memcached", 11211, MEMCACHED),
        ("nats", 4222, NATS),
        ("mqtt", 1883, MQTT),
        ("undecided", 9, UNDECIDED),
        ("nothing", 9, NOTHING),
    ] as [(&str, u16, Says); 11];
    let mut wrong = Vec::new();
    for (name, port, says) in all {
        let before = held();
        let mut net = Net::new(UNBOUNDED);
        for _ in 0..CONNECTIONS {
            net.talk(port, says);
        }
        net.at = net.at + Nanos::secs(2);
        net.handle(&Event::Tick { at: net.at });
        let (real, told) = (held() - before, net.accounted());
        let ratio = told as f64 / real as f64;
        println!("{name}: {} bytes a connection, {} accounted for, {ratio:.2}", real / CONNECTIONS, told / CONNECTIONS);
        if !(0.67..=1.5).contains(&ratio) {
            wrong.push(format!("{name}: {told} accounted for, {real} held, {ratio:.2}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    a_flood_stays_within_the_limit();
}

/// What may be held beside it: the engine as it is made, and a table that is being moved to a larger place …
const APART: usize = 1 << 20;
/// … and one part in so many, as what is accounted for is about what is held.
const PART: usize = 16;

/// Many more Redis connections than there is room for, at 16 and at 40 MiB: at no moment is more held, tables of rules
/// included, and the newest are followed.
fn a_flood_stays_within_the_limit() {
    for (mb, n, says) in [(16, 25_000, REDIS), (40, 15_000, REDIS), (16, 8_000, REDIS_PIPELINE), (16, 8_000, HTTP_HALF)]
    {
        let limit = mb << 20;
        let before = held();
        let mut net = Net::new(Limits { memory: limit, ..UNBOUNDED });
        let mut most = 0;
        for i in 0..n {
            let newest = net.talk(6379, says);
            assert_ne!(net.out.forgotten.last(), Some(&(2 * newest + 1)), "the newest is followed");
            most = most.max(held() - before - net.out.forgotten.capacity() * 8);
            // Now and then: it asks for all tables.
            assert!(i % 16 > 0 || net.accounted() <= limit);
        }
        println!("{mb} MiB: {} connections in {} KiB", net.connections(), most >> 10);
        assert!(most <= limit + limit / PART + APART, "{most} bytes held, {limit} allowed");
        assert!(net.connections() > 1_000 && net.connections() < n);
        // The idlest went first: in the order in which they came.
        let mut order = net.out.forgotten.clone();
        order.dedup_by_key(|cookie| *cookie / 2);
        assert!(order.is_sorted_by_key(|cookie| *cookie / 2));
        assert_eq!(order.len() + net.connections(), n);
        assert_eq!(net.engine.stats().flows_evicted as usize, order.len());
    }
}
