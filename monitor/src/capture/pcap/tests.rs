//! Captures built by hand: each link layer, what connections become, and damage at every byte.

use std::time::Duration;

use monitor_core::model::Event;

use super::*;

const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;
const RST: u8 = 4;

const CLIENT: (u8, u16) = (1, 40112);
const SERVER: (u8, u16) = (2, 5432);

/// A TCP segment from 10.0.0.`from.0` to 10.0.0.`to.0`; header options as captured on Linux.
fn tcp(from: (u8, u16), to: (u8, u16), flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut t = Vec::new();
    t.extend(from.1.to_be_bytes());
    t.extend(to.1.to_be_bytes());
    t.extend(seq.to_be_bytes());
    t.extend(ack.to_be_bytes());
    t.extend([0x80, flags, 0xff, 0xff, 0, 0, 0, 0]);
    t.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    t.extend(payload);
    t
}

fn ipv4_with(from: u8, to: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut p = vec![0x45, 0];
    p.extend((20 + body.len() as u16).to_be_bytes());
    p.extend([0, 1]);
    p.extend(fragment.to_be_bytes());
    p.extend([64, 6, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    p.extend(body);
    p
}

fn ipv4(from: (u8, u16), to: (u8, u16), flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    ipv4_with(from.0, to.0, 0x4000, &tcp(from, to, flags, seq, ack, payload))
}

/// An IPv6 packet whose body begins with a header of type `next`.
fn ipv6(from: u8, to: u8, next: u8, body: &[u8]) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend((body.len() as u16).to_be_bytes());
    p.extend([next, 64]);
    for last in [from, to] {
        p.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    p.extend(body);
    p
}

fn ethernet(ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut f = vec![2; 12];
    f.extend(ether_type.to_be_bytes());
    f.extend(packet);
    f
}

/// A little-endian pcap of whole frames, one a second from 1000 s after the epoch, with microseconds.
fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let cut: Vec<(Vec<u8>, u32)> = frames.iter().map(|f| (f.clone(), f.len() as u32)).collect();
    pcap_cut(link, &cut)
}

/// The same, of frames whose length on the wire is told apart.
fn pcap_cut(link: u32, frames: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    file.extend(link.to_le_bytes());
    for (i, (frame, wire_len)) in frames.iter().enumerate() {
        file.extend((1000 + i as u32).to_le_bytes());
        file.extend(7u32.to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(wire_len.to_le_bytes());
        file.extend(frame);
    }
    file
}

/// Numbers in the byte order of a section.
#[derive(Clone, Copy)]
struct Ng {
    big: bool,
}

impl Ng {
    fn n16(self, n: u16) -> [u8; 2] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }
    fn n32(self, n: u32) -> [u8; 4] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }
    fn n64(self, n: u64) -> [u8; 8] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }
    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let len = 12 + padded as u32;
        let mut b = Vec::new();
        b.extend(self.n32(kind));
        b.extend(self.n32(len));
        b.extend(body);
        b.resize(8 + padded, 0);
        b.extend(self.n32(len));
        b
    }
    fn section(self) -> Vec<u8> {
        let mut b = Vec::new();
        b.extend(self.n32(0x1a2b_3c4d));
        b.extend(self.n16(1));
        b.extend(self.n16(0));
        b.extend(self.n64(u64::MAX));
        self.block(0x0a0d_0d0a, &b)
    }
    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut b = Vec::new();
        b.extend(self.n16(code));
        b.extend(self.n16(value.len() as u16));
        b.extend(value);
        b.resize(b.len().next_multiple_of(4), 0);
        b
    }
    fn interface(self, link: u16, snaplen: u32, options: &[u8]) -> Vec<u8> {
        let mut b = Vec::new();
        b.extend(self.n16(link));
        b.extend([0, 0]);
        b.extend(self.n32(snaplen));
        b.extend(options);
        b.extend(self.option(0, &[]));
        self.block(1, &b)
    }
    fn packet(self, interface: u32, ticks: u64, frame: &[u8], options: &[u8]) -> Vec<u8> {
        let mut b = Vec::new();
        b.extend(self.n32(interface));
        b.extend(self.n32((ticks >> 32) as u32));
        b.extend(self.n32(ticks as u32));
        b.extend(self.n32(frame.len() as u32));
        b.extend(self.n32(frame.len() as u32));
        b.extend(frame);
        b.resize(b.len().next_multiple_of(4), 0);
        b.extend(options);
        self.block(6, &b)
    }
    fn statistics(self, interface: u32, ticks: u64, dropped: u64) -> Vec<u8> {
        let mut b = Vec::new();
        b.extend(self.n32(interface));
        b.extend(self.n32((ticks >> 32) as u32));
        b.extend(self.n32(ticks as u32));
        b.extend(self.option(5, &self.n64(dropped)));
        b.extend(self.option(0, &[]));
        self.block(5, &b)
    }
}

/// Every event but the ticks as text, and the warnings.
fn replay(file: &[u8]) -> (Vec<String>, Vec<String>) {
    replay_with(file, flows::MAX_FLOWS)
}

