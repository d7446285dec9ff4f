//! Small conversations, written by hand.

use super::wire::{
    Record, batch, commit, committed, fetch, fetched, frame, packed, produce, produced, record, request, response,
    string,
};
use super::*;
use crate::decode::WireEvent;
use crate::decode::testing::Told;
use crate::model::queue::{Confirmation, Message, Position, QueueEvent};
use crate::model::{Claim, Effect, TenantId};

/// Knows a user, and acme.
fn listener() -> Told {
    Told::default()
        .claiming(|value| if value == "tenant_a" { Claim::Tenant(TenantId(0)) } else { Claim::Neutral })
        .marking(|_, _, value| if value.contains("acme") { Claim::Tenant(TenantId(1)) } else { Claim::Neutral })
}

fn lines(told: &Told) -> Vec<String> {
    let seen = |m: &Message| if m.print.is_some() { "whole" } else { "unread" };
    told.lines(|event| match event {
        WireEvent::Started(_) => Some("started".to_owned()),
        WireEvent::Done(op) => {
            let bind = match op.effect {
                Effect::Bind { strength, claim, .. } => format!(" binds {claim:?} {strength:?}"),
                _ => String::new(),
            };
            let line = format!("{} {} {}{bind}", told.name(op.verb), told.name(op.target), op.outcome.name());
            Some(line.replace("  ", " "))
        }
        WireEvent::Queue(event) => Some(match &**event {
            QueueEvent::Published(m) => format!("published {} {:?}", seen(m), m.marker),
            QueueEvent::Delivered(d) => {
                let again = if d.again { " again" } else { "" };
                let Confirmation::Past(Position { offset, .. }) = d.confirmation else { panic!("{d:?}") };
                format!("delivered {offset} {}{again}", seen(&d.message))
            }
            QueueEvent::Settled(s) => format!("settled {}", s.handle),
            QueueEvent::Passed(p) => format!("passed {}", p.to.offset),
        }),
        _ => None,
    })
}

enum Step {
    Says(Side, Vec<u8>),
    Misses(Side, u64),
}

fn c(bytes: Vec<u8>) -> Step {
    Step::Says(Side::Client, bytes)
}

fn s(bytes: Vec<u8>) -> Step {
    Step::Says(Side::Server, bytes)
}

fn told(mid_stream: bool, steps: &[Step]) -> Told {
    let mut d = Kafka::new(Salt(1, 2), mid_stream, &Shared::default());
    let mut told = listener();
    for step in steps {
        match step {
            Step::Says(from, bytes) => {
                d.bytes(*from, Chunk { at: Nanos(2), bytes, ends_segment: true }, &mut told.sink());
            }
            Step::Misses(from, n) => d.missing(*from, Nanos(2), *n, &mut told.sink()),
        }
        assert!(d.memory() < 8 << 20);
    }
    d.closed(Nanos(3), &mut told.sink());
    told
}

fn talk(steps: &[Step]) -> Vec<String> {
    lines(&told(false, steps))
}

const RECORDS: [Record<'static>; 3] = [
    (Some("k1"), "{\"order\":4001}", &[("x-tenant-id", "acme")]),
    (None, "two", &[]),
    (None, "three", &[("empty", "")]),
];

#[test]
fn records_are_published_when_the_broker_has_them() {
    let records = batch(0, &RECORDS[..2]);
    let want = ["Produce jobs ok", "published whole Tenant(TenantId(1))", "published whole Neutral"];
    assert_eq!(talk(&[c(produce(1, -1, &records)), s(produced(1, 0, 70))]), want);
    assert_eq!(talk(&[c(produce(1, -1, &records)), s(produced(1, 29, -1))]), ["Produce jobs error"]);
    assert_eq!(talk(&[c(produce(1, -1, &records))]), ["Produce jobs unknown"]);
    let want = ["Produce jobs unknown", want[1], want[2]];
    assert_eq!(talk(&[c(produce(1, 0, &records))]), want, "nobody confirms what is published with acks=0");
}

