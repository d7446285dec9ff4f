//! Rules one by one, then properties on random streams.

use proptest::prelude::*;

use super::*;

/// What was delivered of one direction: bytes by position, `None` where missing.
#[derive(Default)]
struct Taken {
    client: Vec<Option<u8>>,
    server: Vec<Option<u8>>,
    log: Vec<String>,
}

impl Deliver for Taken {
    fn bytes(&mut self, from: Side, _at: Nanos, bytes: &[u8], ends_segment: bool) {
        let to = if from == Side::Client { &mut self.client } else { &mut self.server };
        to.extend(bytes.iter().map(|b| Some(*b)));
        let end = if ends_segment { "|" } else { "" };
        self.log.push(format!("{}{end}", String::from_utf8_lossy(bytes)));
    }

    fn missing(&mut self, from: Side, _at: Nanos, n: u64, kind: Missing) {
        let to = if from == Side::Client { &mut self.client } else { &mut self.server };
        to.extend(std::iter::repeat_n(None, n as usize));
        self.log.push(format!("{kind:?}({n})"));
    }
}

struct Rig {
    streams: Reassembler,
    taken: Taken,
}

impl Rig {
    fn new() -> Self {
        let mut streams = Reassembler::new(StreamLimits::default());
        streams.start(Side::Client, 100);
        streams.start(Side::Server, 500);
        Self { streams, taken: Taken::default() }
    }

    fn send(&mut self, from: Side, seq: u32, ack: Option<u32>, len: u32, bytes: &[u8]) -> &mut Self {
        let s = Incoming { from, at: Nanos(1), seq, ack, len, bytes };
        self.streams.segment(s, &mut self.taken);
        self
    }

    fn client(&mut self, seq: u32, bytes: &[u8]) -> &mut Self {
        self.send(Side::Client, seq, None, bytes.len() as u32, bytes)
    }

    fn log(&self) -> String {
        self.taken.log.join(" ")
    }
}

#[test]
fn in_order_and_twice_is_delivered_once() {
    let mut r = Rig::new();
    r.client(100, b"ab").client(100, b"ab").client(102, b"cd").client(101, b"bcde");
    assert_eq!(r.log(), "ab| cd| e|");
}

#[test]
fn out_of_order_waits_for_what_is_missing() {
    let mut r = Rig::new();
    r.client(104, b"ef").client(102, b"cd").client(104, b"ef").client(100, b"ab");
    assert_eq!(r.log(), "ab| cd| ef|");
    assert_eq!(r.streams.memory(), 0);
}

#[test]
fn an_acknowledgement_of_what_never_came_is_a_gap_before_the_reply() {
    let mut r = Rig::new();
    r.client(100, b"ab").send(Side::Server, 500, Some(110), 1, b"R");
    assert_eq!(r.log(), "ab| Gap(8) R|");
    // A late copy is old.
    r.client(102, b"cdefghij");
    assert_eq!(r.log(), "ab| Gap(8) R|");
}

#[test]
fn an_acknowledgement_resolves_holes_between_held_pieces() {
    let mut r = Rig::new();
    r.client(102, b"cd").client(106, b"gh").send(Side::Server, 500, Some(108), 1, b"R");
    assert_eq!(r.log(), "Gap(2) cd| Gap(2) gh| R|");
}

#[test]
fn syn_and_fin_are_no_bytes() {
    let mut r = Rig::new();
    r.client(100, b"ab").send(Side::Server, 500, Some(103), 1, b"R");
    assert_eq!(r.log(), "ab| R|");
    r.send(Side::Client, 102, Some(502), 0, b"");
    assert_eq!(r.log(), "ab| R|");
}

#[test]
fn keep_alives_are_old() {
    let mut r = Rig::new();
    r.client(100, b"ab").client(101, b"\0").client(102, b"c");
    assert_eq!(r.log(), "ab| c|");
}

#[test]
fn what_was_cut_is_said_and_a_tail_goes_on() {
    let mut r = Rig::new();
    r.send(Side::Client, 100, None, 10, b"abc").client(110, b"tail");
    assert_eq!(r.log(), "abc Truncated(7) tail|");
}

#[test]
fn mid_stream_begins_where_it_is_joined() {
    let mut r = Rig { streams: Reassembler::new(StreamLimits::default()), taken: Taken::default() };
    r.client(7000, b"ab").send(Side::Server, 9, Some(7002), 1, b"R");
    assert_eq!(r.log(), "ab| R|");
}