fn replay_with(file: &[u8], max_flows: usize) -> (Vec<String>, Vec<String>) {
    let mut source = PcapSource::with_capacity(file, file, max_flows).expect("a capture");
    let mut events = Vec::new();
    for _ in 0..file.len() + 2 {
        let progress = source
            .poll(Duration::ZERO, &mut |e| {
                if !matches!(e, Event::Tick { .. }) {
                    events.push(describe(e));
                }
            })
            .expect("a file never fails");
        if progress == Progress::End {
            assert_eq!(
                source.poll(Duration::ZERO, &mut |_| panic!("an event after the end")).ok(),
                Some(Progress::End)
            );
            return (events, source.warnings());
        }
    }
    panic!("no end");
}

fn describe(e: Event<'_>) -> String {
    match e {
        Event::Opened { cookie, local, peer, role, tx_start, rx_start, cgroup: None, .. } => {
            format!("open {} {local} {peer} {role:?} {tx_start:?} {rx_start:?}", cookie.0)
        }
        Event::Segment(s) => {
            let text = String::from_utf8_lossy(s.bytes);
            format!("data {} {:?} seq {} ack {:?} len {} {text}", s.cookie.0, s.dir, s.seq, s.ack, s.len)
        }
        Event::Closed { cookie, reason, .. } => format!("close {} {reason:?}", cookie.0),
        Event::Lost { stage, reason, count, .. } => format!("lost {stage:?} {reason} {count}"),
        other => format!("{other:?}"),
    }
}

/// A connection from handshake to FIN, `query` and `reply` in it.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        ipv4(CLIENT, SERVER, SYN, 99, 0, b""),
        ipv4(SERVER, CLIENT, SYN | ACK, 499, 100, b""),
        ipv4(CLIENT, SERVER, ACK, 100, 500, b""),
        ipv4(CLIENT, SERVER, ACK, 100, 500, b"query"),
        ipv4(SERVER, CLIENT, ACK, 500, 105, b"reply"),
        ipv4(CLIENT, SERVER, FIN | ACK, 105, 505, b""),
        ipv4(SERVER, CLIENT, FIN | ACK, 505, 106, b""),
        ipv4(CLIENT, SERVER, ACK, 106, 506, b""),
    ]
}

const CONVERSATION: [&str; 5] = [
    "open 1 10.0.0.1:40112 10.0.0.2:5432 Client Some(100) None",
    "open 1 10.0.0.1:40112 10.0.0.2:5432 Client Some(100) Some(500)",
    "data 1 Tx seq 100 ack Some(500) len 5 query",
    "data 1 Rx seq 500 ack Some(105) len 5 reply",
    "close 1 Closed",
];

fn wrapped(wrap: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    conversation().iter().map(|p| wrap(p)).collect()
}

#[test]
fn every_link_layer_gives_the_same_connection() {
    let sll = |p: &[u8]| [&[0, 4, 3, 4, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0], p].concat();
    let sll2 = |p: &[u8]| [&[8, 0, 0, 0, 0, 0, 0, 1, 3, 4, 4, 6, 0, 0, 0, 0, 0, 0, 0, 0], p].concat();
    let null = |p: &[u8]| [&[2, 0, 0, 0], p].concat();
    let vlan = |p: &[u8]| ethernet(0x8100, &[&[0, 7, 8, 0], p].concat());
    let qinq = |p: &[u8]| ethernet(0x88a8, &[&[0, 9, 0x81, 0, 0, 7, 8, 0], p].concat());
    // Short frames are padded on the wire; the padding is no payload.
    let padded = |p: &[u8]| {
        let mut f = ethernet(0x0800, p);
        f.resize(f.len().max(90), 0xee);
        f
    };
    let files = [
        pcap(1, &wrapped(|p| ethernet(0x0800, p))),
        pcap(1, &wrapped(vlan)),
        pcap(1, &wrapped(qinq)),
        pcap(1, &wrapped(padded)),
        pcap(113, &wrapped(sll)),
        pcap(276, &wrapped(sll2)),
        pcap(0, &wrapped(null)),
        pcap(108, &wrapped(null)),
        pcap(101, &conversation()),
        pcap(228, &conversation()),
        // The upper half of the field tells of the frame check sequence.
        pcap(0x4400_0000 | 101, &conversation()),
    ];
    for (i, file) in files.iter().enumerate() {
        let (events, warnings) = replay(file);
        assert_eq!(events, CONVERSATION, "file {i}");
        assert_eq!(warnings, [""; 0], "file {i}");
    }
}

#[test]
fn ipv6_extension_headers_are_passed_over() {
    let segment = tcp(CLIENT, SERVER, ACK, 7, 8, b"hello");
    let hop = [6, 0, 1, 4, 0, 0, 0, 0];
    let chain = [
        &[43, 0, 1, 4, 0, 0, 0, 0][..], // hop-by-hop, then
        &[60, 0, 4, 0, 0, 0, 0, 0][..], // routing, then
        &[44, 0, 1, 4, 0, 0, 0, 0][..], // destination options, then
        &[51, 0, 0, 0, 0, 0, 0, 1][..], // a fragment header on a whole packet, then
        &[6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12][..], // authentication
        &segment[..],
    ]
    .concat();
    for packet in [ipv6(1, 2, 6, &segment), ipv6(1, 2, 0, &[&hop[..], &segment[..]].concat()), ipv6(1, 2, 0, &chain)] {
        let (events, warnings) = replay(&pcap(229, std::slice::from_ref(&packet)));
        assert_eq!(
            events,
            [
                "open 1 [2001:db8::1]:40112 [2001:db8::2]:5432 Unknown None None",
                "data 1 Tx seq 7 ack Some(8) len 5 hello",
                "close 1 EndOfInput",
            ]
        );
        assert_eq!(warnings, [""; 0]);
        assert_eq!(replay(&pcap(1, &[ethernet(0x86dd, &packet)])).0, events);
    }
}

