//! Where records begin again behind a hole: wherever a header may stand; the tag of what follows it decides.

use super::record::{HEADER, Header, MAX_BODY};
use crate::model::SecretLabel;

/// Most bytes that are looked through for one hole: behind one whole record another one begins.
const MAX_HELD: usize = 4 * MAX_BODY;
/// Least bytes of a protected record's body: a tag, and in TLS 1.3 what it is.
const LEAST_BODY: usize = 16;

/// Bytes since a hole.
#[derive(Debug, Default)]
pub(super) struct Hunt {
    held: Vec<u8>,
    /// No record that was tried begins before here.
    from: usize,
    /// Labels of secrets that were tried here: one bit each.
    asked: u8,
}

fn bit(label: SecretLabel) -> u8 {
    1 << label as u8
}

impl Hunt {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Where the first record that was not tried may begin, if all of it is there.
    pub(super) fn candidate(&mut self) -> Option<(usize, Header)> {
        loop {
            let rest = self.held.get(self.from..)?;
            self.from += memchr::memchr3(21, 22, 23, rest).unwrap_or(rest.len());
            let head = self.held.get(self.from..)?.first_chunk::<HEADER>()?;
            match Header::read(*head).filter(|h| matches!(h.bytes, [_, 3, 3, ..]) && h.len() > LEAST_BODY) {
                // Where it is not yet there, whatever begins inside of it waits, too.
                Some(_) => return self.next(),
                None => self.from += 1,
            }
        }
    }

    /// The same, as it was found last.
    pub(super) fn next(&self) -> Option<(usize, Header)> {
        let header = Header::read(*self.held.get(self.from..)?.first_chunk::<HEADER>()?)?;
        (self.held.len() >= self.from + header.total()).then_some((self.from, header))
    }

    /// No record begins there after all.
    pub(super) fn pass(&mut self) {
        (self.from, self.asked) = (self.from + 1, 0);
        self.candidate();
    }

    pub(super) fn was_asked(&self, label: SecretLabel) -> bool {
        self.asked & bit(label) != 0
    }

    /// No secret with this label opens what begins there.
    pub(super) fn asks(&mut self, label: SecretLabel) {
        self.asked |= bit(label);
    }

    pub(super) fn body(&self, at: usize, header: &Header) -> Option<&[u8]> {
        self.held.get(at + HEADER..at + header.total())
    }

    /// What comes behind the record at `at`.
    pub(super) fn behind(mut self, at: usize, header: &Header) -> Vec<u8> {
        self.held.split_off((at + header.total()).min(self.held.len()))
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Nothing was found in as much as one looks through.
    pub(super) fn is_over(&self) -> bool {
        self.held.len() > MAX_HELD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_where_a_record_may_begin_is_tried_once() {
        let mut record = b"\x17\x03\x03\0\x14".to_vec();
        record.extend([0x17; 20]);
        let mut hunt = Hunt::default();
        hunt.push(b"ab\x17\x03\x03");
        assert_eq!(hunt.candidate(), None, "a header's beginning");
        hunt.push(&record);
        // 17 03 03 17 03: longer than what is there, but longer than any record, too? 5891 bytes: it waits.
        assert_eq!(hunt.candidate(), None);
        hunt.push(&[0; 6_000]);
        let (at, header) = hunt.candidate().unwrap();
        assert_eq!((at, header.len()), (2, 0x1703));
        hunt.pass();
        let (at, header) = hunt.candidate().unwrap();
        assert_eq!((at, header.len()), (5, 20));
        assert_eq!(hunt.body(at, &header), Some(&[0x17; 20][..]));
        assert_eq!(hunt.behind(at, &header).len(), 6_000);
    }

    #[test]
    fn the_hunt_ends() {
        let mut hunt = Hunt::default();
        while !hunt.is_over() {
            hunt.push(&[0; 1024]);
            assert_eq!(hunt.candidate(), None);
        }
        assert!(hunt.len() <= MAX_HELD + 1024);
    }
}
