//! Events that wait for the label of a new container.

use monitor_core::model::{Direction, Role, Segment, SocketCookie};

use super::*;
use crate::identity::facts::{ContainerFact, Fact, SourceId, SourceKind};

const DOCKER: SourceId = SourceId(0);
const REQUEST: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
const REPLY: &[u8] = b"+OK\r\n";

fn agent(wait: WaitConfig) -> Agent {
    let source = SourceInfo {
        kind: SourceKind::Docker,
        place: "/run/docker.sock".into(),
        required: true,
        synced: true,
        stale: None,
    };
    let identity = IdentityConfig { wait, ..IdentityConfig::default() };
    Agent::with_sources(Settings::default(), identity, vec![source], Outputs::default())
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn labelled(digit: char, tenant: &str) -> Told {
    let fact =
        ContainerFact { id: id(digit), name: "web".into(), tenant: Some(tenant.into()), role: None, owner: None };
    (DOCKER, Fact::Container(fact))
}

fn ms(n: u64) -> Nanos {
    Nanos(n * 1_000_000)
}

/// A container appears, connects and is answered.
fn starts(agent: &mut Agent, digit: char, n: u64, at: u64) {
    let path = format!("/docker/{}", id(digit));
    // Connections of equal sequence numbers would be taken for the two ends of one.
    let seq = u32::try_from(n * 1_000).unwrap();
    agent.event(&Event::CgroupSeen { at: ms(at), id: CgroupId(n), path: &path });
    agent.event(&Event::Opened {
        at: ms(at + 1),
        cookie: SocketCookie(n),
        cgroup: Some(CgroupId(n)),
        local: format!("127.0.0.1:{}", 40_000 + n).parse().unwrap(),
        peer: "127.0.0.1:6379".parse().unwrap(),
        role: Role::Client,
        tx_start: Some(seq),
        rx_start: Some(seq + 500),
    });
    for (dir, seq, bytes) in [(Direction::Tx, seq, REQUEST), (Direction::Rx, seq + 500, REPLY)] {
        agent.event(&Event::Segment(Segment {
            at: ms(at + 2),
            cookie: SocketCookie(n),
            dir,
            seq,
            ack: None,
            len: u32::try_from(bytes.len()).unwrap(),
            bytes,
            thread: None,
        }));
    }
}

/// Tenants that were seen at work, and how many operations were nobody's.
fn seen(agent: &Agent) -> (Vec<String>, u64) {
    let services = agent.engine.services();
    let mut tenants: Vec<String> = services.iter().flat_map(|s| &s.tenants).map(|t| t.tenant.clone()).collect();
    tenants.sort();
    (tenants, services.iter().map(|s| s.unattributed).sum())
}

fn waits(agent: &Agent) -> [u64; 3] {
    agent.identity.waits().map(|(_, n)| n)
}

#[test]
fn what_came_before_the_label_is_its_tenants() {
    let mut agent = agent(WaitConfig::default());
    agent.told(std::iter::once(labelled('b', "globex")));
    starts(&mut agent, 'a', 1, 10);
    assert!(std::mem::take(&mut agent.wanted), "the runtime is asked");
    // What is known waits behind what is not: its order may matter.
    starts(&mut agent, 'b', 2, 20);
    assert!(agent.waiting());
    assert_eq!(seen(&agent), (vec![], 0));
    agent.told(std::iter::once(labelled('a', "acme")));
    agent.release(ms(30));
    assert_eq!((agent.waiting(), agent.waiting_bytes().0), (false, 0));
    agent.finish();
    assert_eq!(seen(&agent), (vec!["acme".to_owned(), "globex".to_owned()], 0));
    assert_eq!(waits(&agent), [1, 0, 0]);
}

#[test]
fn a_label_that_does_not_come_is_waited_for_once_and_not_for_long() {
    let mut agent = agent(WaitConfig { at_most: Nanos::secs(2), bytes: 1 << 20 });
    starts(&mut agent, 'a', 1, 0);
    agent.release(ms(1_900));
    assert!(agent.waiting());
    agent.release(ms(2_100));
    assert!(!agent.waiting());
    starts(&mut agent, 'a', 3, 2_200);
    assert!(!agent.waiting(), "the same container again, in another cgroup of its own");
    agent.finish();
    assert_eq!(seen(&agent), (vec![], 2));
    assert_eq!(waits(&agent), [0, 1, 0]);
}

#[test]
fn what_waits_is_bounded() {
    let mut agent = agent(WaitConfig { at_most: Nanos::secs(2), bytes: 2_000 });
    starts(&mut agent, 'a', 1, 0);
    for n in 0..100 {
        agent.event(&Event::Tick { at: ms(5 + n) });
        assert!(agent.waiting_bytes().0 <= 2_500, "{:?}", agent.waiting_bytes());
    }
    assert!(!agent.waiting());
    assert_eq!(waits(&agent), [0, 0, 1]);
}

#[test]
fn a_source_that_goes_is_not_waited_for() {
    let mut agent = agent(WaitConfig::default());
    starts(&mut agent, 'a', 1, 0);
    assert!(agent.waiting());
    let stale = crate::identity::facts::SourceState::Stale("gone".into());
    agent.told(std::iter::once((DOCKER, Fact::State(stale))));
    agent.release(ms(10));
    assert!(!agent.waiting());
    agent.finish();
    assert_eq!(seen(&agent), (vec![], 1));
}