#[test]
fn fragments_are_counted_only_when_they_hold_tcp() {
    let segment = tcp(CLIENT, SERVER, ACK, 7, 8, b"hello");
    let first = ipv4_with(1, 2, 0x2000, &segment);
    let later = ipv4_with(1, 2, 0x0010, b"rest of it");
    let mut udp = first.clone();
    udp[9] = 17;
    let v6 = ipv6(1, 2, 44, &[&[6, 0, 0, 1, 0, 0, 0, 1], &segment[..]].concat());
    let v6_udp = ipv6(1, 2, 44, &[&[17, 0, 0, 1, 0, 0, 0, 1], &segment[..]].concat());
    let (events, _) = replay(&pcap(101, &[first, later, udp, v6, v6_udp]));
    assert_eq!(events, ["lost Capture ip_fragment 1"; 3]);
}

#[test]
fn the_snapshot_length_truncates_and_never_invents() {
    let whole = ipv4(CLIENT, SERVER, ACK, 7, 8, b"hello");
    for keep in 0..=whole.len() {
        let (events, _) = replay(&pcap_cut(101, &[(whole[..keep].to_vec(), whole.len() as u32)]));
        if keep < 40 {
            assert_eq!(events, ["lost Capture headers_cut 1"], "{keep} bytes kept");
            continue;
        }
        // 20 bytes of IP header, 32 of TCP header: options need not be there.
        let captured = &b"hello"[..keep.saturating_sub(52)];
        let text = String::from_utf8_lossy(captured);
        assert_eq!(events[1], format!("data 1 Tx seq 7 ack Some(8) len 5 {text}"), "{keep} bytes kept");
    }
}

#[test]
fn headers_that_contradict_themselves_are_counted() {
    let good = ipv4(CLIENT, SERVER, ACK, 7, 8, b"hello");
    let with = |at: usize, byte: u8| {
        let mut p = good.clone();
        p[at] = byte;
        p
    };
    // Total length below the header's; a data offset below 5, and one beyond the packet.
    for packet in [with(3, 10), with(32, 0x40), with(32, 0xf0)] {
        assert_eq!(replay(&pcap(101, &[packet])).0, ["lost Capture headers_malformed 1"]);
    }
    // Not TCP, not IP: no loss of ours.
    assert_eq!(replay(&pcap(101, &[with(9, 17), with(0, 0x15)])).0, [""; 0]);
    assert_eq!(replay(&pcap(1, &[ethernet(0x0806, &[0; 28])])).0, [""; 0]);
}

#[test]
fn a_length_left_to_the_hardware_comes_from_the_frame() {
    let mut packet = ipv4(CLIENT, SERVER, ACK, 7, 8, b"hello");
    packet[2] = 0;
    packet[3] = 0;
    let (events, _) = replay(&pcap(1, &[ethernet(0x0800, &packet)]));
    assert_eq!(events[1], "data 1 Tx seq 7 ack Some(8) len 5 hello");
}

#[test]
fn a_tuple_used_again_is_another_flow() {
    let mut frames = conversation();
    frames.push(ipv4(CLIENT, SERVER, SYN, 9000, 0, b""));
    frames.push(ipv4(SERVER, CLIENT, SYN | ACK, 7000, 9001, b""));
    frames.push(ipv4(CLIENT, SERVER, ACK, 9001, 7001, b"again"));
    // No FIN was captured before the next.
    frames.push(ipv4(CLIENT, SERVER, SYN, 20000, 0, b""));
    frames.push(ipv4(SERVER, CLIENT, RST | ACK, 0, 20001, b""));
    let (events, _) = replay(&pcap(101, &frames));
    assert_eq!(events[..5], CONVERSATION);
    assert_eq!(
        events[5..],
        [
            "open 2 10.0.0.1:40112 10.0.0.2:5432 Client Some(9001) None",
            "open 2 10.0.0.1:40112 10.0.0.2:5432 Client Some(9001) Some(7001)",
            "data 2 Tx seq 9001 ack Some(7001) len 5 again",
            "close 2 Closed",
            "open 3 10.0.0.1:40112 10.0.0.2:5432 Client Some(20001) None",
            "close 3 Closed",
        ]
    );
}

#[test]
fn every_packet_seen_twice_is_still_one_flow() {
    let twice: Vec<Vec<u8>> = conversation().into_iter().flat_map(|p| [p.clone(), p]).collect();
    let (events, _) = replay(&pcap(101, &twice));
    let expected: Vec<&str> =
        CONVERSATION.iter().flat_map(|&e| if e.starts_with("data") { vec![e, e] } else { vec![e] }).collect();
    assert_eq!(events, expected);
}

#[test]
fn a_handshake_captured_in_part_still_tells_the_role() {
    let frames = &conversation()[1..];
    let (events, _) = replay(&pcap(101, frames));
    assert_eq!(events[0], "open 1 10.0.0.1:40112 10.0.0.2:5432 Client Some(100) Some(500)");
    assert_eq!(events[1..], CONVERSATION[2..]);
}

#[test]
fn a_capture_that_begins_mid_stream_claims_nothing() {
    let (events, _) = replay(&pcap(101, &conversation()[4..]));
    assert_eq!(
        events,
        [
            "open 1 10.0.0.2:5432 10.0.0.1:40112 Unknown None None",
            "data 1 Tx seq 500 ack Some(105) len 5 reply",
            "close 1 Closed",
        ]
    );
}

