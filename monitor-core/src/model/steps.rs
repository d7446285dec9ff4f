//! A count of steps: one for each thing that is looked at in a walk over what is followed, waits or is remembered.
//!
//! Tests hold by it that the work for one event does not grow with what else there is: on the count, since time says
//! little on a busy machine. Outside of tests it costs nothing. A loop whose length a peer can choose goes through
//! [`walk`].

/// One thing is looked at.
#[inline]
pub fn step() {
    #[cfg(test)]
    tests::COUNT.with(|n| n.set(n.get() + 1));
}

/// `items`, each of them counted when it is looked at.
#[inline]
pub fn walk<I: IntoIterator>(items: I) -> impl Iterator<Item = I::Item> {
    items.into_iter().inspect(|_| step())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        pub(super) static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    /// Steps that `f` takes.
    pub(crate) fn steps_of(f: impl FnOnce()) -> u64 {
        let before = COUNT.get();
        f();
        COUNT.get() - before
    }

    /// Holds that the steps that `run` takes for `n`, `2 n` and `4 n` events grow no faster than the events.
    pub(crate) fn assert_flat(what: &str, n: u64, run: impl Fn(u64)) {
        let [one, two, four] = [n, 2 * n, 4 * n].map(|n| steps_of(|| run(n)));
        // A walk over all for each would give four times as many steps for twice as many events.
        let flat = two <= one * 5 / 2 + n && four <= two * 5 / 2 + n;
        assert!(flat, "{what}: {one}, {two}, {four} steps for {n}, {} and {} events", 2 * n, 4 * n);
    }

    #[test]
    fn a_walk_over_all_for_each_is_told_from_one_over_few() {
        assert_flat("ten for each", 100, |n| (0..n).for_each(|_| super::walk(0..10).for_each(drop)));
        let all = std::panic::catch_unwind(|| {
            assert_flat("all for each", 100, |n| (0..n).for_each(|i| super::walk(0..i).for_each(drop)));
        });
        assert!(all.is_err());
    }
}
