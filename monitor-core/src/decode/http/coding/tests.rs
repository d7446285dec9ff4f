//! Bytes that real tools have packed (gzip 1.12, zstd 1.5, Python's zlib, brotli 1.2 and zstandard 0.25), at every cut, and
//! bombs. `samples/plain` is what they were made of.

use super::*;
use crate::decode::DecodeError;

const PLAIN: &[u8] = include_bytes!("samples/plain");

macro_rules! samples {
    ($($name:literal as $coding:literal),* $(,)?) => {
        &[$(($name, $coding, include_bytes!(concat!("samples/", $name)))),*]
    };
}

const SAMPLES: &[(&str, &str, &[u8])] = samples![
    "gzip" as "gzip",
    "gzip_members" as "x-gzip",
    "gzip_flushed" as "GZIP",
    "deflate_zlib" as "deflate",
    "deflate_raw" as "deflate",
    "br" as "br",
    "br_small" as "br",
    "br_flushed" as "br",
    "zstd" as "zstd",
    "zstd_checked" as "zstd",
    "zstd_flushed" as "zstd",
    "zstd_frames" as "zstd",
];

const BOMBS: &[(&str, &str, &[u8])] = samples!["bomb_gzip" as "gzip", "bomb_br" as "br", "bomb_zstd" as "zstd"];

fn coding(name: &str, memory: &Memory) -> Coding {
    Coding::of(&[Header { name: "Content-Encoding", value: name.as_bytes() }], memory)
}

/// What comes out of the pieces, why it stopped, and whether it was whole.
fn read(name: &str, pieces: &[&[u8]]) -> (Vec<u8>, Option<DecodeError>, bool) {
    let memory = Memory::default();
    let (mut coding, mut credit, mut all) = (coding(name, &memory), Credit::default(), Vec::new());
    let stopped = pieces.iter().find_map(|p| coding.feed(p, &mut credit, &mut |b| all.extend_from_slice(b)).err());
    let whole = stopped.is_none() && coding.end().is_ok();
    assert_eq!(memory.0.get(), 0, "{name}: all is given back");
    (all, stopped, whole)
}