#[test]
fn a_reset_nobody_believed_hides_nothing() {
    let mut frames = conversation()[..4].to_vec();
    frames.push(ipv4(SERVER, CLIENT, RST, 12345, 0, b""));
    frames.push(ipv4(CLIENT, SERVER, ACK, 100, 500, b"query")); // a late copy
    frames.push(ipv4(SERVER, CLIENT, ACK, 500, 105, b"reply")); // new bytes
    let (events, _) = replay(&pcap(101, &frames));
    assert_eq!(
        events[3..],
        [
            "close 1 Closed",
            "open 2 10.0.0.2:5432 10.0.0.1:40112 Unknown None None",
            "data 2 Tx seq 500 ack Some(105) len 5 reply",
            "close 2 EndOfInput",
        ]
    );
}

#[test]
fn data_sent_with_the_syn_begins_after_it() {
    let frames = [ipv4(CLIENT, SERVER, SYN, u32::MAX, 0, b"fast"), ipv4(SERVER, CLIENT, SYN | ACK, 499, 4, b"")];
    let (events, _) = replay(&pcap(101, &frames));
    assert_eq!(
        events[..3],
        [
            "open 1 10.0.0.1:40112 10.0.0.2:5432 Client Some(0) None",
            "data 1 Tx seq 0 ack None len 4 fast",
            "open 1 10.0.0.1:40112 10.0.0.2:5432 Client Some(0) Some(500)",
        ]
    );
}

#[test]
fn flows_are_bounded_and_the_idle_ones_go_first() {
    let frames: Vec<Vec<u8>> = (0..40).map(|i| ipv4((1, 1000 + i), SERVER, ACK, 1, 1, b"x")).collect();
    let (events, _) = replay_with(&pcap(101, &frames), 16);
    // The sixteenth of 16 each time: one out for every one in.
    assert_eq!(events.iter().filter(|e| *e == "lost Agent capture_flows_full 1").count(), 40 - 16);
    let evicted: Vec<&str> = events.iter().filter(|e| e.starts_with("close")).map(String::as_str).collect();
    let expected: Vec<String> = (1..=40).map(|i| format!("close {i} EndOfInput")).collect();
    assert_eq!(evicted, expected);
}

#[test]
fn a_link_layer_nobody_reads_is_said_once() {
    let (events, warnings) = replay(&pcap(249, &conversation()));
    assert_eq!(events, ["lost Capture link_type 8"]);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("link type 249") && warnings[0].contains("byte 24"), "{warnings:?}");
}

/// A pcapng of one interface with the conversation in it, a drop count in the middle and at the end.
fn small_pcapng(big: bool) -> Vec<u8> {
    let ng = Ng { big };
    let mut file = [ng.section(), ng.interface(101, 0, &ng.option(9, &[9]))].concat();
    for (i, p) in conversation().iter().enumerate() {
        // A flags option, as some tools add to every packet.
        file.extend(ng.packet(0, 5_000_000_000 + i as u64, p, &ng.option(2, &[1, 0, 0, 0])));
        if i == 3 {
            file.extend(ng.statistics(0, 5_000_000_000, 3));
            file.extend(ng.block(0x0bad, b"of another program"));
        }
    }
    file.extend(ng.statistics(0, 6_000_000_000, 10));
    file
}

#[test]
fn pcapng_of_both_byte_orders() {
    let mut expected: Vec<&str> = CONVERSATION.to_vec();
    expected.insert(3, "lost Capture interface_drop 3");
    expected.push("lost Capture interface_drop 7");
    for big in [false, true] {
        let (events, warnings) = replay(&small_pcapng(big));
        assert_eq!(events, expected);
        assert_eq!(warnings, [""; 0]);
    }
    // Sections follow one another, each with its own byte order, interfaces and counts. The packets of the second
    // are copies of those of the first: nothing new.
    let (events, warnings) = replay(&[small_pcapng(false), small_pcapng(true)].concat());
    expected.extend(["lost Capture interface_drop 3", "lost Capture interface_drop 7"]);
    assert_eq!(events, expected);
    assert_eq!(warnings, [""; 0]);
}

fn times(file: &[u8]) -> Vec<u64> {
    let mut source = PcapSource::new(file, file).expect("a capture");
    let mut times = Vec::new();
    while source
        .poll(Duration::ZERO, &mut |e| {
            if let Event::Segment(s) = e {
                times.push(s.at.0);
            }
        })
        .expect("a file never fails")
        != Progress::End
    {}
    times
}

