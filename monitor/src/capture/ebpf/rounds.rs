//! Asking after each of many, a few at a time: what would take long at once is spread over the ticks.

/// Most asked after in one turn.
const A_TURN: usize = 2_048;

/// A round over all there are, when one is wanted.
#[derive(Debug)]
pub(super) struct Rounds<T> {
    left: Vec<T>,
    wanted: bool,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { left: Vec::new(), wanted: false }
    }
}

impl<T> Rounds<T> {
    /// From now on each is to be asked after once more.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Whom to ask after now. `all` is asked for when a round begins: not while the one before is under way.
    pub(super) fn turn(&mut self, all: impl FnOnce() -> Vec<T>) -> Vec<T> {
        if self.left.is_empty() && std::mem::take(&mut self.wanted) {
            self.left = all();
        }
        self.left.split_off(self.left.len().saturating_sub(A_TURN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 50,000 connections, and something is lost all the time.
    #[test]
    fn a_round_asks_after_each_once_and_after_few_at_a_time() {
        let mut rounds = Rounds::default();
        assert!(rounds.turn(|| vec![1]).is_empty(), "nobody wants one");
        let (mut asked, mut turns, mut begun) = (Vec::new(), 0, 0);
        while asked.len() < 100_000 {
            for _ in 0..1_000 {
                rounds.want();
            }
            let now = rounds.turn(|| {
                begun += 1;
                (0..50_000u32).collect()
            });
            assert!(!now.is_empty() && now.len() <= A_TURN);
            asked.extend(now);
            turns += 1;
        }
        asked.sort_unstable();
        assert!(asked.chunks(2).zip(0..).all(|(pair, n)| pair == [n, n]));
        assert_eq!((begun, turns), (2, 2 * 50_000u32.div_ceil(A_TURN as u32)));
    }
}