#[test]
fn what_real_tools_pack_is_read_at_every_cut() {
    for (name, coding, packed) in SAMPLES {
        assert_eq!(read(coding, &[packed]), (PLAIN.to_vec(), None, true), "{name}");
        for cut in 0..packed.len() {
            let (a, b) = packed.split_at(cut);
            assert!(read(coding, &[a, b]) == (PLAIN.to_vec(), None, true), "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = packed.chunks(1).collect();
        assert_eq!(read(coding, &single), (PLAIN.to_vec(), None, true), "{name} byte by byte");
    }
}

#[test]
fn what_is_flushed_is_read_at_once() {
    for (name, coding, packed) in SAMPLES.iter().filter(|(name, ..)| matches!(*name, "gzip_flushed" | "br_flushed")) {
        let half = packed.len() / 2;
        let (some, _, whole) = read(coding, &[&packed[..half]]);
        assert!(!whole && some.len() + 1_000 > PLAIN.len() / 2, "{name}: {} of {}", some.len(), PLAIN.len());
        assert!(PLAIN.starts_with(&some));
    }
}

#[test]
fn what_breaks_off_is_a_beginning_and_is_not_whole() {
    for (name, coding, packed) in SAMPLES {
        for n in 1..packed.len() {
            let (some, stopped, whole) = read(coding, &[&packed[..n]]);
            assert!(PLAIN.starts_with(&some) && stopped.is_none(), "{name} {n}");
            // Deflate alone does not say where it ends; and a member or a frame may be the last one.
            let may_end = coding == &"deflate" || name.ends_with("members") || name.ends_with("frames");
            assert!(!whole || may_end, "{name} {n}");
        }
    }
}

#[test]
fn several_are_taken_back_in_reverse_order() {
    let mut inner = GzEncoder::new(Vec::new());
    inner.write_all(include_bytes!("samples/br")).unwrap();
    let both = inner.finish().unwrap();
    assert_eq!(read("br, gzip", &[&both]).0, PLAIN);
    assert_eq!(read("identity, br, , gzip", &[&both[..50], &both[50..]]).0, PLAIN);
    assert!(read("gzip, br", &[&both]).1.is_some());
    let memory = Memory::default();
    let two = [("Content-Encoding", "br"), ("content-encoding", "gzip")];
    let headers: Vec<_> = two.iter().map(|(name, v)| Header { name, value: v.as_bytes() }).collect();
    let mut all = Vec::new();
    let mut coding = Coding::of(&headers, &memory);
    coding.feed(&both, &mut Credit::default(), &mut |b| all.extend_from_slice(b)).unwrap();
    assert_eq!(all, PLAIN);
}

/// flate2's, with its level chosen.
struct GzEncoder;

impl GzEncoder {
    #[expect(clippy::new_ret_no_self, reason = "a name for what is made")]
    fn new(out: Vec<u8>) -> flate2::write::GzEncoder<Vec<u8>> {
        flate2::write::GzEncoder::new(out, flate2::Compression::default())
    }
}

#[test]
fn what_is_not_known_is_refused_once() {
    for (name, why) in [("compress", "content_coding_unknown"), ("gzip,gzip,gzip,gzip", "content_coding_list")] {
        let memory = Memory::default();
        let mut coding = coding(name, &memory);
        let mut feed = || coding.feed(b"x", &mut Credit::default(), &mut |_| panic!("nothing comes out"));
        assert_eq!((feed().map_err(DecodeError::name), feed()), (Err(why), Ok(())), "{name}");
    }
    assert!(matches!(coding("identity", &Memory::default()), Coding::Plain));
    for name in ["gzip", "br", "zstd"] {
        let (some, stopped, whole) = read(name, &[b"??????????????????????????????"]);
        assert!(some.is_empty() && (stopped.is_some() || !whole), "{name}");
        assert!(!read(name, &[b"???"]).2, "{name}: three bytes");
        assert!(read(name, &[]).2, "{name}: nothing at all");
    }
}

#[test]
fn bombs_stop_at_their_bound_and_cost_no_more_on_the_next_request() {
    for (name, coding, packed) in BOMBS {
        let (all, stopped, _) = read(coding, &[packed]);
        assert_eq!(stopped, Some(DecodeError::ContentCodingTooLarge), "{name}");
        assert!(all.len() as u64 <= MAX_CREDIT.max(FREE + PER_BYTE * packed.len() as u64), "{name}: {}", all.len());
        let (mut credit, mut n, memory) = (Credit::default(), 0, Memory::default());
        for _ in 0..20 {
            let mut coding = self::coding(coding, &memory);
            for piece in packed.chunks(100) {
                let _ = coding.feed(piece, &mut credit, &mut |b| n += b.len() as u64);
            }
        }
        assert!(n <= FREE + 20 * PER_BYTE * packed.len() as u64, "{name}: {n}");
    }
    // In two layers.
    let mut twice = GzEncoder::new(Vec::new());
    twice.write_all(BOMBS[0].2).unwrap();
    let twice = twice.finish().unwrap();
    assert_eq!(read("gzip, gzip", &[&twice]).1, Some(DecodeError::ContentCodingTooLarge));
    // Many small members.
    let member = {
        let mut one = GzEncoder::new(Vec::new());
        one.write_all(b"x").unwrap();
        one.finish().unwrap()
    };
    assert!(read("gzip", &[&member.repeat(10_000)]).0.len() <= MAX_MEMBERS as usize);
}

#[test]
fn memory_is_shared_and_bounded() {
    let memory = Memory::default();
    let packed = SAMPLES.iter().find(|(name, ..)| *name == "zstd_flushed").unwrap().2;
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..200 {
        let mut coding = coding("zstd", &memory);
        match coding.feed(&packed[..40], &mut Credit::default(), &mut |_| {}) {
            Ok(()) => held.push(coding),
            Err(why) => {
                assert_eq!(why, DecodeError::ContentCodingMemory);
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && memory.0.get() <= MAX_MEMORY);
    assert!(held.iter().map(Coding::memory).sum::<usize>() >= memory.0.get() / 2);
    drop(held);
    assert_eq!(memory.0.get(), 0);
    // A window of 16 MiB is not kept.
    assert_eq!(brotli_window(0b0001_1111), 1 << 24);
    assert_eq!([0b0000, 0b0001, 0b0011, 0b1101].map(brotli_window), [1 << 16, 1 << 17, 1 << 18, 1 << 23]);
    assert_eq!(read("br", &[&[0b0000_1111, 0, 0, 0]]).1, Some(DecodeError::ContentCodingMemory));
}

#[test]
fn no_input_panics() {
    for (i, name) in [(0u8, "gzip"), (1, "deflate_raw"), (2, "br_small"), (3, "zstd_checked")] {
        let packed = SAMPLES.iter().find(|(n, ..)| *n == name).unwrap().2;
        for at in (0..packed.len()).step_by(3) {
            for bit in [0, 3, 7] {
                let mut bad = vec![i | (8 * (at as u8 % 32))];
                bad.extend_from_slice(packed);
                bad[1 + at] ^= 1 << bit;
                fuzz(&bad);
            }
        }
    }
    for first in 0..=255 {
        fuzz(&[&[first], SAMPLES[0].2].concat());
    }
}