#[test]
fn timestamps_follow_the_resolution() {
    let packet = ipv4(CLIENT, SERVER, ACK, 7, 8, b"hello");
    for big in [false, true] {
        let ng = Ng { big };
        let at = |options: &[u8], ticks: u64| {
            times(&[ng.section(), ng.interface(101, 0, options), ng.packet(0, ticks, &packet, &[])].concat())
        };
        assert_eq!(at(&[], 1_700_000_000_123_456), [1_700_000_000_123_456_000]);
        assert_eq!(at(&ng.option(9, &[9]), 1_700_000_000_123_456_789), [1_700_000_000_123_456_789]);
        assert_eq!(at(&ng.option(9, &[0]), 1_700_000_000), [1_700_000_000_000_000_000]);
        assert_eq!(at(&ng.option(9, &[12]), 1_700_000_123_456_000), [1_700_000_123_456]);
        assert_eq!(at(&ng.option(9, &[0x80 | 10]), 1_700_000_000 * 1024 + 512), [1_700_000_000_500_000_000]);
        let offset = [ng.option(9, &[0]), ng.option(14, &ng.n64(1_700_000_000))].concat();
        assert_eq!(at(&offset, 5), [1_700_000_005_000_000_000]);
        let back = [ng.option(9, &[0]), ng.option(14, &ng.n64((-10i64) as u64))].concat();
        assert_eq!(at(&back, 5), [0]);
        assert_eq!(at(&ng.option(9, &[0]), u64::MAX), [u64::MAX]);
        assert_eq!(at(&ng.option(9, &[0x7f]), u64::MAX), [0]);
        assert_eq!(at(&ng.option(9, &[0xff]), u64::MAX), [((u128::from(u64::MAX) * 1_000_000_000) >> 127) as u64]);
    }
    let mut nanos = pcap(101, std::slice::from_ref(&packet));
    assert_eq!(times(&nanos), [1_000_000_007_000]);
    nanos[..4].copy_from_slice(&0xa1b2_3c4du32.to_le_bytes());
    assert_eq!(times(&nanos), [1_000_000_000_007]);
}

#[test]
fn a_big_endian_pcap_reads_the_same() {
    let little = pcap(101, &conversation());
    let mut big = little.clone();
    let mut swap = |at: usize, n: usize| big[at..at + n].reverse();
    for (at, n) in [(0, 4), (4, 2), (6, 2), (16, 4), (20, 4)] {
        swap(at, n);
    }
    let mut at = 24;
    while at < little.len() {
        (0..4).for_each(|i| swap(at + 4 * i, 4));
        at += 16 + u32::from_le_bytes(little[at + 8..at + 12].try_into().expect("4 bytes")) as usize;
    }
    assert_eq!(replay(&big), replay(&little));
}

#[test]
fn simple_packets_end_at_the_snapshot_length() {
    let ng = Ng { big: false };
    let packet = ipv4(CLIENT, SERVER, ACK, 7, 8, b"hello");
    let block = |captured: &[u8]| ng.block(3, &[&ng.n32(packet.len() as u32)[..], captured].concat());
    let whole = [ng.section(), ng.interface(101, 0, &[]), block(&packet)].concat();
    assert_eq!(replay(&whole).0[1], "data 1 Tx seq 7 ack Some(8) len 5 hello");
    let cut = [ng.section(), ng.interface(101, 54, &[]), block(&packet[..54])].concat();
    assert_eq!(replay(&cut).0[1], "data 1 Tx seq 7 ack Some(8) len 5 he");
}

#[test]
fn a_packet_of_no_known_interface_is_lost_and_said() {
    let ng = Ng { big: false };
    let (events, warnings) = replay(&[ng.section(), ng.packet(3, 1, &conversation()[3], &[])].concat());
    assert_eq!(events, ["lost Capture interface_unknown 1"]);
    assert!(warnings[0].contains("byte 28"), "{warnings:?}");
}

/// Cuts `file` after every byte: what comes out is a beginning of what the whole gives, with a loss and a warning
/// unless the cut is between two records.
fn check_every_prefix(file: &[u8], boundaries: &[usize]) {
    let (whole, _) = replay(file);
    for n in 4..file.len() {
        let (events, warnings) = replay(&file[..n]);
        let clean = boundaries.contains(&n);
        assert_eq!(warnings.is_empty(), clean, "cut after {n}: {warnings:?}");
        assert_eq!(events.iter().any(|e| e == "lost Capture capture_cut 1"), !clean, "cut after {n}");
        let told: Vec<&String> =
            events.iter().filter(|e| !e.ends_with("EndOfInput") && !e.contains("capture_cut")).collect();
        assert!(told.len() <= whole.len());
        assert!(told.iter().zip(&whole).all(|(a, b)| *a == b), "cut after {n}: {events:?}");
    }
}

#[test]
fn a_pcap_cut_anywhere_gives_what_came_before() {
    let frames = conversation();
    let mut boundaries = vec![24];
    for f in &frames {
        boundaries.push(boundaries.last().copied().unwrap_or(0) + 16 + f.len());
    }
    check_every_prefix(&pcap(101, &frames), &boundaries);
}

#[test]
fn a_pcapng_cut_anywhere_gives_what_came_before() {
    for big in [false, true] {
        let file = small_pcapng(big);
        let mut boundaries = vec![0];
        while boundaries.last().is_some_and(|&b| b < file.len()) {
            let at = boundaries.last().copied().unwrap_or(0);
            let len: [u8; 4] = file[at + 4..at + 8].try_into().expect("4 bytes");
            boundaries.push(at + if big { u32::from_be_bytes(len) } else { u32::from_le_bytes(len) } as usize);
        }
        check_every_prefix(&file, &boundaries);
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let mut file = pcap(101, &conversation());
    let second = 24 + 16 + conversation()[0].len();
    file[second + 8..second + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let (events, warnings) = replay(&file);
    assert_eq!(events, [CONVERSATION[0], "lost Capture capture_corrupt 1", "close 1 EndOfInput"]);
    assert!(warnings[0].contains(&format!("byte {second}")) && warnings[0].contains("4294967295"), "{warnings:?}");

    let ng = Ng { big: false };
    let mut file = small_pcapng(false);
    let at = ng.section().len() + ng.interface(101, 0, &ng.option(9, &[9])).len();
    file[at + 4] = 13;
    let (events, warnings) = replay(&file);
    assert_eq!(events, ["lost Capture capture_corrupt 1"]);
    assert!(warnings[0].contains(&format!("byte {at}")), "{warnings:?}");
}

#[test]
fn a_failing_disk_loses_only_what_it_holds() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("bad sector"))
        }
    }
    let file = pcap(101, &conversation()[..4]);
    let mut source = PcapSource::new(&file, file.as_slice().chain(Fails)).expect("a capture");
    let mut events = Vec::new();
    let mut sink = |e: Event<'_>| events.push(describe(e));
    while source.poll(Duration::ZERO, &mut sink).expect("damage is no error") != Progress::End {}
    assert!(events.contains(&CONVERSATION[2].to_owned()));
    assert!(events.contains(&"lost Capture capture_unreadable 1".to_owned()));
    assert!(source.warnings()[0].contains("bad sector"));
}

