//! Values in the rows of a reply, read as the bytes pass. Only hashes are kept.
//!
//! The format of a column is not known here: what is short is looked at in both (see [`plain`]).

use crate::decode::values::Values;
use crate::model::Fingerprint;
use crate::model::claim::Salt;

use crate::decode::sql::value::plain;

/// Bytes of columns that are looked through per reply.
const BUDGET: usize = 16 << 10;
/// Longest column that is looked at as a whole, and so in both formats: the longest that binary format writes
/// differently.
const SHORT: usize = 16;

/// Most values for which the room is kept from one reply to the next.
const KEPT: usize = 64;

/// Where the reader is in a row: `columns(2)`, then for each `length(4)` and as many bytes, with -1 for NULL.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Bytes of the number of columns still to come.
    Count(u8),
    /// Bytes of a length seen, and their value.
    Length(u8, u32),
    /// Bytes of a short column still to come, and those seen.
    Short(usize, [u8; SHORT], usize),
    /// Bytes of a long column still to come.
    Long(usize),
    /// Not read: the budget is spent, bytes are missing, or nobody wants values.
    Idle,
}

/// The reader of one connection's rows.
#[derive(Debug)]
pub(super) struct Rows {
    salt: Salt,
    wanted: bool,
    left: usize,
    state: State,
    values: Values,
    found: Vec<Fingerprint>,
}

impl Rows {
    /// A reader before the first row.
    pub(super) fn new(salt: Salt) -> Self {
        let values = Values::new(salt);
        Self { salt, wanted: false, left: BUDGET, state: State::Idle, values, found: Vec::new() }
    }

    /// Whether anybody wants values, from the next row on.
    pub(super) fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// Another reply begins.
    pub(super) fn restart(&mut self) {
        self.left = BUDGET;
        self.state = State::Idle;
        self.found.clear();
        self.found.shrink_to(KEPT);
    }

    /// A row begins.
    pub(super) fn begin(&mut self) {
        self.values.forget();
        self.state = if self.wanted && self.left > 0 { State::Count(2) } else { State::Idle };
    }

    /// Bytes of the row are missing: what follows in it is not read.
    pub(super) fn hole(&mut self) {
        self.state = State::Idle;
    }

    /// More of the row's body.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        let Self { salt, left, state, values, found, .. } = self;
        let each = &mut |v| found.push(v);
        while !bytes.is_empty() {
            *state = match *state {
                State::Idle => return,
                State::Count(n) => {
                    bytes = bytes.get(1..).unwrap_or_default();
                    if n > 1 { State::Count(n - 1) } else { State::Length(0, 0) }
                }
                State::Length(n, so_far) => {
                    let Some((&b, rest)) = bytes.split_first() else { return };
                    bytes = rest;
                    let len = so_far << 8 | u32::from(b);
                    match (n, len) {
                        (0..3, _) => State::Length(n + 1, len),
                        (_, 0 | u32::MAX) => State::Length(0, 0),
                        (_, len) if len as usize <= SHORT.min(*left) => {
                            *left -= len as usize;
                            State::Short(len as usize, [0; SHORT], 0)
                        }
                        (_, len) => State::Long(len as usize),
                    }
                }
                State::Short(to_come, mut seen, n) => {
                    let (now, rest) = bytes.split_at_checked(to_come).unwrap_or((bytes, &[]));
                    bytes = rest;
                    for (slot, b) in seen.iter_mut().skip(n).zip(now) {
                        *slot = *b;
                    }
                    let n = n + now.len();
                    if now.len() < to_come {
                        State::Short(to_come - now.len(), seen, n)
                    } else {
                        if let Some(text) = plain(seen.get(..n).unwrap_or_default()) {
                            crate::decode::values::values(*salt, text.as_bytes(), each);
                        }
                        State::Length(0, 0)
                    }
                }
                State::Long(to_come) => {
                    let (now, rest) = bytes.split_at_checked(to_come).unwrap_or((bytes, &[]));
                    bytes = rest;
                    let over = now.len() > *left;
                    values.feed(now.get(..(*left).min(now.len())).unwrap_or_default(), each);
                    *left = left.saturating_sub(now.len());
                    if over || (*left == 0 && now.len() < to_come) {
                        // The value in which the budget ends is not known whole.
                        values.forget();
                        State::Idle
                    } else if now.len() < to_come {
                        State::Long(to_come - now.len())
                    } else {
                        values.end(each);
                        State::Length(0, 0)
                    }
                }
            };
        }
    }

    /// Hands out what was found since the last call.
    pub(super) fn take(&mut self, each: &mut dyn FnMut(Fingerprint)) {
        self.found.drain(..).for_each(each);
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.found.capacity() * size_of::<Fingerprint>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::values::values;

    fn row(columns: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for column in columns {
            match column {
                None => out.extend([0xff; 4]),
                Some(c) => {
                    out.extend(u32::try_from(c.len()).unwrap().to_be_bytes());
                    out.extend(*c);
                }
            }
        }
        out
    }

    fn found(rows: &mut Rows) -> Vec<Fingerprint> {
        let mut out = Vec::new();
        rows.take(&mut |v| out.push(v));
        out
    }

    fn of(text: &str) -> Vec<Fingerprint> {
        let mut out = Vec::new();
        values(Salt(1, 2), text.as_bytes(), &mut |v| out.push(v));
        out
    }

    #[test]
    fn columns_give_their_values_however_they_are_cut() {
        let uuid = 0x7f0c_0a52_9a5e_4a0e_8f0e_3d0d_5f2f_9b11_u128.to_be_bytes();
        let number = 4711_i32.to_be_bytes();
        let body = row(&[
            Some(b"4712"),
            None,
            Some(b""),
            Some(&number),
            Some(&uuid),
            Some(b"a long text about order-77 and more"),
        ]);
        let want = of("4712 4711 7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11 a long text about order-77 and more");
        for cut in 0..=body.len() {
            let mut rows = Rows::new(Salt(1, 2));
            rows.want(true);
            rows.begin();
            rows.feed(&body[..cut]);
            rows.feed(&body[cut..]);
            assert_eq!(found(&mut rows), want, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_is_read_unasked_beyond_the_budget_or_after_a_hole() {
        let mut rows = Rows::new(Salt(1, 2));
        rows.begin();
        rows.feed(&row(&[Some(b"4711")]));
        assert_eq!(found(&mut rows), []);
        rows.want(true);
        let column = vec![b'x'; 200];
        for _ in 0..1000 {
            rows.begin();
            rows.feed(&row(&[Some(&column)]));
        }
        assert_eq!(found(&mut rows).len(), BUDGET / 200);
        rows.restart();
        let words = b"word ".repeat(BUDGET);
        for cut in [1, 2, 3, 1000, BUDGET + 5, BUDGET + 6, BUDGET + 7] {
            rows.restart();
            rows.begin();
            let body = row(&[Some(&words)]);
            rows.feed(&body[..cut]);
            rows.feed(&body[cut..]);
            assert_eq!(found(&mut rows).len(), BUDGET / 5, "the beginning of a long column");
        }
        rows.restart();
        let body = row(&[Some(b"4711"), Some(b"4712")]);
        rows.begin();
        rows.feed(&body[..12]);
        rows.hole();
        rows.feed(&body[13..]);
        assert_eq!(found(&mut rows), of("4711"), "what was whole before the hole");
        rows.begin();
        rows.feed(&row(&[Some(b"4713")]));
        assert_eq!(found(&mut rows), of("4713"), "the next row is read again");
    }
}
