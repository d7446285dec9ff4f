//! A recording that does not come as it was: ended early, with a hole, cut, joined late, in other pieces, or changed. What
//! a decoder may say then is for each test to judge.

#![allow(clippy::indexing_slicing, reason = "a test that panics fails")]

use std::fs;
use std::path::Path;

use super::{Segments, Step, Suite};

/// Whole segments.
pub fn steps(segments: &Segments) -> impl Iterator<Item = Step<'_>> {
    segments.iter().map(|(from, bytes)| Step::Bytes(*from, bytes, true))
}

/// Says what was done to a recording, what the decoder said, and what it says of the whole.
pub type Judge<'a> = &'a mut dyn FnMut(&str, &[String], &[String]);

impl Suite {
    /// Every first part of every recording; judged is each line that the whole does not begin with.
    pub fn every_prefix(&self, judge: &mut dyn FnMut(&str, &str)) {
        for (name, segments) in self.recordings() {
            let want = self.whole(&segments);
            for n in 0..segments.len() {
                let got = self.run_from(false, steps(&segments).take(n));
                let same = got.iter().zip(&want).take_while(|(a, b)| a == b).count();
                for line in &got[same..] {
                    judge(&format!("{name} first {n}"), line);
                }
            }
        }
    }

    /// Every recording without each of its segments.
    pub fn every_hole(&self, judge: Judge<'_>) {
        for (name, segments) in self.recordings() {
            let want = self.whole(&segments);
            for lost in 0..segments.len() {
                let all = segments.iter().enumerate().map(|(i, (from, bytes))| {
                    if i == lost { Step::Hole(*from, bytes.len() as u64) } else { Step::Bytes(*from, bytes, true) }
                });
                judge(&format!("{name} without segment {lost}"), &self.run_from(false, all), &want);
            }
        }
    }

    /// Every recording with each of its segments cut to each of these lengths.
    pub fn every_cut(&self, lengths: &[usize], judge: Judge<'_>) {
        for (name, segments) in self.recordings() {
            let want = self.whole(&segments);
            for (lost, (_, all)) in segments.iter().enumerate() {
                for &keep in lengths.iter().filter(|k| **k < all.len()) {
                    let all = segments.iter().enumerate().flat_map(|(i, (from, bytes))| {
                        if i == lost {
                            let head = Step::Bytes(*from, &bytes[..keep], false);
                            vec![head, Step::Hole(*from, (bytes.len() - keep) as u64)]
                        } else {
                            vec![Step::Bytes(*from, bytes, true)]
                        }
                    });
                    judge(&format!("{name}: segment {lost} cut to {keep}"), &self.run_from(false, all), &want);
                }
            }
        }
    }

    /// Every recording joined at each of its segments from the `first` on.
    pub fn every_late_start(&self, first: usize, judge: Judge<'_>) {
        for (name, segments) in self.recordings() {
            let want = self.whole(&segments);
            for skipped in first..segments.len() {
                let got = self.run_from(true, steps(&segments).skip(skipped));
                judge(&format!("{name} from segment {skipped}"), &got, &want);
            }
        }
    }

    /// A recording in pieces of these sizes says the same as whole.
    pub fn in_pieces(&self, sizes: &[usize], which: usize) {
        let all = self.recordings();
        let (name, segments) = &all[which % all.len()];
        let mut sizes = sizes.iter().copied().cycle();
        let pieces = segments.iter().flat_map(|(from, bytes)| {
            let (mut out, mut rest) = (Vec::new(), bytes.as_slice());
            while !rest.is_empty() {
                let (a, b) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                out.push(Step::Bytes(*from, a, b.is_empty()));
                rest = b;
            }
            out
        });
        let got = self.run_from(false, pieces.collect::<Vec<_>>().into_iter());
        assert_eq!(got, self.whole(segments), "{name}");
    }

    /// A recording of `all` with one byte changed does no harm.
    pub fn with_a_changed_byte(&self, all: &[(String, Segments)], which: usize, at: usize, value: u8, late: bool) {
        let mut segments = all[which % all.len()].1.clone();
        let n = segments.len();
        let bytes = &mut segments[at % n].1;
        let place = at / n % bytes.len();
        bytes[place] = value;
        self.run_from(late, steps(&segments));
    }

    /// The fuzz target holds on first parts of every recording.
    pub fn every_fuzz_prefix(&self, step: usize, fuzz: fn(&[u8])) {
        for (_, segments) in self.recordings() {
            let data = Self::fuzz_input(&segments);
            let step = if data.len() > 4000 { 97 } else { step };
            for n in (0..data.len()).step_by(step) {
                fuzz(&data[..n]);
            }
        }
    }

    /// The fuzz target holds on what the fuzzer starts from, of which there is so much at least.
    pub fn every_fuzz_seed(&self, at_least: usize, fuzz: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(self.name);
        let seeds: Vec<_> = fs::read_dir(corpus).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
        assert!(seeds.len() >= at_least, "the corpus is there");
        seeds.iter().for_each(|data| fuzz(data));
    }
}
