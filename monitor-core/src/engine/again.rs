//! Looking again at a connection that nobody could read.
//!
//! What one could not tell at first may be told later: the connection was joined in the middle of a long reply, its
//! client began with something that is no request, or said it in pieces. So the beginning of each turn is looked at, and
//! what comes after a quiet moment, and what follows a segment that ended a write. The cost is bounded: of each segment
//! a short prefix is captured, a turn is looked at for 4 KiB at most, a connection that stays unreadable is looked at at
//! fewer and fewer turns (but after every quiet moment), and all of a segment is asked for during a few turns only,
//! after pauses that grow. Where both ends speak TLS nothing more is looked at.

use super::undecided::Undecided;
use crate::decode::infer;
use crate::model::{Nanos, Side, Sides};

/// Bytes of each segment that are asked for: the smallest record with payload that the probes write.
pub(super) const PREFIX: u32 = 128;
/// Most bytes of one turn that are looked at.
const MAX_TURN: usize = infer::MAX_BYTES;
/// Longest turn that is remembered while the other end speaks: it may say what is being answered.
const MAX_ASKED: usize = 1 << 10;
/// Nobody has spoken for so long: what comes next begins something.
const QUIET: Nanos = Nanos::millis(100);
/// Segments shorter than this end a write, whatever the path (RFC 9293 §3.7.1).
const LEAST_MSS: usize = 536;
/// Looks without success after which some turns are passed over; and so many more for each further turn of them.
const FREE: u32 = 64;
/// Most turns that are passed over between two looks.
const MAX_SKIP: u32 = 31;
/// Turns for which all bytes are asked for, once a prefix was too little.
const FULL_TURNS: u8 = 4;
/// How long until that may happen again; doubled each time, up to [`MAX_PAUSE`].
const PAUSE: Nanos = Nanos::millis(100);
const MAX_PAUSE: Nanos = Nanos::secs(60);

/// What is needed to look again.
#[derive(Debug)]
pub(super) struct Again {
    /// This turn, as far as it is looked at, and the one before.
    pub(super) kept: Undecided,
    /// Who spoke last, and when.
    last: Option<(Side, Nanos)>,
    /// Longest segment of each side.
    longest: Sides<usize>,
    /// The latest segment of each side ended a write.
    ended: Sides<bool>,
    /// This turn is being looked at.
    looking: bool,
    /// Looks so far.
    n_looks: u32,
    /// Turns still to pass over.
    skip: u32,
    /// Which sides speak TLS.
    tls: Sides<bool>,
    /// All of each segment is asked for, for so many more turns.
    full_turns: u8,
    pause: Nanos,
    /// When all may be asked for again.
    full_from: Nanos,
}

impl Again {
    /// For a connection of which `first` was not enough.
    pub(super) fn after(first: &Undecided) -> Self {
        let mut longest = Sides::default();
        for chunk in &first.chunks {
            longest[chunk.side] = chunk.bytes.len().max(longest[chunk.side]);
        }
        Self {
            kept: Undecided::default(),
            last: first.chunks.last().map(|c| (c.side, c.at)),
            longest,
            ended: Sides::default(),
            looking: false,
            n_looks: 0,
            skip: 0,
            tls: Sides::default(),
            full_turns: 0,
            pause: PAUSE,
            full_from: Nanos(0),
        }
    }

    /// Whether all of each segment is wanted now.
    pub(super) fn wants_all(&self) -> bool {
        self.full_turns > 0
    }

    /// What `side` says is TLS. `true`: so does the other, and nobody will ever read this.
    pub(super) fn record_tls(&mut self, side: Side) -> bool {
        self.tls[side] = true;
        self.tls.client && self.tls.server
    }

    /// Whether `from` begins something now; notes that it has spoken.
    fn begins(&mut self, from: Side, at: Nanos, len: usize, ends: bool) -> bool {
        let quiet = self.last.is_some_and(|(_, last)| at.since(last) >= QUIET);
        let turn = self.last.is_none_or(|(side, _)| side != from);
        self.last = Some((from, at));
        let longest = len.max(self.longest[from]);
        self.longest[from] = longest;
        let after_end = std::mem::replace(&mut self.ended[from], ends && len < longest.max(LEAST_MSS));
        if turn {
            self.full_turns = self.full_turns.saturating_sub(1);
        }
        if turn || quiet {
            self.kept.forget(from);
            if self.kept.held > MAX_ASKED {
                self.kept = Undecided::default();
            }
        }
        if quiet {
            return true;
        }
        if turn && self.skip > 0 {
            self.skip -= 1;
            self.looking = false;
            return false;
        }
        turn || after_end && self.n_looks < FREE
    }

