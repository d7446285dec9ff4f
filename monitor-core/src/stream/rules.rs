//! Holes, overlaps and numbers that lie: when a hole is given up, which copy wins, what is not believed.

use proptest::prelude::*;

use super::*;
use Side::{Client, Server};

#[derive(Default)]
struct Log {
    s: Vec<String>,
    times: Vec<u64>,
    n: [u64; 2],
}
impl Deliver for Log {
    fn bytes(&mut self, f: Side, at: Nanos, b: &[u8], e: bool) {
        assert!(!b.is_empty());
        self.n[(f == Server) as usize] += b.len() as u64;
        self.times.push(at.0);
        self.s.push(format!("{}{}", String::from_utf8_lossy(b), if e { "|" } else { "" }));
    }
    fn missing(&mut self, f: Side, at: Nanos, n: u64, k: Missing) {
        assert!(n > 0);
        self.n[(f == Server) as usize] += n;
        self.times.push(at.0);
        self.s.push(format!("{k:?}({n})"));
    }
}
/// Streams that began at 0 and 500, and what they delivered.
struct R(Reassembler, Log);
impl R {
    fn new() -> Self {
        let mut r = Reassembler::new(StreamLimits::default());
        r.start(Client, 0);
        r.start(Server, 500);
        R(r, Log::default())
    }
    fn rec(&mut self, from: Side, at: u64, seq: u32, ack: Option<u32>, len: u32, bytes: &[u8]) {
        self.0.segment(Incoming { from, at: Nanos(at), seq, ack, len, bytes }, &mut self.1);
    }
    fn c(&mut self, at: u64, seq: u32, b: &[u8]) {
        self.rec(Client, at, seq, None, b.len() as u32, b)
    }
    fn log(&self) -> String {
        self.1.s.join(" ")
    }
}