#[test]
fn time_passes_without_payload() {
    // Bare acknowledgements, one a second.
    let frames = vec![ipv4(CLIENT, SERVER, ACK, 7, 8, b""); 4];
    let file = pcap(101, &frames);
    let mut source = PcapSource::new(&file, file.as_slice()).expect("a capture");
    let mut ticks = Vec::new();
    while source
        .poll(Duration::ZERO, &mut |e| match e {
            Event::Tick { at } => ticks.push(at.0 / 1_000_000_000),
            other => panic!("{other:?}"),
        })
        .expect("a file never fails")
        != Progress::End
    {}
    assert_eq!(ticks, [1001, 1002, 1003]);
}

mod hostile {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::file::fuzz_capture;

    proptest! {
        /// Any bytes overwritten anywhere: it ends, and the checks in `fuzz_capture` hold.
        #[test]
        fn damaged_captures_are_harmless(
            which in 0usize..3,
            hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        ) {
            let mut file = match which {
                0 => pcap(1, &wrapped(|p| ethernet(0x0800, p))),
                1 => small_pcapng(false),
                _ => small_pcapng(true),
            };
            for (at, byte) in hits {
                let at = at.index(file.len());
                file[at] = byte;
            }
            fuzz_capture(&file);
        }

        /// Any frame on any link layer.
        #[test]
        fn any_frame_is_harmless(link in 0u32..300, frame in prop::collection::vec(any::<u8>(), 0..120)) {
            fuzz_capture(&pcap(link, &[frame]));
        }
    }
}

/// IPv4 from a tunnel's end to the other, with this protocol inside.
fn outer(protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut p = ipv4_with(8, 9, 0x4000, body);
    p[9] = protocol;
    p
}

fn udp(port: u16, body: &[u8]) -> Vec<u8> {
    let mut d = 50_000u16.to_be_bytes().to_vec();
    d.extend(port.to_be_bytes());
    d.extend((8 + body.len() as u16).to_be_bytes());
    d.extend([0, 0]);
    d.extend(body);
    outer(17, &d)
}

fn frame(p: &[u8]) -> Vec<u8> {
    ethernet(0x0800, p)
}

fn vxlan(inner: &[u8]) -> Vec<u8> {
    udp(4789, &[&[8, 0, 0, 0, 0, 0, 7, 0], inner].concat())
}

fn geneve(kind: u16, options: &[u8], inner: &[u8]) -> Vec<u8> {
    let [a, b] = kind.to_be_bytes();
    udp(6081, &[&[options.len() as u8 / 4, 0, a, b, 0, 0, 7, 0], options, inner].concat())
}

fn gre(flags: u8, kind: u16, fields: &[u8], inner: &[u8]) -> Vec<u8> {
    outer(47, &[&[flags, 0], &kind.to_be_bytes()[..], fields, inner].concat())
}

fn mpls(labels: usize, inner: &[u8]) -> Vec<u8> {
    let mut all = [0, 1, 0, 64].repeat(labels - 1);
    all.extend([0, 2, 1, 64]);
    [&all[..], inner].concat()
}

fn pppoe(inner: &[u8]) -> Vec<u8> {
    let [a, b] = (inner.len() as u16 + 2).to_be_bytes();
    [&[0x11, 0, 0, 9, a, b, 0, 0x21], inner].concat()
}

