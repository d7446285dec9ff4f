//! How common is a value? A small sketch with fixed memory: it may take a rare value for a common one, never a common
//! one for rare.

use crate::model::Fingerprint;

/// Counters a row.
const WIDTH: usize = 4096;
/// Texts after which all counts are halved: what was common long ago is forgotten.
const WINDOW: u32 = 8192;
/// Texts needed before anything is called rare.
const ENOUGH: u32 = 16;
/// A rare value is in at most one of so many texts.
const ONE_OF: u32 = 8;

/// Counts in how many texts a value was seen.
#[derive(Debug)]
pub struct Rarity {
    rows: [Box<[u16]>; 2],
    texts: u32,
}

impl Default for Rarity {
    fn default() -> Self {
        let row = || vec![0; WIDTH].into_boxed_slice();
        Self { rows: [row(), row()], texts: 0 }
    }
}

/// A value's counter in each row.
fn processes(value: Fingerprint) -> [usize; 2] {
    [(value.0 & 0xfff) as usize, (value.0 >> 32 & 0xfff) as usize]
}

impl Rarity {
    /// One more text.
    pub fn text(&mut self) {
        self.texts += 1;
        if self.texts >= WINDOW {
            self.texts /= 2;
            for n in self.rows.iter_mut().flat_map(|r| r.iter_mut()) {
                *n /= 2;
            }
        }
    }

    /// The text holds `value`. To be told once a text.
    pub fn seen(&mut self, value: Fingerprint) {
        for (row, at) in self.rows.iter_mut().zip(processes(value)) {
            if let Some(n) = row.get_mut(at) {
                *n = n.saturating_add(1);
            }
        }
    }

    /// Whether `value` is in many of the texts, of which enough were seen to say so.
    pub fn is_common(&self, value: Fingerprint) -> bool {
        self.texts >= ENOUGH && !self.is_rare(value)
    }

    /// Whether `value` is in few of the texts, and enough of them were seen to say so.
    pub fn is_rare(&self, value: Fingerprint) -> bool {
        let n = self.rows.iter().zip(processes(value)).filter_map(|(row, at)| row.get(at)).min().copied().unwrap_or(0);
        self.texts >= ENOUGH && u32::from(n) * ONE_OF <= self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_every_text_is_not_rare() {
        let mut r = Rarity::default();
        let (common, own) = (Fingerprint(7), |n: u64| Fingerprint((n + 100) * 0x1_0001_0001));
        for n in 0..40 {
            assert_eq!(r.is_rare(own(n)), n >= 16, "too little seen before");
            r.text();
            r.seen(common);
            r.seen(own(n));
        }
        assert!(!r.is_rare(common));
        assert!(r.is_rare(own(3)));
        for _ in 0..3 * WINDOW {
            r.text();
        }
        assert!(r.is_rare(common), "no longer common");
    }
}