#[test]
fn every_hole_older_than_the_limit_goes_in_one_expire() {
    let mut r = R::new();
    for i in 0..100 {
        r.c(1, 10 + i * 10, b"x");
    }
    r.0.expire(Nanos::secs(3), &mut r.1);
    assert_eq!(r.0.memory(), 0);
}
#[test]
fn a_hole_ages_from_the_piece_that_shows_it() {
    let mut r = R::new();
    let ms = |n: u64| Nanos::millis(n).0;
    r.c(ms(1), 2, b"c"); // hole 1
    r.c(ms(1900), 5, b"f"); // hole 2, young
    r.0.expire(Nanos::millis(2100), &mut r.1);
    assert_eq!(r.log(), "Gap(2) c|");
    r.0.expire(Nanos::millis(2200), &mut r.1);
    assert_eq!(r.log(), "Gap(2) c|", "hole 2 is 300 ms old");
}
#[test]
fn a_hole_is_kept_while_the_other_end_waits_for_it_too() {
    let s = |n: u64| Nanos::secs(n).0;
    let held = |ack: Option<u32>| {
        let mut r = R::new();
        r.c(s(1), 0, b"ab");
        r.c(s(1), 3, b"d");
        r.rec(Server, s(2), 500, ack, 0, b"");
        r.0.expire(Nanos(s(4)), &mut r.1);
        r
    };
    let mut r = held(Some(2));
    r.c(s(9), 2, b"c");
    assert_eq!(r.log(), "ab| c| d|", "sent again after its third timeout");
    // Nobody says so; or it was said before the hole was there.
    assert_eq!(held(None).log(), "ab| Gap(1) d|");
    let mut r = R::new();
    r.c(s(1), 0, b"ab");
    r.rec(Server, s(2), 500, Some(2), 1, b"R");
    r.c(s(3), 3, b"d");
    r.0.expire(Nanos(s(5)), &mut r.1);
    assert_eq!(r.log(), "ab| R| Gap(1) d|");
    // It is not kept for ever.
    let mut r = held(Some(2));
    r.0.expire(Nanos(s(62)), &mut r.1);
    assert_eq!(r.log(), "ab| Gap(1) d|");
}
#[test]
fn one_lost_byte_before_waiting_data_that_is_acknowledged() {
    let mut r = R::new();
    r.c(1, 0, b"ab");
    r.c(2, 3, b"d");
    r.rec(Server, 3, 500, Some(3), 1, b"R");
    assert_eq!(r.log(), "ab| Gap(1) d| R|");
}
#[test]
fn one_acknowledged_byte_then_data_behind_it() {
    let mut r = R::new();
    r.c(1, 0, b"ab");
    r.rec(Server, 2, 500, Some(3), 1, b"R");
    r.c(3, 3, b"d");
    assert_eq!(r.log(), "ab| R| Gap(1) d|");
}
#[test]
fn mid_stream_begins_at_its_first_data_not_at_an_acknowledgement() {
    let mut r = R(Reassembler::new(StreamLimits::default()), Log::default());
    // 1,000 bytes were under way when capture began.
    r.rec(Server, 1, 500, Some(6000), 1, b"R");
    r.c(2, 7000, b"q");
    assert_eq!(r.log(), "R| q|");
}
#[test]
fn an_impossible_length_does_not_move_the_stream_back() {
    let mut r = R::new();
    r.c(1, 0, b"abcd");
    r.rec(Client, 2, 4, None, u32::MAX, b"");
    r.c(3, 3, b"d");
    r.c(4, 4, b"e");
    assert_eq!(r.log(), "abcd| e|");
}
#[test]
fn time_does_not_run_backwards() {
    let mut r = R::new();
    r.c(1, 2, b"c");
    r.c(5, 0, b"ab");
    r.c(6, 5, b"f");
    r.rec(Server, 7, 500, Some(5), 0, b"");
    assert!(r.1.times.is_sorted(), "{:?}", r.1.times);
}
#[test]
fn a_stream_that_got_far_ahead_unseen_is_found_again() {
    let mut r = R::new();
    r.c(1, 0, b"a");
    for i in 0..1000_u32 {
        r.c(2, 2_000_000_000 + i, b"x");
    }
    assert!(r.1.s.len() > 900, "{}", r.log());
}
#[test]
fn the_first_copy_wins_while_waiting() {
    let mut r = R::new();
    r.c(1, 6, b"gh");
    r.c(2, 5, b"fXXi");
    r.c(3, 0, b"abcde");
    assert_eq!(r.log().replace(['|', ' '], ""), "abcdefghi");
}
/// Prints nanoseconds per record; meant for `--release -- --nocapture`.
#[test]
fn throughput() {
    let b = [0; 512];
    struct N(u64);
    impl Deliver for N {
        fn bytes(&mut self, _: Side, _: Nanos, b: &[u8], _: bool) {
            self.0 += b.len() as u64;
        }
        fn missing(&mut self, _: Side, _: Nanos, _: u64, _: Missing) {
            panic!()
        }
    }
    let (mut r, mut out, mut c, mut s) = (Reassembler::new(StreamLimits::default()), N(0), u32::MAX - 9999, 3_u32);
    r.start(Client, c);
    r.start(Server, s);
    for i in 0..200_000 {
        r.segment(Incoming { from: Client, at: Nanos(i), seq: c, ack: Some(s), len: 512, bytes: &b }, &mut out);
        c = c.wrapping_add(512);
        r.segment(Incoming { from: Server, at: Nanos(i), seq: s, ack: Some(c), len: 512, bytes: &b }, &mut out);
        s = s.wrapping_add(512);
    }
    // A hundred thousand connections are followed at once.
    assert!(size_of::<Reassembler>() <= 200);
    assert_eq!(out.0, 204_800_000);
}
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Anything at all: no panic, no endless loop, bounded memory, nothing left at the end.
    #[test]
    fn anything_at_all(records in proptest::collection::vec((any::<bool>(), any::<u64>(), any::<(u8, u32)>(), any::<Option<u32>>(),
            any::<(u8, u32)>(), proptest::collection::vec(any::<u8>(), 0..50), any::<u8>()), 0..200)) {
        let mut r = R(Reassembler::new(StreamLimits { window: 2000, ..StreamLimits::default() }), Log::default());
        for (c, at, (near, seq), ack, (small, len), bytes, action) in records {
            let from = if c { Client } else { Server };
            let seq = if near < 250 { u32::from(near).wrapping_sub(100) } else { seq };
            let ack = if action & 1 == 0 { ack.map(|a| (a % 600).wrapping_sub(100)) } else { ack };
            let len = if small < 250 { u32::from(small) } else { len };
            r.rec(from, at, seq, ack, len, &bytes);
            match action {
                0..4 => r.0.expire(Nanos(at), &mut r.1),
                4..8 => r.0.start(from, seq),
                8 => r.0.close(Nanos(at), &mut r.1),
                _ => {}
            }
            prop_assert!(r.0.memory() < 100_000);
        }
        r.0.close(Nanos(0), &mut r.1);
        prop_assert_eq!(r.0.memory(), 0);
    }
    /// Two capture points that cut differently, mixed: the whole stream, nothing missing.
    #[test]
    fn two_capture_points_that_cut_differently((n, recs) in (1_usize..2000, proptest::collection::vec(any::<proptest::sample::Index>(), 0..30),
            proptest::collection::vec(any::<proptest::sample::Index>(), 0..30)).prop_flat_map(|(n, a, b)| {
                let mut all = Vec::new();
                for cuts in [a, b] {
                    let mut e: Vec<usize> = cuts.iter().map(|c| c.index(n + 1)).chain([0, n]).collect();
                    e.sort_unstable();
                    e.dedup();
                    all.extend(e.windows(2).map(|w| (w[0], w[1])));
                }
                (Just(n), Just(all).prop_shuffle())
            }), start: u32) {
        struct V(Vec<u8>);
        impl Deliver for V {
            fn bytes(&mut self, _: Side, _: Nanos, b: &[u8], _: bool) { self.0.extend_from_slice(b); }
            fn missing(&mut self, _: Side, _: Nanos, n: u64, _: Missing) { panic!("{n} missing") }
        }
        let stream: Vec<u8> = (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let (mut r, mut out) = (Reassembler::new(StreamLimits::default()), V(Vec::new()));
        r.start(Client, start);
        for (i, (a, b)) in recs.into_iter().enumerate() {
            r.segment(Incoming { from: Client, at: Nanos(i as u64), seq: start.wrapping_add(a as u32), ack: None,
                len: (b - a) as u32, bytes: &stream[a..b] }, &mut out);
        }
        prop_assert_eq!(out.0, stream);
        prop_assert_eq!(r.memory(), 0);
    }
}