#[test]
fn producer_and_consumer_see_the_same_message() {
    let sent = told(false, &[c(produce(1, 1, &batch(0, &RECORDS))), s(produced(1, 0, 70))]);
    let got = told(false, &[c(fetch(1, 70)), s(fetched(1, &batch(70, &RECORDS)))]);
    let (sent, got) = (sent.messages(), got.messages());
    assert_eq!((sent.len(), got.len()), (3, 3));
    for (a, b) in sent.iter().zip(&got) {
        assert!(a.ids == b.ids && a.print == b.print && a.print.is_some() && a.address == b.address, "{a:?} {b:?}");
    }
    assert!(got[0].ids != got[1].ids && got[0].print != got[1].print);
    let keyed = told(false, &[c(fetch(1, 0)), s(fetched(1, &batch(0, &[(Some("k2"), RECORDS[0].1, RECORDS[0].2)])))]);
    assert_ne!(keyed.messages()[0].print, got[0].print, "the key is part of it");
}

#[test]
fn commits_tell_how_far_a_reader_has_come() {
    assert_eq!(talk(&[c(commit(5, 72)), s(committed(5, 0))]), ["OffsetCommit jobs ok", "passed 72"]);
    assert_eq!(talk(&[c(commit(5, 72)), s(committed(5, 22))]), ["OffsetCommit jobs error"]);
    assert_eq!(talk(&[c(commit(5, 72))]), ["OffsetCommit jobs unknown"]);
}

#[test]
fn fetches_that_bring_nothing_and_records_that_come_again() {
    let lines = talk(&[
        c(fetch(1, 70)),
        s(fetched(1, &[])),
        c(fetch(2, 71)),
        s(fetched(2, &batch(70, &RECORDS))),
        c(fetch(3, 70)),
        s(fetched(3, &batch(70, &RECORDS[..1]))),
    ]);
    let want = ["Fetch jobs ok", "Fetch jobs ok", "delivered 71 whole", "delivered 72 whole"];
    assert_eq!(lines[..4], want, "a batch is sent whole, the consumer asked for its second record");
    assert_eq!(lines[4..], ["Fetch jobs ok", "delivered 70 whole again"]);
}

/// `SaslHandshake` and `SaslAuthenticate` as the client sends them.
fn mechanism(version: i16, name: &str) -> Step {
    c(request(17, version, 1, &string(name)))
}

fn step(correlation: i32, said: &[u8]) -> Step {
    c(request(36, 0, correlation, &frame(said)))
}

fn agrees(correlation: i32, error: i16) -> Step {
    s(response(correlation, &[&error.to_be_bytes()[..], &[0xff, 0xff, 0, 0, 0, 0]].concat()))
}

#[test]
fn a_login_binds_when_the_broker_has_believed_it() {
    let chosen = || [mechanism(1, "PLAIN"), s(response(1, &[0, 0, 0, 0, 0, 0]))];
    let with = |rest: Vec<Step>| talk(&chosen().into_iter().chain(rest).collect::<Vec<_>>());
    let bound = "SaslAuthenticate ok binds Tenant(TenantId(0)) V3";
    let plain = b"\0tenant_a\0secret";
    assert_eq!(with(vec![step(2, plain), agrees(2, 0)]), ["SaslHandshake ok", "started", bound]);
    assert_eq!(with(vec![step(2, plain), agrees(2, 58)]), ["SaslHandshake ok", "SaslAuthenticate error"]);
    assert_eq!(with(vec![step(2, plain)]), ["SaslHandshake ok", "SaslAuthenticate unknown"]);
}

#[test]
fn a_login_of_several_steps_binds_after_the_last() {
    let lines = talk(&[
        mechanism(1, "SCRAM-SHA-256"),
        s(response(1, &[0, 0, 0, 0, 0, 0])),
        step(2, b"n,,n=tenant_a,r=nonce"),
        agrees(2, 0),
        step(3, b"c=biws,r=noncenonce,p=proof"),
        agrees(3, 0),
    ]);
    let want = ["SaslHandshake ok", "SaslAuthenticate ok", "started"];
    assert_eq!(lines[..3], want);
    assert_eq!(lines[3..], ["SaslAuthenticate ok binds Tenant(TenantId(0)) V3"]);
}