    /// Bytes have come. Gives how many of them were kept to be looked at; `None`: they are not looked at.
    pub(super) fn bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends: bool) -> Option<usize> {
        if self.begins(from, at, bytes.len(), ends) {
            self.looking = true;
            self.n_looks = self.n_looks.saturating_add(1);
            self.skip = (self.n_looks / FREE).min(MAX_SKIP);
            if self.kept.held >= MAX_TURN {
                self.kept.forget(from);
            }
        } else if !self.looking {
            return None;
        }
        let most = MAX_TURN + MAX_ASKED;
        let taken = self.kept.keep(from, at, bytes, ends, most);
        Some(taken)
    }

    /// The look has told nothing: a turn that is too long is not looked at further.
    pub(super) fn told_nothing(&mut self, from: Side) {
        let said: usize = self.kept.chunks.iter().filter(|c| c.side == from).map(|c| c.bytes.len()).sum();
        if said >= MAX_TURN || self.kept.is_full() {
            self.looking = false;
            self.kept.forget(from);
        }
    }

    /// Bytes of `from` are missing; `cut`: because nobody asked for them.
    pub(super) fn missing(&mut self, from: Side, at: Nanos, cut: bool) {
        let begins = self.last.is_none_or(|(side, last)| side != from || at.since(last) >= QUIET);
        if begins {
            self.begins(from, at, 0, false);
        }
        let looked = begins || self.looking;
        self.kept.forget(from);
        self.looking = false;
        // Whatever comes next begins a segment.
        self.ended[from] = true;
        if cut && looked && self.full_turns == 0 && at >= self.full_from {
            self.full_turns = FULL_TURNS;
            self.full_from = at + self.pause;
            self.pause = Nanos(self.pause.0.saturating_mul(2).min(MAX_PAUSE.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again() -> Again {
        Again::after(&Undecided::default())
    }

    #[test]
    fn turns_ends_of_writes_and_quiet_moments_are_looked_at() {
        let mut a = again();
        let ms = Nanos::millis;
        assert_eq!(a.bytes(Side::Client, ms(1), &[1; 1460], true), Some(1460), "a turn");
        a.told_nothing(Side::Client);
        assert_eq!(a.bytes(Side::Client, ms(2), &[1; 1460], true), Some(1460), "goes on");
        assert_eq!(a.bytes(Side::Client, ms(3), &[1; 1460], true), Some(1460));
        a.told_nothing(Side::Client);
        assert_eq!(a.kept.held, 0, "4 KiB are enough");
        assert_eq!(a.bytes(Side::Client, ms(4), &[1; 100], true), None);
        assert_eq!(a.bytes(Side::Client, ms(5), &[1; 1460], true), Some(1460), "after the end of a write");
        assert_eq!(a.bytes(Side::Server, ms(6), &[2; 10], true), Some(10), "a turn");
        for n in 0..4 {
            a.bytes(Side::Server, ms(7 + n), &[2; 1460], true);
            a.told_nothing(Side::Server);
        }
        assert_eq!(a.bytes(Side::Server, ms(50), &[2; 1460], true), None);
        assert_eq!(a.bytes(Side::Server, ms(150), &[2; 1460], true), Some(1460), "after a quiet moment");
    }

    #[test]
    fn who_stays_unreadable_is_looked_at_ever_less_but_after_every_quiet_moment() {
        let mut a = again();
        let mut n = 0;
        for i in 0..10_000 {
            let side = if i % 2 == 0 { Side::Client } else { Side::Server };
            n += u32::from(a.bytes(side, Nanos(i), &[7; 600], true).is_some());
            a.told_nothing(side);
            assert!(a.kept.held <= MAX_TURN + MAX_ASKED);
        }
        assert!((500..2500).contains(&n), "{n}");
        for i in 1..100 {
            assert!(a.bytes(Side::Client, Nanos::millis(200 * i), &[7; 600], true).is_some());
        }
    }

    #[test]
    fn all_is_asked_for_during_a_few_turns_after_pauses_that_grow() {
        let mut a = again();
        let mut full = 0;
        for i in 0..100_000 {
            let side = if i % 2 == 0 { Side::Client } else { Side::Server };
            full += u32::from(a.wants_all());
            a.bytes(side, Nanos::millis(i), &[7; 128], false);
            a.told_nothing(side);
            if !a.wants_all() {
                a.missing(side, Nanos::millis(i), true);
            }
        }
        assert!((8..80).contains(&full), "{full}");
    }

    #[test]
    fn what_both_sides_encrypt_is_left_alone() {
        let mut a = again();
        assert!(!a.record_tls(Side::Client) && !a.record_tls(Side::Client));
        assert!(a.record_tls(Side::Server));
    }
}
