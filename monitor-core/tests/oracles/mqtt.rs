//! `mqttbytes` over the recordings of MQTT, versions 3.1.1 and 5.

use std::collections::BTreeMap;

use bytes::BytesMut;
use monitor_core::model::queue::Settlement;
use monitor_core::model::{Outcome, Side};
use mqttbytes::{Protocol, QoS, v4, v5};

use crate::common::Segments;
use crate::common::suites::MQTT as SUITE;
use crate::{Frames, every, frames};

const MAX: usize = 1 << 20;

/// A packet of either version, as far as it is compared.
enum Packet {
    Publish(Publish),
    /// SUBSCRIBE, UNSUBSCRIBE, PINGREQ.
    Asks(&'static str),
    /// PUBACK, PUBREC, PUBCOMP.
    Confirms(&'static str, u16),
    Other,
}

struct Publish {
    topic: String,
    alias: Option<u16>,
    id: u16,
    qos: QoS,
    dup: bool,
    size: usize,
}

macro_rules! packet {
    ($v:ident, $packet:expr, |$p:ident| $alias:expr) => {
        match $packet {
            $v::Packet::Publish($p) => Packet::Publish(Publish {
                alias: $alias,
                id: $p.pkid,
                qos: $p.qos,
                dup: $p.dup,
                size: $p.payload.len(),
                topic: $p.topic,
            }),
            $v::Packet::Subscribe(_) => Packet::Asks("SUBSCRIBE"),
            $v::Packet::Unsubscribe(_) => Packet::Asks("UNSUBSCRIBE"),
            $v::Packet::PingReq => Packet::Asks("PINGREQ"),
            $v::Packet::PubAck(p) => Packet::Confirms("PUBACK", p.pkid),
            $v::Packet::PubRec(p) => Packet::Confirms("PUBREC", p.pkid),
            $v::Packet::PubComp(p) => Packet::Confirms("PUBCOMP", p.pkid),
            _ => Packet::Other,
        }
    };
}

fn read(segments: &Segments) -> Frames<Packet> {
    let mut version = None;
    frames(segments, |_, bytes: &mut BytesMut| {
        // That a DISCONNECT of version 5 may have no reason (§3.14.2.1) is not known to mqttbytes.
        if bytes[..] == [0xe0, 0] {
            bytes.clear();
            return Ok(Some(Packet::Other));
        }
        let read = match version {
            None => match v5::read(bytes, MAX) {
                Ok(v5::Packet::Connect(connect)) => {
                    version = Some(connect.protocol);
                    Ok(Packet::Other)
                }
                Ok(other) => return Err(format!("it begins with {other:?}")),
                Err(error) => Err(error),
            },
            Some(Protocol::V4) => v4::read(bytes, MAX).map(|packet| packet!(v4, packet, |p| None)),
            Some(Protocol::V5) => v5::read(bytes, MAX)
                .map(|packet| packet!(v5, packet, |p| p.properties.as_ref().and_then(|all| all.topic_alias))),
        };
        match read {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(format!("{error:?}")),
        }
    })
}

/// The topics of one side's publications, by their aliases.
#[derive(Default)]
struct Aliases(BTreeMap<u16, String>);

impl Aliases {
    fn topic(&mut self, publish: &Publish) -> String {
        match publish.alias {
            Some(alias) if publish.topic.is_empty() => self.0[&alias].clone(),
            Some(alias) => {
                self.0.insert(alias, publish.topic.clone());
                publish.topic.clone()
            }
            None => publish.topic.clone(),
        }
    }
}

#[test]
fn packets_are_what_mqttbytes_reads() {
    every(&SUITE, &[], read, |name, frames, told| {
        let operations = told.by_request();
        let (mut ours, mut theirs) = (Aliases::default(), Aliases::default());
        let (mut request, mut deliveries, mut settlements) = (0, told.delivered(), told.settled());
        // What waits for a confirmation: the request of each publication.
        let mut waiting = BTreeMap::new();
        let mut published = BTreeMap::new();
        for (from, packet) in &frames {
            let verb = match (from, packet) {
                (Side::Client, Packet::Publish(p)) => {
                    published.insert(request + 1, (ours.topic(p), p.size, Outcome::Unknown));
                    if p.qos != QoS::AtMostOnce {
                        waiting.insert(p.id, request + 1);
                    }
                    "PUBLISH"
                }
                (Side::Client, Packet::Asks(verb)) => verb,
                (Side::Client, Packet::Confirms(verb @ ("PUBACK" | "PUBCOMP"), id)) => {
                    let settled = settlements.next().unwrap_or_else(|| panic!("{name}: {verb} {id}"));
                    assert_eq!((settled.handle, settled.how), (u64::from(*id), Settlement::Done), "{name}: {verb}");
                    verb
                }
                (Side::Server, Packet::Publish(p)) => {
                    let topic = theirs.topic(p);
                    // The server tells of itself.
                    if topic.starts_with('$') {
                        continue;
                    }
                    let d = deliveries.next().unwrap_or_else(|| panic!("{name}: {topic} is delivered"));
                    assert!(told.shows(d.message.queue, &topic), "{name}: {topic}");
                    assert_eq!((d.message.bytes, d.again), (p.size as u64, p.dup), "{name}: {topic}");
                    let id = (p.qos != QoS::AtMostOnce).then_some(u64::from(p.id));
                    assert_eq!(d.confirmation.handle(), id, "{name}: {topic}");
                    continue;
                }
                (Side::Server, Packet::Confirms(_, id)) => {
                    if let Some(n) = waiting.remove(id) {
                        published.get_mut(&n).unwrap().2 = Outcome::Ok;
                    }
                    continue;
                }
                _ => continue,
            };
            request += 1;
            let of_it = operations.get(&request).unwrap_or_else(|| panic!("{name}: {request} {verb}"));
            assert!(of_it.iter().all(|op| told.name(op.verb) == verb), "{name}: {request} {verb}");
        }
        assert_eq!(told.n_begun() as u64, request, "{name}: each of them is a request");
        assert!(deliveries.next().is_none(), "{name}: nothing else was delivered");
        assert!(settlements.next().is_none(), "{name}: nothing else was settled");
        for (n, (topic, size, outcome)) in &published {
            assert_eq!(operations[n][0].outcome, *outcome, "{name}: {n} {topic}");
            let m = told.published().find(|m| m.request == *n).unwrap_or_else(|| panic!("{name}: {n} {topic}"));
            assert!(told.shows(m.queue, topic), "{name}: {n} {topic}");
            assert_eq!(m.bytes, *size as u64, "{name}: {n} {topic}");
        }
        assert_eq!(told.published().count(), published.len(), "{name}: nothing else was published");
    });
}
