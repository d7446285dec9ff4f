//! What knowing many pods costs. A process of its own: its resident memory is measured.

use std::collections::HashSet;

use monitor::identity::facts::{Fact, PodFact, Ranked, SourceId, SourceKind, SourceState};
use monitor::identity::{IdentityConfig, Resolver, SourceInfo};

const PODS: u32 = 10_000;
/// Bound that docs/decisions/0007-identity.md states.
const MIB_PER_10_000: usize = 16;

/// Bytes.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}

/// As a cluster of 100 nodes has them: two addresses each, and two containers where they are this node's.
fn pod(n: u32) -> PodFact {
    PodFact {
        uid: format!("{n:08x}-7f3c-4b0a-9f55-c0ffee123456"),
        cgroup_uid: None,
        namespace: format!("tenant-{:03}-production", n % 500),
        name: format!("orders-worker-{n:08x}-x7k2p"),
        created: i64::from(n),
        tenants: vec![Ranked { rank: 0, tenant: format!("tenant-{:03}", n % 500) }],
        role: None,
        owner: ("Deployment".to_owned(), format!("orders-worker-{n:08x}")),
        addresses: vec![
            std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(),
            std::net::Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)).into(),
        ],
        containers: if n.is_multiple_of(100) { vec![format!("{n:064x}"), format!("f{n:063x}")] } else { Vec::new() },
    }
}

#[test]
fn ten_thousand_pods() {
    let source =
        SourceInfo { kind: SourceKind::Kubernetes, place: "pods".into(), required: true, synced: false, stale: None };
    let mut resolver = Resolver::new(IdentityConfig::default(), vec![source]);
    let before = resident().unwrap();
    let mut keep = HashSet::new();
    for n in 0..PODS {
        keep.insert(pod(n).uid);
        resolver.apply(SourceId(0), Fact::Pod(pod(n)));
        // The pipeline takes in a batch, then asks what follows from it.
        if n.is_multiple_of(1000) {
            resolver.updates();
        }
    }
    resolver.apply(SourceId(0), Fact::All(keep));
    resolver.apply(SourceId(0), Fact::State(SourceState::Synced));
    resolver.updates();
    let grown = resident().unwrap().saturating_sub(before);
    println!("{PODS} pods: {:.1} MiB", grown as f64 / 1048576.0);
    let pods = resolver.objects().iter().find(|o| o.1 == "pods").map_or(0, |o| o.2);
    assert_eq!(pods, PODS as usize);
    assert!(grown > PODS as usize * 300, "nothing was measured: {grown} bytes");
    assert!(grown < MIB_PER_10_000 << 20, "{grown} bytes");
    // Whoever goes takes what was known with it.
    resolver.apply(SourceId(0), Fact::All(HashSet::new()));
    resolver.updates();
    assert!(resolver.objects().iter().all(|o| o.2 == 0));
}