#[test]
fn a_login_without_frames_of_requests() {
    let lines = talk(&[
        mechanism(0, "PLAIN"),
        s(response(1, &[0, 0, 0, 0, 0, 0])),
        c(frame(b"\0tenant_a\0secret")),
        s(frame(b"")),
        c(commit(5, 72)),
        s(committed(5, 0)),
    ]);
    assert_eq!(lines[1..3], ["started", "SaslAuthenticate ok binds Tenant(TenantId(0)) V3"]);
    assert_eq!(lines[3..], ["OffsetCommit jobs ok", "passed 72"]);
}

#[test]
fn what_a_hole_takes_is_told_as_unread() {
    let answer = fetched(1, &batch(70, &RECORDS));
    for lost in 1..answer.len() - 4 {
        let (some, _) = answer.split_at(answer.len() - lost);
        let lines = talk(&[
            c(fetch(1, 70)),
            s(some.to_vec()),
            Step::Misses(Side::Server, lost as u64),
            c(fetch(2, 73)),
            s(fetched(2, &[])),
        ]);
        assert_eq!(lines.last().unwrap(), "Fetch jobs ok", "{lost}: what follows is read");
        let told: Vec<_> = lines.iter().filter(|l| l.starts_with("delivered")).collect();
        let offsets: Vec<_> = told.iter().map(|l| l.split(' ').nth(1).unwrap()).collect();
        assert!(offsets.is_empty() || offsets == ["70", "71", "72"], "{lost}: {lines:#?}");
        assert!(told.is_empty() || told[2].ends_with("unread"), "{lost}: {told:?}");
    }
}

#[test]
fn after_a_hole_across_frames_the_next_frame_is_found() {
    let lines = talk(&[
        c(fetch(1, 70)),
        Step::Misses(Side::Server, 5_000),
        c(fetch(2, 73)),
        s(fetched(2, &batch(73, &RECORDS[..1]))),
    ]);
    assert_eq!(lines, ["gap", "Fetch jobs unknown", "Fetch jobs ok", "delivered 73 whole"]);
}

#[test]
fn responses_are_paired_by_their_ids() {
    let lines = talk(&[c(fetch(1, 0)), c(fetch(2, 0)), s(fetched(2, &[])), s(fetched(9, &[]))]);
    assert_eq!(lines, ["Fetch jobs unknown", "Fetch jobs ok", "unknown_correlation", "unmatched"]);
}

/// A message of the formats before batches.
fn old(offset: i64, magic: u8, attributes: u8, value: &str) -> Vec<u8> {
    let time: &[u8] = if magic == 1 { &[0; 8] } else { &[] };
    let body = [&[0, 0, 0, 0, magic, attributes][..], time, &[0xff; 4], &frame(value.as_bytes())].concat();
    [&offset.to_be_bytes()[..], &frame(&body)].concat()
}

#[test]
fn older_formats_are_read_or_told_as_unread() {
    let set = [old(3, 0, 0, "acme"), old(4, 1, 0, "two"), old(5, 1, 1, "packed")].concat();
    let lines = talk(&[c(fetch(1, 0)), s(fetched(1, &set))]);
    let want =
        ["Fetch jobs ok", "delivered 3 whole", "delivered 4 whole", "old_compressed_messages", "delivered 5 unread"];
    assert_eq!(lines, want);
}

#[test]
fn a_batch_that_ends_beyond_what_the_broker_sent_is_left_out() {
    let mut records = batch(70, &RECORDS[..1]);
    let next = batch(71, &RECORDS);
    records.extend(&next[..next.len() - 3]);
    assert_eq!(talk(&[c(fetch(1, 0)), s(fetched(1, &records))]), ["Fetch jobs ok", "delivered 70 whole"]);
}