#[test]
fn sequence_numbers_wrap() {
    let mut r = Rig { streams: Reassembler::new(StreamLimits::default()), taken: Taken::default() };
    r.streams.start(Side::Client, u32::MAX - 1);
    r.client(2, b"ef").client(u32::MAX - 1, b"abcd");
    assert_eq!(r.log(), "abcd| ef|");
}

#[test]
fn a_hole_waits_only_so_long_and_so_much() {
    let mut r = Rig::new();
    r.client(102, b"cd");
    r.streams.expire(Nanos(1) + Nanos::secs(1), &mut r.taken);
    assert_eq!(r.log(), "");
    r.streams.expire(Nanos(1) + Nanos::secs(3), &mut r.taken);
    assert_eq!(r.log(), "Gap(2) cd|");

    let mut r = Rig::new();
    for i in 0..1000 {
        r.client(200 + i * 10, b"x");
    }
    assert!(r.streams.memory() < 512 * 100);
}

#[test]
fn numbers_from_nowhere_are_ignored() {
    let mut r = Rig::new();
    r.client(100, b"ab").client(100 + (1 << 30) + 5, b"zz");
    r.send(Side::Server, 500, Some(0x8000_0000), 1, b"R");
    assert_eq!(r.log(), "ab| R|");
}

/// A stream cut into segments: (offset, length).
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..40, 1..60)
}

fn content(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 % 251) as u8).collect()
}

proptest! {
    /// Whatever comes twice and in whatever order within the window: all of it once, in order.
    #[test]
    fn complete_input_is_complete_output(cuts in cuts(), start: u32, order in any::<u64>()) {
        let total: usize = cuts.iter().sum();
        let bytes = content(total);
        let mut segments = Vec::new();
        let mut offset = 0;
        for len in &cuts {
            for _ in 0..2 {
                segments.push((offset, *len));
            }
            offset += len;
        }
        let mut x = order | 1;
        for i in (1..segments.len()).rev() {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            segments.swap(i, (x % (i as u64 + 1)) as usize);
        }
        let mut streams = Reassembler::new(StreamLimits::default());
        let mut taken = Taken::default();
        streams.start(Side::Server, start);
        for (offset, len) in segments {
            let s = Incoming {
                from: Side::Server,
                at: Nanos(1),
                seq: start.wrapping_add(offset as u32),
                ack: None,
                len: len as u32,
                bytes: &bytes[offset..offset + len],
            };
            streams.segment(s, &mut taken);
        }
        let want: Vec<_> = bytes.iter().map(|b| Some(*b)).collect();
        prop_assert_eq!(&taken.server, &want);
        prop_assert_eq!(streams.memory(), 0);
    }

    /// Whatever is lost, cut or acknowledged: each byte delivered is the stream's at its position.
    #[test]
    fn loss_never_moves_a_byte(
        cuts in cuts(),
        start: u32,
        fate in prop::collection::vec(0u8..6, 60),
    ) {
        let total: usize = cuts.iter().sum();
        let bytes = content(total);
        let mut streams = Reassembler::new(StreamLimits::default());
        let mut taken = Taken::default();
        streams.start(Side::Server, start);
        streams.start(Side::Client, 1);
        let mut offset = 0;
        for (len, fate) in cuts.iter().zip(fate) {
            let captured = if fate == 1 { len / 2 } else { *len };
            let seq = start.wrapping_add(offset as u32);
            if fate != 0 {
                let s = Incoming {
                    from: Side::Server,
                    at: Nanos(1),
                    seq,
                    ack: None,
                    len: *len as u32,
                    bytes: &bytes[offset..offset + captured],
                };
                streams.segment(s, &mut taken);
            }
            offset += len;
            if fate == 2 {
                let ack = Some(start.wrapping_add(offset as u32));
                let s = Incoming { from: Side::Client, at: Nanos(1), seq: 1, ack, len: 0, bytes: b"" };
                streams.segment(s, &mut taken);
                prop_assert_eq!(taken.server.len(), offset);
            }
        }
        streams.close(Nanos(2), &mut taken);
        prop_assert!(taken.server.len() <= total);
        for (i, b) in taken.server.iter().enumerate() {
            prop_assert!(b.is_none() || *b == Some(bytes[i]));
        }
    }
}