#[test]
fn tunnels_and_labels_nested_in_each_other_give_the_same_connection() {
    let tagged = |p: &[u8]| ethernet(0x88a8, &[&[0, 9, 0x81, 0, 0, 7, 8, 0], p].concat());
    let raw: [(&str, Vec<Vec<u8>>); 11] = [
        ("vxlan", wrapped(|p| vxlan(&frame(p)))),
        ("vxlan of tagged frames", wrapped(|p| vxlan(&tagged(p)))),
        ("geneve with options", wrapped(|p| geneve(0x6558, &[1, 2, 3, 1, 9, 9, 9, 9], &frame(p)))),
        ("geneve of ip", wrapped(|p| geneve(0x0800, &[], p))),
        ("gre", wrapped(|p| gre(0, 0x0800, &[], p))),
        ("gre with checksum, key, number", wrapped(|p| gre(0xb0, 0x6558, &[0; 12], &frame(p)))),
        ("gre of mpls", wrapped(|p| gre(0x20, 0x8847, &[0, 0, 0, 5], &mpls(1, p)))),
        (
            "pptp",
            wrapped(|p| {
                gre(0x30, 0x880b, &[0; 8], &[&[0, 0x21], p].concat())
                    .into_iter()
                    .enumerate()
                    .map(|(i, b)| if i == 21 { 1 } else { b })
                    .collect()
            }),
        ),
        ("ip in ip", wrapped(|p| outer(4, p))),
        ("vxlan in gre in vxlan", wrapped(|p| vxlan(&frame(&gre(0, 0x0800, &[], &vxlan(&frame(p))))))),
        ("an early vxlan port", wrapped(|p| udp(8472, &[&[8, 0, 0, 0, 0, 0, 7, 0], &frame(p)[..]].concat()))),
    ];
    for (what, packets) in raw {
        let (events, warnings) = replay(&pcap(101, &packets));
        assert_eq!((&events[..], warnings.len()), (&CONVERSATION.map(str::to_owned)[..], 0), "{what}");
    }
    let framed: [(&str, Vec<Vec<u8>>); 6] = [
        ("mpls", wrapped(|p| ethernet(0x8847, &mpls(3, p)))),
        ("an ethernet pseudowire", wrapped(|p| ethernet(0x8847, &mpls(1, &[&[0; 4], &frame(p)[..]].concat())))),
        ("pppoe", wrapped(|p| ethernet(0x8864, &pppoe(p)))),
        (
            "pppoe behind two tags",
            wrapped(|p| ethernet(0x88a8, &[&[0, 9, 0x81, 0, 0, 7, 0x88, 0x64], &pppoe(p)[..]].concat())),
        ),
        ("snap", wrapped(|p| ethernet(100, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], p].concat()))),
        ("vxlan on ethernet", wrapped(|p| frame(&vxlan(&frame(p))))),
    ];
    for (what, packets) in framed {
        let (events, warnings) = replay(&pcap(1, &packets));
        assert_eq!((&events[..], warnings.len()), (&CONVERSATION.map(str::to_owned)[..], 0), "{what}");
    }
}

#[test]
fn what_cannot_be_read_is_said_once_for_each_kind_with_its_count() {
    let frames = [
        ethernet(0x88e5, b"secret"),
        frame(&outer(50, b"secret")),
        ethernet(0x88e5, b"secret"),
        ethernet(0x7777, b"what"),
        ethernet(0x0806, b"who has"),
        frame(&udp(53, b"a question")),
        ethernet(0x8864, &[0x11, 0, 0, 9, 0, 3, 0, 0x3d, 1]),
        ethernet(0x8864, &[0x11, 0, 0, 9, 0, 3, 0xc0, 0x21, 1]),
    ];
    let (events, warnings) = replay(&pcap(1, &frames));
    assert_eq!(events, ["lost Capture unreadable_packet 5"]);
    assert_eq!(
        warnings,
        [
            "Ethernet type 0x7777 cannot be read; packets skipped: 1, from byte 152 on",
            "PPP protocol 0x003d cannot be read; packets skipped: 1, from byte 291 on",
            "ESP (encrypted) cannot be read; packets skipped: 1, from byte 60 on",
            "MACsec (encrypted) cannot be read; packets skipped: 2, from byte 24 on",
        ]
    );
}

#[test]
fn tunnels_without_end_are_malformed() {
    let mut p = conversation()[3].clone();
    for _ in 0..40 {
        p = outer(4, &p);
    }
    assert_eq!(replay(&pcap(101, &[p])).0, ["lost Capture headers_malformed 1"]);
    let tags = [0, 7, 0x81, 0].repeat(40);
    assert_eq!(replay(&pcap(1, &[ethernet(0x8100, &tags)])).0, ["lost Capture headers_malformed 1"]);
}

#[test]
fn packet_blocks_of_old_files_are_read_and_unknown_blocks_are_counted() {
    for big in [false, true] {
        let ng = Ng { big };
        let old = |drops: u16, frame: &[u8]| {
            let mut b = Vec::new();
            b.extend([ng.n16(0), ng.n16(drops)].concat());
            b.extend([ng.n32(0), ng.n32(7)].concat());
            b.extend([ng.n32(frame.len() as u32), ng.n32(frame.len() as u32)].concat());
            b.extend(frame);
            ng.block(2, &b)
        };
        let mut file = [ng.section(), ng.interface(101, 0, &[]), ng.block(0x1234, b"what")].concat();
        for (i, p) in conversation().iter().enumerate() {
            file.extend(old(if i == 3 { 5 } else { u16::MAX }, p));
        }
        let (events, warnings) = replay(&file);
        let mut expected = CONVERSATION.map(str::to_owned).to_vec();
        expected.insert(2, "lost Capture interface_drop 5".to_owned());
        assert_eq!(events, expected);
        assert_eq!(warnings, ["block type 0x1234 is not known; blocks skipped: 1, from byte 52 on"]);
    }
}