#[test]
fn compression_has_a_bound_and_what_is_beyond_is_told() {
    use std::io::Write as _;
    let value = "0".repeat(1 << 20);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for i in 0..18 {
        gzip.write_all(&record(i, (None, &value, &[]))).unwrap();
    }
    let bomb = packed(0, 18, 1, &gzip.finish().unwrap());
    assert!(bomb.len() < 1 << 20);
    let lines = talk(&[c(fetch(1, 0)), s(fetched(1, &bomb))]);
    let count = |what: &str| lines.iter().filter(|l| l.ends_with(what)).count();
    assert_eq!((count(" whole"), count(" unread"), count("compressed_batch")), (15, 3, 1), "{lines:#?}");
}

#[test]
fn aborted_transactions_are_not_delivered_to_who_reads_committed_records() {
    use super::records::{Item, Records};
    let body = record(0, RECORDS[1]);
    let log: Vec<u8> =
        [(0, 0x10), (1, 0x30), (2, 0x10), (3, 0)].into_iter().flat_map(|(base, a)| packed(base, 1, a, &body)).collect();
    let offsets = |aborted: &[(i64, i64)]| {
        let (mut records, mut rest) = (Records::new(log.len(), aborted.iter().copied().collect()), &log[..]);
        let mut seen = Vec::new();
        while !records.is_done() {
            let n = records.step(rest, &mut |item| match item {
                Item::Record(r) => seen.push(r.offset),
                other => panic!("{other:?}"),
            });
            rest = &rest[n.unwrap()..];
        }
        seen
    };
    assert_eq!(offsets(&[]), [0, 2, 3]);
    assert_eq!(offsets(&[(-1, 0)]), [2, 3], "the mark at 1 ends the aborted one");
}

#[test]
fn garbage_is_told_and_the_next_request_is_found() {
    let lines = talk(&[
        c(fetch(1, 0)),
        s(b"\xff\xff\xff\xff\0\0\0\x01".to_vec()),
        c(fetch(2, 0)),
        s(fetched(2, &batch(0, &RECORDS[..1]))),
    ]);
    let want = ["frame_length", "malformed", "Fetch jobs unknown", "Fetch jobs ok", "delivered 0 whole"];
    assert_eq!(lines, want);
}

#[test]
fn a_connection_joined_late_is_read_from_a_request_on() {
    let answer = fetched(1, &batch(0, &RECORDS));
    let steps = [s(answer[60..].to_vec()), c(fetch(2, 3)), s(fetched(2, &batch(3, &RECORDS[..1])))];
    assert_eq!(lines(&told(true, &steps)), ["mid_stream", "Fetch jobs ok", "delivered 3 whole"]);
}

#[test]
fn what_is_lost_is_told_before_anybody_is_abandoned_for_it() {
    let begun = produced(1, 0, 7)[..20].to_vec();
    // More is missing than the response's length leaves room for.
    let lines = talk(&[c(produce(1, 1, &batch(0, &RECORDS[..1]))), s(begun), Step::Misses(Side::Server, 1 << 20)]);
    assert_eq!(lines, ["gap", "Produce jobs unknown"]);
}

#[test]
fn what_is_never_answered_and_malformed_is_given_up() {
    let wrong = || c([fetch(1, 0), vec![0xff; 4]].concat());
    let answered = |n| [c(fetch(n, 0)), s(fetched(n, &batch(0, &RECORDS[..1])))];
    let lines = talk(&(0..20).map(|_| wrong()).collect::<Vec<_>>());
    assert_eq!(lines.iter().filter(|l| *l == "frame_length").count(), 8);
    let often = (0..20).flat_map(|n| answered(n).into_iter().chain([wrong()]));
    let lines = talk(&often.collect::<Vec<_>>());
    assert_eq!(lines.iter().filter(|l| *l == "frame_length").count(), 20, "something made sense in between");
}