#[test]
fn a_second_answer_to_a_handshake_takes_nothing_over_unless_it_is_taken_up() {
    // Of no connection, of the same with another number, in the middle and at once.
    for (at, ack, seq) in [(4, 88_000, 77_000), (4, 100, 77_000), (2, 100, 77_000), (3, 88_000, 0)] {
        let stray = ipv4(SERVER, CLIENT, SYN | ACK, seq, ack, b"");
        let mut frames = conversation();
        frames.insert(at, stray);
        // Who never asked for it resets it.
        if ack == 88_000 {
            frames.insert(at + 1, ipv4(CLIENT, SERVER, RST, ack, 0, b""));
        }
        assert_eq!(replay(&pcap(101, &frames)).0, CONVERSATION, "at {at}");
    }
    // The next connection, without its SYN; the end of the first was not captured.
    let mut frames = conversation()[..5].to_vec();
    frames.push(ipv4(SERVER, CLIENT, SYN | ACK, 7000, 9001, b""));
    frames.push(ipv4(CLIENT, SERVER, ACK, 9001, 7001, b"again"));
    let (events, _) = replay(&pcap(101, &frames));
    assert_eq!(
        events[4..],
        [
            "close 1 Closed",
            "open 2 10.0.0.1:40112 10.0.0.2:5432 Client Some(9001) Some(7001)",
            "data 2 Tx seq 9001 ack Some(7001) len 5 again",
            "close 2 EndOfInput",
        ]
    );
}

#[test]
fn a_bare_acknowledgement_is_told_where_bytes_are_missing() {
    let mut frames = conversation()[..4].to_vec();
    frames.push(ipv4(CLIENT, SERVER, ACK, 110, 500, b"later"));
    frames.push(ipv4(SERVER, CLIENT, ACK, 500, 105, b""));
    frames.push(ipv4(CLIENT, SERVER, ACK, 105, 500, b"again"));
    frames.push(ipv4(SERVER, CLIENT, ACK, 500, 115, b""));
    let (events, _) = replay(&pcap(101, &frames));
    assert_eq!(
        events[3..],
        [
            "data 1 Tx seq 110 ack Some(500) len 5 later",
            "data 1 Rx seq 500 ack Some(105) len 0 ",
            "data 1 Tx seq 105 ack Some(500) len 5 again",
            "close 1 EndOfInput",
        ]
    );
}

/// A pcap whose packets come at these microseconds.
fn pcap_at(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let plain: Vec<Vec<u8>> = frames.iter().map(|(_, f)| f.clone()).collect();
    let mut file = pcap(101, &plain);
    let mut at = 24;
    for (micros, frame) in frames {
        file[at..at + 4].copy_from_slice(&1000u32.to_le_bytes());
        file[at + 4..at + 8].copy_from_slice(&micros.to_le_bytes());
        at += 16 + frame.len();
    }
    file
}

/// A question and its answer, of which the file has the answer first, and `between` packets of another connection.
fn answered_early(between: usize, micros: u32) -> Vec<u8> {
    let mut frames = vec![
        (0, ipv4(CLIENT, SERVER, SYN, 100, 0, b"")),
        (1, ipv4(SERVER, CLIENT, SYN | ACK, 900, 101, b"")),
        (2, ipv4(CLIENT, SERVER, ACK, 101, 901, b"one")),
        (3, ipv4(SERVER, CLIENT, ACK, 901, 107, b"answer")),
    ];
    for n in 0..between {
        frames.push((4, ipv4(SERVER, CLIENT, ACK, 907 + n as u32, 107, b"x")));
    }
    frames.push((micros, ipv4(CLIENT, SERVER, ACK, 104, 901, b"two")));
    frames.push((micros + 1, ipv4(CLIENT, SERVER, ACK, 107, 907 + between as u32, b"three")));
    pcap_at(&frames)
}

#[test]
fn an_acknowledgement_before_its_bytes_is_held_until_they_come() {
    let order = |file: &[u8]| {
        let (events, _) = replay(file);
        let is = |e: &String, text: &str| e.contains(text);
        let at = |text: &str| events.iter().position(|e| is(e, text)).unwrap_or_else(|| panic!("{text}: {events:#?}"));
        (at("seq 104"), at("seq 901"))
    };
    // One packet, and a few: the answer is told behind what it answers.
    for between in [0, 3, 5] {
        let (asked, answered) = order(&answered_early(between, 50_000));
        assert!(asked < answered, "{between}");
    }
    // Too many, or too late: it is told as it came, and the gap stays one.
    for (between, micros) in [(20, 50_000), (0, 150_000)] {
        let (asked, answered) = order(&answered_early(between, micros));
        assert!(answered < asked, "{between} {micros}");
    }
    // Nothing comes any more, and nothing is kept back.
    let mut file = answered_early(0, 50_000);
    file.truncate(24 + 4 * 16 + 3 * 52 + 3 + 6 + 52);
    assert!(replay(&file).0.iter().any(|e| e.contains("seq 901")), "{:#?}", replay(&file).0);
}

#[test]
fn what_waits_has_bounds_and_times_never_go_back() {
    let mut frames = Vec::new();
    for n in 0..3000u32 {
        let client = (1, 10_000 + n as u16);
        frames.push((n, ipv4(client, SERVER, SYN, 100, 0, b"")));
        frames.push((n, ipv4(SERVER, client, SYN | ACK, 900, 101, b"")));
        frames.push((n, ipv4(SERVER, client, ACK, 901, 200, &[b'x'; 400])));
    }
    let file = pcap_at(&frames);
    let mut last = Nanos(0);
    let mut n = 0;
    let mut source = PcapSource::new(file.as_slice(), file.as_slice()).expect("a capture");
    let mut each = |e: Event<'_>| {
        assert!(e.at() >= last);
        last = e.at();
        n += usize::from(matches!(e, Event::Segment(_)));
    };
    while source.poll(Duration::ZERO, &mut each).expect("a file never fails") != Progress::End {}
    assert_eq!(n, 3000);
}
